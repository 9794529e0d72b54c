"""Every kernel once more in the plainest NumPy or torch: the definition that the tests hold the kernels to."""

from __future__ import annotations

import numpy as np
import torch


def gram(x):
    return x.astype(np.float64).T @ x.astype(np.float64)


def ease(x, lam):
    """Steck 2019, equation 8, by a general inverse in float64."""
    p = np.linalg.inv(gram(x) + lam * np.eye(x.shape[1]))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    return b


def slim_objective(g, b, lambda1, lambda2):
    """1/2 |X - XB|^2 + lambda2/2 |B|^2 + lambda1 |B|_1, from G = X'X; per column."""
    i = np.eye(len(g))
    fit = ((b - i) * (g @ (b - i))).sum(0)
    return 0.5 * fit + 0.5 * lambda2 * (b * b).sum(0) + lambda1 * np.abs(b).sum(0)


def slim(g, lambda1, lambda2, nonnegative):
    """Coordinate descent on every column, one coordinate after the other, until nothing moves."""
    n, rng = len(g), np.random.default_rng(0)
    b = np.zeros((n, n))
    for j in range(n):
        rest = g[:, j].astype(np.float64)  # g_j - G b
        for _ in range(10_000):
            largest = 0.0
            for i in rng.permutation(n):
                if i == j or g[i, i] + lambda2 == 0:
                    continue
                z = rest[i] + g[i, i] * b[i, j]
                size = max((z if nonnegative else abs(z)) - lambda1, 0.0)
                value = np.copysign(size, z) / (g[i, i] + lambda2)
                rest -= (value - b[i, j]) * g[:, i]
                largest = max(largest, abs(value - b[i, j]))
                b[i, j] = value
            if largest < 1e-14:
                break
    return b


def admm_slim(g, lambda1, lambda2, rho, nonnegative, iterations, relaxation=1.0):
    """Steck et al. 2020, algorithm 1, on whole matrices; C and the dual variable as published."""
    n = len(g)
    p = np.linalg.inv(g + (lambda2 + rho) * np.eye(n))
    c, dual = np.zeros((n, n)), np.zeros((n, n))
    for _ in range(iterations):
        free = p @ (g + rho * c - dual)
        b = free - p * (np.diag(free) / np.diag(p))
        mixed = relaxation * b + (1 - relaxation) * c
        z = mixed + dual / rho
        size = np.maximum((z if nonnegative else np.abs(z)) - lambda1 / rho, 0)
        c = np.copysign(size, z)
        dual = dual + rho * (mixed - c)
    return c


def topk(scores, k, seen=None, allow=None, deny=None):
    """Boolean masks; a full stable sort of every row."""
    masked = scores.astype(np.float64)
    masked[np.isnan(masked)] = -np.inf
    for out in (seen, deny, None if allow is None else ~allow):
        if out is not None:
            masked[np.broadcast_to(out, masked.shape)] = -np.inf
    items = np.full((len(scores), k), -1)
    best = np.full((len(scores), k), -np.inf)
    order = np.argsort(-masked, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(masked, order, 1)
    items[:, : order.shape[1]] = np.where(values > -np.inf, order, -1)
    best[:, : order.shape[1]] = values
    return items, best


def ranking(items, relevant, name, k):
    """One list and one set of relevant items, straight from the formulas."""
    if not relevant:
        return np.nan
    hits = [1.0 if j in relevant else 0.0 for j in items[:k]]
    reachable = min(k, len(relevant))
    if name == "ndcg":
        ideal = sum(1 / np.log2(i + 2) for i in range(reachable))
        return sum(h / np.log2(i + 2) for i, h in enumerate(hits)) / ideal
    if name == "recall":
        return sum(hits) / reachable
    if name == "full_recall":
        return sum(hits) / len(relevant)
    if name == "hit":
        return float(any(hits))
    if name == "mrr":
        return 1 / (hits.index(1.0) + 1) if any(hits) else 0.0
    if name == "map":
        return sum(h * sum(hits[: i + 1]) / (i + 1) for i, h in enumerate(hits)) / reachable
    assert name == "precision"
    return sum(hits) / k


def multinomial_nll(logits, target, mask=None):
    """Liang et al. 2018, equation 2, a row each; masked items are as if they did not exist."""
    if mask is not None:
        logits, target = logits.masked_fill(mask, -np.inf), target.masked_fill(mask, 0)
    # Items without targets take part in the normalisation alone; -inf times 0 is no number.
    normaliser = torch.logsumexp(logits, 1, keepdim=True)
    return torch.where(target != 0, target * (normaliser - logits), 0).sum(1)


def conditioned_examples(x, items, te=None):
    """All (row, condition) of dense matrices: -1 first by row, then by row and condition."""
    te = x if te is None else te
    rows = range(len(x))
    alone = [(r, -1) for r in rows if x[r].any() and te[r].any()]
    known = [(items[x[r] != 0] != 0).any(0) & (items[te[r] != 0] != 0).any(0) for r in rows]
    return alone + [(r, c) for r in rows for c in np.flatnonzero(known[r])]


def conditioned_input(x, row, condition, n_conditions):
    return np.append(x[row], np.arange(n_conditions) == condition)


def conditioned_target(te, items, row, condition):
    return te[row] if condition < 0 else te[row] * (items[:, condition] != 0)


def windows(sequence, k=None):
    """What follows each item but the last: sets of the next k items, or of all the rest."""
    last = len(sequence) if k is None else k
    return [sorted(set(sequence[t + 1 : t + 1 + last])) for t in range(len(sequence) - 1)]


def assemble(groups, n):
    """The (n, n) weights of groups of solved columns; NaN in those that no group has."""
    b = np.full((n, n), np.nan)
    for s in groups:
        assert s.weights.shape == (len(s.columns), n)
        assert s.weights.has_canonical_format
        b[:, s.columns] = s.weights.toarray().T
    return b
