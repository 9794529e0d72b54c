"""Other libraries as ways of a job, each in an environment and a process of its own.

Their requirements exclude each other and pyrec's. ``make peers`` makes the environments; a way whose
environment is not there is `Missing`. What runs on the other side is in ``<name>_jobs.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contest import THREADS, Missing

from peers.worker import load, save

HERE = Path(__file__).parent
ENVIRONMENTS = Path(os.environ.get("PYREC_PEERS", HERE.parents[1] / ".venv-peers"))
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@dataclass(frozen=True)
class Peer:
    """The maker of a way that runs in another library's environment."""

    peer: str
    job: str
    options: dict[str, Any]

    def __call__(self, *inputs: Any) -> Remote:
        python = ENVIRONMENTS / self.peer / "bin" / "python"
        if not python.exists():
            raise Missing(f"{self.peer}: make peers")
        return Remote(python, self, inputs)


def peer(name: str, job: str, **options: Any) -> Peer:
    """The maker of a way: the job of that name in ``<name>_jobs.py``, with its options."""
    return Peer(name, job, options)


class Remote:
    """A run in another process, which is stopped while it is not asked for anything.

    Stopped, not idle: the threads of OpenMP and of BLAS would spin for a while after a run, and take
    processors from the way that is measured next. To tell them not to spin would slow down the peer.
    """

    def __init__(self, python: Path, maker: Peer, inputs: tuple) -> None:
        self._name = maker.peer
        self._folder = tempfile.TemporaryDirectory(prefix="pyrec-peer-")
        self._place = Path(self._folder.name)
        save(self._place / "inputs", (inputs, maker.options))
        command = [python, HERE / f"{maker.peer}_jobs.py", maker.job, self._place / "inputs"]
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(THREADS))
        environment.pop("PYTHONPATH", None)  # it is meant for this process's interpreter
        with (self._place / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                text=True,
            )
        self._expect()
        shutil.rmtree(self._place / "inputs")

    def timed(self) -> tuple[float, None]:
        """Seconds by the peer's own clock; the answer stays there (`first` brings one)."""
        return self._ask()["seconds"], None

    def first(self) -> tuple[float, Any, int]:
        """Seconds, the answer, and how far the peer's memory rose above where it stood (KiB)."""
        path = self._place / "answer"
        reply = self._ask(answer=str(path))
        answer = load(path)
        shutil.rmtree(path)  # weights may take gigabytes
        return reply["seconds"], answer, reply["memory"]

    def close(self) -> None:
        """End the process, in whatever state it is, and remove its files."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _ask(self, **request: str) -> dict:
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # it is dead: `_expect` says why
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._expect()

    def _expect(self) -> dict:
        reply = self._process.stdout.readline()
        if not reply:
            self._process.wait()
            message = (self._place / "stderr").read_text(errors="replace").strip()
            code = self._process.returncode
            self.close()
            raise RuntimeError(f"{self._name} ended with status {code}: {message[-2000:]}")
        self._process.send_signal(signal.SIGSTOP)
        return json.loads(reply)
