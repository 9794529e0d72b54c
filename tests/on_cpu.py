"""The kernels for GPUs, compiled for the CPU from the same files: `csrc/cuda/on_cpu.h`."""

import hashlib
import importlib.util
import os
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1] / "csrc"
NAME = "pyrec_on_cpu"


def compiled(folder):
    """Compile the kernels in a folder, unless that was done, and import them."""
    import pybind11

    sources = sorted(
        [*ROOT.glob("cuda/*.cu"), ROOT / "cuda/on_cpu.cpp", *ROOT.glob("python/cuda_*.cpp")]
    )
    headers = sorted([*ROOT.glob("c*/*.h"), *ROOT.glob("python/*.h")])
    digest = hashlib.sha256()
    for path in sources + headers:
        digest.update(path.read_bytes())
    library = Path(folder) / f"{NAME}-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        _compile(sources, library, pybind11.get_include())
    spec = importlib.util.spec_from_file_location(NAME, library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(sources, library, pybind):
    flags = [
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-fvisibility=hidden",
        "-DPYREC_ON_CPU",
        "-Wall",
        "-Wextra",
    ]
    flags += ["-Werror", f"-DPYREC_CUDA_MODULE={NAME}", f"-I{ROOT}", f"-I{pybind}"]
    flags.append(f"-I{sysconfig.get_paths()['include']}")
    compiler = os.environ.get("CXX", "c++")

    def compile_one(source):
        part = library.with_name(f"{library.stem}-{source.stem}.o")
        subprocess.run([compiler, *flags, "-x", "c++", "-c", source, "-o", part], check=True)
        return part

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        parts = list(threads.map(compile_one, sources))
    whole = library.with_suffix(".new")
    subprocess.run([compiler, "-shared", *parts, "-o", whole], check=True)
    for part in parts:
        part.unlink()
    whole.replace(library)
