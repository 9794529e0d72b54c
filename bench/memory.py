"""The memory of whole processes: Mult-VAE with a million items, a step's time too, and EASE on [20M].

Mult-VAE: 200,000 users, 3 million interactions, layers of 200 and 64 between the items. Each way runs in
a process of its own, which tells its peak, the data included.

    python bench/memory.py
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import scipy.sparse as sp
from data import simulated

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


def ease() -> list[float]:
    from pyrec.models import EASE

    x = simulated("20M")
    begin = time.perf_counter()
    EASE(500.0).train(x)
    return [time.perf_counter() - begin]


def multvae() -> list[float]:
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
    model.train(interactions(), num_epochs=1, batch_size=ROWS, verbose=0, callbacks=[clock])
    return clock.seconds


def multvae_in_careful_torch() -> list[float]:
    import torch
    from plain_multvae import Careful, trainer

    torch.manual_seed(0)
    x = interactions()
    step = trainer(Careful(ITEMS, HIDDEN, LATENT))
    seconds = []
    for b in range(STEPS):
        start = time.perf_counter()
        step(x[b * ROWS : (b + 1) * ROWS])
        seconds.append(time.perf_counter() - start)
    return seconds


WAYS = {f.__name__: f for f in (ease, multvae, multvae_in_careful_torch)}


def measure(way: str) -> dict:
    """A way in a process of its own."""
    command = [sys.executable, __file__, way]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if result.returncode != 0:
        raise RuntimeError(f"{way} ended with status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    if len(sys.argv) > 1:
        from pyrec.machine import peak_memory

        print(json.dumps({"seconds": WAYS[sys.argv[1]](), "peak": peak_memory()}))
        return
    for way in WAYS:
        report = measure(way)
        what = "a step" if report["seconds"][1:] else "in all"
        seconds = min(report["seconds"][1:] or report["seconds"])
        print(f"{way:24s} {report['peak'] / 1e9:5.2f} GB  {seconds:6.2f} s {what}", flush=True)


if __name__ == "__main__":
    main()
