"""Mult-VAE with a million items: the memory of the whole process, and a step's time.

200,000 users, 3 million interactions, layers of 200 and 64 between the items; each way in a process of
its own, which tells its peak.

    python bench/memory.py
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

USERS, ITEMS, INTERACTIONS, ROWS, STEPS = 200_000, 1_000_000, 3_000_000, 500, 3
HIDDEN, LATENT = 200, 64


def interactions() -> sp.csr_array:
    """Popularity falls as 1 / rank; every user has one item or more."""
    rng = np.random.default_rng(0)
    users = np.concatenate([np.arange(USERS), rng.integers(0, USERS, INTERACTIONS - USERS)])
    items = np.exp(rng.random(INTERACTIONS) * np.log(ITEMS)).astype(np.int64)
    x = sp.csr_array((np.ones(INTERACTIONS, np.float32), (users, items)), shape=(USERS, ITEMS))
    x.sum_duplicates()
    x.data[:] = 1
    return x


def pyrec(x: sp.csr_array) -> list[float]:
    from pyrec.callbacks import Callback
    from pyrec.models import MultiVAE
    from pyrec.nets import MultiVAE_net

    class Clock(Callback):
        """Ends the training after some steps, and keeps their times."""

        def on_epoch_begin(self, epoch, logs):
            self.seconds, self.last = [], time.perf_counter()

        def on_batch_end(self, batch, logs):
            now = time.perf_counter()
            self.seconds.append(now - self.last)
            self.last = now
            if batch + 1 == STEPS:
                raise KeyboardInterrupt

    model = MultiVAE(MultiVAE_net([LATENT, HIDDEN, ITEMS]), beta=0.2)
    clock = Clock()
    model.train(x, num_epochs=1, batch_size=ROWS, verbose=0, callbacks=[clock])
    return clock.seconds


def torch_careful(x: sp.csr_array) -> list[float]:
    import torch
    from plain_multvae import Careful, trainer

    torch.manual_seed(0)
    step = trainer(Careful(ITEMS, HIDDEN, LATENT))
    seconds = []
    for b in range(STEPS):
        start = time.perf_counter()
        step(x[b * ROWS : (b + 1) * ROWS])
        seconds.append(time.perf_counter() - start)
    return seconds


WAYS = {f.__name__: f for f in (pyrec, torch_careful)}


def measure(way: str) -> dict:
    """A way in a process of its own."""
    command = [sys.executable, __file__, way]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if result.returncode != 0:
        raise RuntimeError(f"{way} ended with status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def peak_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps({"seconds": WAYS[sys.argv[1]](interactions()), "peak_mib": peak_mib()}))
        return
    for way in WAYS:
        report = measure(way)
        step = min(report["seconds"][1:])
        print(f"{way:14s} {report['peak_mib']:7,} MiB  {step:6.2f} s a step", flush=True)


if __name__ == "__main__":
    main()
