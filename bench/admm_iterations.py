"""How many iterations ADMM-SLIM takes to come within 1e-4 of the optimum, for three choices of rho.

python bench/admm_iterations.py [--shape "8,000 items"]
"""

from __future__ import annotations

import argparse

import numpy as np
from jobs.slim import LAMBDA1, LAMBDA2, SOME, gram, inverse, objective, optimum

from pyrec.kernels.slim import PackedInverse, admm, pilot_rho


def iterations_to_optimum(g, rho, relaxation):
    """Iterations until the objective of some columns is within 1e-4 of its minimum."""
    columns = np.random.default_rng(0).choice(len(g), SOME, replace=False)
    best = optimum(g, columns)
    packed = PackedInverse(inverse(g, rho), overwrite=True)
    low, high = 0, 1
    options = {"lambda1": LAMBDA1, "rho": rho, "tol": 0, "relaxation": relaxation}

    def is_enough(n):
        (solved,) = admm(packed, num_iter=n, columns=columns, **options)
        return objective(g, columns, solved.weights) <= best * (1 + 1e-4)

    while not is_enough(high) and high < 1024:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8,000 items")
    g = gram(parser.parse_args().shape)
    chosen = pilot_rho(g, lambda1=LAMBDA1, lambda2=LAMBDA2)
    settings = {
        "chosen by pyrec": (chosen, 1.6),
        "RecBole's": (4e3, 1.0),
        "as published": (1e5, 1.0),
    }
    for name, (rho, relaxation) in settings.items():
        n = iterations_to_optimum(g, rho, relaxation)
        print(f"rho {rho:8.0f} ({name}), relaxation {relaxation}: {n} iterations", flush=True)


if __name__ == "__main__":
    main()
