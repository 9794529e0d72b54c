"""The kernels for GPUs, compiled for the CPU from the same files: `csrc/cuda/on_cpu.h`."""

import hashlib
import importlib.util
import os
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1] / "csrc"
NAME = "pyrec_on_cpu"


def compiled(folder):
    """Compile the kernels in a folder, unless that was done, and import them."""
    import pybind11

    sources = sorted(
        [*ROOT.glob("cuda/*.cu"), ROOT / "cuda/on_cpu.cpp", *ROOT.glob("python/cuda_*.cpp")]
    )
    headers = sorted([*ROOT.glob("c*/*.h"), *ROOT.glob("python/*.h")])
    command = _command(pybind11.get_include())
    digest = hashlib.sha256(" ".join(command).encode())
    for path in sources + headers:
        digest.update(path.read_bytes())
    library = Path(folder) / f"{NAME}-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        _compile(command, sources, library)
    spec = importlib.util.spec_from_file_location(NAME, library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _command(pybind):
    python = sysconfig.get_paths()["include"]
    return [
        *(os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden"),
        *("-Wall", "-Wextra", "-Werror", "-DPYREC_ON_CPU", f"-DPYREC_CUDA_MODULE={NAME}"),
        *(f"-I{ROOT}", f"-I{pybind}", f"-I{python}"),
    ]


def _compile(command, sources, library):
    # In a folder of its own: other processes may compile the same.
    with TemporaryDirectory(dir=library.parent) as folder:

        def compile_one(source):
            part = Path(folder, f"{source.stem}.o")
            subprocess.run([*command, "-x", "c++", "-c", source, "-o", part], check=True)
            return part

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            parts = list(threads.map(compile_one, sources))
        whole = Path(folder, library.name)
        subprocess.run([command[0], "-shared", *parts, "-o", whole], check=True)
        whole.replace(library)
