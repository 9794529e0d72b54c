"""Make the environments of the peers: ``.venv-peers/<name>``, or ``$PYREC_PEERS/<name>``.

    python bench/peers/install.py [NAME ...]

One that fails is reported, and the others are made all the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = Path(os.environ.get("PYREC_PEERS", HERE.parents[1] / ".venv-peers"))
NAMES = [path.stem.partition("-")[2] for path in sorted(HERE.glob("requirements-*.txt"))]


def main(names: list[str]) -> int:
    failed = [name for name in names or NAMES if not install(name)]
    print(f"missing: {', '.join(failed)}" if failed else "all peers are there")
    return bool(failed)


def install(name: str) -> bool:
    print(f"{name} ...", flush=True)
    python = ENVIRONMENTS / name / "bin" / "python"
    requirements = HERE / f"requirements-{name}.txt"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", requirements]
    commands = (
        [pip] if python.exists() else [[sys.executable, "-m", "venv", python.parents[1]], pip]
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print("\n".join((done.stdout + done.stderr).splitlines()[-15:]))
            # Half an environment would pass for a whole one.
            shutil.rmtree(python.parents[1], ignore_errors=True)
            return False
    return True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
