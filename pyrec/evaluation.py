"""How well a model ranks what was held out: over all items, or among random ones.

Nothing here ever holds users x items: lists and score rows come in blocks of `BLOCK_BYTES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec import kernels
from pyrec.data import Interactions, as_csr
from pyrec.metrics import deepest, metric_names

if TYPE_CHECKING:
    import scipy.sparse as sp

    from pyrec.models.base import RecSysModel

__all__ = ["ValidFunc", "evaluate", "one_plus_random", "pairs"]

BLOCK_BYTES = 64 << 20

Values = NDArray[np.float64]


def evaluate(model: RecSysModel, test_loader: Any, metric_list: Iterable[str]) -> dict[str, Values]:
    """Rank all items for each user and measure where the held-out ones come.

    Items of the user's history are not recommended. Memory: what ``model.recommend`` takes, plus
    lists of ``BLOCK_BYTES`` (64 MiB, at least one row), whatever the number of users and items.

    Parameters
    ----------
    model : RecSysModel
        Trained.
    test_loader : pair (tr, te), or iterable of such pairs
        Histories and held-out items, (n_users, n_items) each, row by row: CSR, Interactions, dense
        arrays or tensors. Interactions are aligned to the model by item id; items that it does not
        know are left out. Where both are Interactions, their users must be the same, in the same
        order. A sampler is an iterable of pairs, one a batch.
    metric_list : list of str
        ``name@k`` with a name of ndcg, recall, full_recall, hit, mrr, map, precision; formulas in
        `pyrec.metrics.Metrics`.

    Returns
    -------
    dict of str to (n_users,) float64
        A value a user, in the order of the rows; NaN for a user with nothing held out.

    Raises
    ------
    ValueError
        An unknown metric, a batch without held-out items, shapes that do not fit the model, or
        histories and held-out items of different users.
    """
    names = metric_names(metric_list)
    parts: list[dict[str, Values]] = []
    for tr, te in pairs(model, test_loader):
        k = deepest(names, te.shape[1])
        for rows in _blocks(tr.shape[0], 8 * k):
            best = model.recommend(tr[rows], k=k)
            parts.append(kernels.ranking(best.items, te[rows], names))
    return {name: _concatenate([part[name] for part in parts]) for name in names}


def one_plus_random(
    model: RecSysModel,
    test_loader: Any,
    metric_list: Iterable[str],
    r: int = 1000,
    *,
    seed: int = 0,
) -> dict[str, Values]:
    """Rank each held-out item among ``r`` random items that the user does not know.

    The ``r`` items are drawn without replacement, anew for each held-out item, from those that are
    neither in the user's history nor held out (all of them where there are no more than ``r``).
    Draws depend on the seed and the user's row alone. Equal scores rank the lower item number
    first; a held-out item scored -inf or NaN is never found. Under a condition, behind the items of a
    history, the random items satisfy it, and a held-out item that does not is never found. Memory:
    the model, plus score rows of ``BLOCK_BYTES`` (64 MiB, at least one row).

    Parameters
    ----------
    model : RecSysModel
        Trained.
    test_loader : pair (tr, te), or iterable of such pairs
        As for `evaluate`.
    metric_list : list of str
        As for `evaluate`; there is one relevant item in each list.
    r : int
        Random items for each held-out item.
    seed : int
        Of the draws.

    Returns
    -------
    dict of str to (n_held_out,) float64
        A value for each pair of user and held-out item, by row and then by item number.

    Raises
    ------
    ValueError
        As `evaluate`, and ``r`` below 1.
    """
    names = metric_names(metric_list)
    if r < 1:
        raise ValueError(f"r must be at least 1, got {r}")
    parts: list[dict[str, Values]] = []
    first_row = 0
    for tr, te in pairs(model, test_loader):
        k = deepest(names, te.shape[1])
        for rows in _blocks(tr.shape[0], 4 * te.shape[1]):
            ranks = _ranks(model, tr[rows], te[rows], r, seed, first_row + rows.start)
            parts.extend(
                _metrics_of_ranks(ranks[some], k, names) for some in _blocks(len(ranks), 4 * k)
            )
        first_row += tr.shape[0]
    return {name: _concatenate([part[name] for part in parts]) for name in names}


class ValidFunc:
    """A validation function with its options fixed, called with one metric.

    Parameters
    ----------
    func : callable
        Its positional parameters are ``model, test_loader, metric_list`` in that order, and any
        others have defaults: `evaluate`, `one_plus_random`, or one of your own. It returns a dict
        from metric to an array.
    **kwargs
        Options of ``func``.

    Raises
    ------
    TypeError
        ``func`` has other positional parameters, or lacks one of the options.

    Examples
    --------
    >>> ValidFunc(one_plus_random, r=5)
    ValidFunc(fun='one_plus_random', params={'r': 5})
    """

    def __init__(self, func: Callable[..., dict[str, Values]], **kwargs: Any) -> None:
        _check_signature(func, kwargs)
        self.func = func
        self.params = kwargs

    def __call__(self, model: RecSysModel, test_loader: Any, metric: str) -> Values:
        """Return the values of one metric, ``name@k``."""
        return self.func(model, test_loader, [metric], **self.params)[metric]

    def __repr__(self) -> str:
        return f"ValidFunc(fun={_name(self.func)!r}, params={self.params or None})"


def pairs(model: RecSysModel, test_loader: Any) -> Iterator[tuple[Any, sp.csr_array]]:
    """Yield the checked pairs (tr, te) of what `evaluate` takes, in the model's items.

    Of each pair, tr is what the model makes of histories: CSR, or `Histories` where order counts.

    Raises
    ------
    ValueError
        As `evaluate`.
    """
    # A tuple of two matrices is one pair; a tuple of two tuples holds two batches.
    is_pair = (
        isinstance(test_loader, tuple)
        and len(test_loader) == 2
        and not isinstance(test_loader[0], (tuple, list))
    )
    for batch in [test_loader] if is_pair else test_loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                "test_loader must be a pair (tr, te) or give such pairs, got "
                f"{type(batch).__name__}"
            )
        if batch[1] is None:
            raise ValueError("test_loader has no held-out items: te is None")
        tr = model.histories(batch[0], "tr")
        te = batch[1]
        te = as_csr(
            model.aligned(te)[0] if isinstance(te, Interactions) else te, model.n_items, "te"
        )
        if tr.shape[0] != te.shape[0]:
            raise ValueError(
                f"te must have a row a row of tr, {tr.shape[0]:,}, got {te.shape[0]:,}"
            )
        if all(isinstance(x, Interactions) for x in batch):
            _check_users(batch[0].users, batch[1].users)
        yield tr, te


def _check_users(tr: NDArray[Any], te: NDArray[Any]) -> None:
    different = np.flatnonzero(tr != te)
    if len(different):
        row = different[0]
        of_tr, of_te = tr[row : row + 1].tolist(), te[row : row + 1].tolist()  # plain values
        raise ValueError(
            f"te must have the users of tr, in the same order: {len(different):,} of {len(te):,} "
            f"rows differ, row {row} is the user {of_tr[0]!r} in tr and {of_te[0]!r} in te"
        )


def _blocks(n: int, row_bytes: int) -> Iterator[slice]:
    height = max(1, BLOCK_BYTES // max(1, row_bytes))
    return (slice(begin, begin + height) for begin in range(0, n, height))


def _ranks(
    model: RecSysModel, tr: sp.csr_array, te: sp.csr_array, r: int, seed: int, first_row: int
) -> NDArray[np.int64]:
    """Rank from 0 of each held-out item of the block among its random items; -1: never found."""
    scores, tr, n_items = model.scores(tr), as_csr(tr, name="tr"), te.shape[1]
    ranks = np.empty(te.nnz, dtype=np.int64)
    satisfying: dict[bytes, NDArray[np.bool_]] = {}
    for u in range(tr.shape[0]):
        begin, end = te.indptr[u], te.indptr[u + 1]
        if begin == end:
            continue
        held_out = te.indices[begin:end]
        row = tr.indices[tr.indptr[u] : tr.indptr[u + 1]]
        conditions = row[row >= n_items] - n_items
        asked = conditions.tobytes()
        if asked not in satisfying:
            satisfying[asked] = _satisfying(model, conditions, n_items)
        unknown = satisfying[asked].copy()
        unknown[row[row < n_items]] = False
        unknown[held_out] = False
        candidates = np.flatnonzero(unknown)
        rng = np.random.default_rng((seed, first_row + u))
        for place, item in enumerate(held_out, start=begin):
            drawn = candidates
            if r < len(candidates):
                drawn = rng.choice(candidates, r, replace=False, shuffle=False)
            ranks[place] = _rank(scores[u], item, drawn) if satisfying[asked][item] else -1
    return ranks


def _satisfying(
    model: RecSysModel, conditions: NDArray[np.integer], n_items: int
) -> NDArray[np.bool_]:
    """Which items satisfy any of a row's conditions; all of them where it has none."""
    if not len(conditions):
        return np.ones(n_items, bool)
    mask = np.zeros(n_items, bool)
    mask[model.items_with(conditions)] = True
    return mask


def _rank(scores: NDArray[np.float32], item: int, others: NDArray[np.intp]) -> int:
    own, rivals = scores[item], scores[others]
    if not own > -np.inf:
        return -1
    return int(np.count_nonzero(rivals > own) + np.count_nonzero(others[rivals == own] < item))


def _metrics_of_ranks(ranks: NDArray[np.int64], k: int, names: list[str]) -> dict[str, Values]:
    """Metrics of lists of which only the one relevant item, called 0, is written down."""
    lists = np.full((len(ranks), k), -1, dtype=np.int32)
    found = np.flatnonzero((ranks >= 0) & (ranks < k))
    lists[found, ranks[found]] = 0
    import scipy.sparse as sp

    relevant = sp.csr_array(np.ones((len(ranks), 1), dtype=np.float32))
    return kernels.ranking(lists, relevant, names)


def _check_signature(func: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = inspect.signature(func).parameters
    positional = [
        p
        for p in parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in options
    ]
    names = [p.name for p in positional]
    if names[:3] != ["model", "test_loader", "metric_list"] or any(
        p.default is p.empty for p in positional[3:]
    ):
        raise TypeError(
            f"the positional parameters of {_name(func)} must be model, test_loader, metric_list, "
            f"got {', '.join(names) or 'none'}"
        )
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [] if takes_any else sorted(options.keys() - parameters.keys())
    if unknown:
        raise TypeError(f"{_name(func)} has no parameter {', '.join(unknown)}")


def _name(func: Callable[..., Any]) -> str:
    return str(getattr(func, "__name__", type(func).__name__))


def _concatenate(parts: list[Values]) -> Values:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float64)
