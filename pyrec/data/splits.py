"""The four usual protocols by which interactions become training, validation and test parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .csr import rows_of
from .interactions import Interactions
from .parts import Split, aligned, lengths_of, paired
from .randomness import check_seed, draws, streams

__all__ = ["leave_last_out", "strong_generalization", "temporal", "weak_generalization"]


def strong_generalization(
    data: Interactions, heldout: float = 0.1, test_prop: float = 0.2, seed: int = 0
) -> Split:
    """Hold out users, and a part of each held-out user's interactions (Liang et al. 2018).

    Held-out interactions with items that no training user has are dropped first; then held-out
    users with fewer than 2 left are.

    Parameters
    ----------
    data : Interactions
    heldout : float or int, default 0.1
        How many users go to validation, and as many again to test: a share below 1 of all users, or
        a number of them. Drawn from the users with at least 2 interactions.
    test_prop : float, default 0.2
        Share of a held-out user's interactions to be found: rounded down, at least 1, never all.
    seed : int, default 0
        At least 0.

    Raises
    ------
    ValueError
        If there are too few users, or a parameter is out of range.
    """
    _check_shares(test_prop)
    seed = check_seed(seed)
    if not (0 < heldout < 0.5 or (heldout >= 1 and heldout % 1 == 0)):
        raise ValueError(
            "heldout must be a share above 0 and below 0.5, or a whole number of users, at least "
            f"1; got {heldout}"
        )
    eligible = np.flatnonzero(lengths_of(data) >= 2)
    n = round(heldout * data.n_users) if heldout < 1 else int(heldout)
    if n < 1 or 2 * n >= data.n_users or 2 * n > len(eligible):
        raise ValueError(
            f"heldout = {heldout} asks for {n:,} users each for validation and test, of "
            f"{data.n_users:,} users, {len(eligible):,} of them with at least 2 interactions; "
            "expected at least 1 user each, and users left to train"
        )
    drawn = np.random.default_rng(seed).permutation(eligible)
    part = np.zeros(data.n_users, np.int8)
    part[drawn[:n]], part[drawn[n : 2 * n]] = 1, 2
    train = _with_items_that_occur(data.select_users(part == 0))
    report: dict[str, int] = {}
    pairs = {}
    for number, name in ((1, "valid"), (2, "test")):
        rows = np.flatnonzero(part == number)
        known = aligned(data.select_users(rows), train, name, report)
        n_te = _share(lengths_of(known), test_prop)
        is_te = _random_places(known, rows, seed) < np.repeat(n_te, lengths_of(known))
        pairs[name] = paired(name, known.select(~is_te), known.select(is_te), train, report)
    params = _plain(heldout=heldout, test_prop=test_prop, seed=seed)
    protocol = "strong_generalization"
    return Split(train, *pairs["valid"], *pairs["test"], protocol, params, report)


def weak_generalization(
    data: Interactions, test_prop: float = 0.2, valid_prop: float = 0.1, seed: int = 0
) -> Split:
    """Hold out random interactions of every user.

    ``test_tr`` is all that is not ``test_te``, validation included.

    Parameters
    ----------
    data : Interactions
    test_prop, valid_prop : float, default 0.2, 0.1
        Shares of a user's interactions, rounded down. At least 1 goes to test where the user has 2
        or more, at least 1 to validation where the user has 3 or more, and at least 1 stays in
        train. 0 asks for no such part.
    seed : int, default 0
        At least 0.

    Raises
    ------
    ValueError
        If a parameter is out of range, the shares leave nothing, or nobody has 2 interactions.
    """
    _check_shares(test_prop, valid_prop)
    seed = check_seed(seed)
    lengths = lengths_of(data)
    n_test = _share(lengths, test_prop)
    n_valid = np.minimum(_share(lengths, valid_prop), np.maximum(lengths - n_test - 1, 0))
    place = _random_places(data, np.arange(data.n_users), seed)
    params = _plain(test_prop=test_prop, valid_prop=valid_prop, seed=seed)
    return _by_place(data, place, n_test, n_valid, "weak_generalization", params, valid_prop > 0)


def leave_last_out(data: Interactions, n: int = 1) -> Split:
    """Hold out each user's last interactions.

    Interactions at the same time are taken in the order of the item numbers. ``test_tr`` is all
    that is not ``test_te``, validation included.

    Parameters
    ----------
    data : Interactions
        With timestamps.
    n : int, default 1
        The last ``n`` go to test, where the user has more than ``n``; the ``n`` before them to
        validation, where the user has more than ``2 n``.

    Raises
    ------
    ValueError
        If there are no timestamps, or ``n`` is below 1, or nobody has more than ``n``.
    """
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n!r}")
    lengths, rows = lengths_of(data), rows_of(data.matrix.indptr)
    order = np.lexsort((_times(data, "leave_last_out"), rows))
    place = lengths[rows] - 1 - _places(data, order)
    n_test = np.where(lengths > n, n, 0)
    n_valid = np.where(lengths > 2 * n, n, 0)
    return _by_place(data, place, n_test, n_valid, "leave_last_out", _plain(n=n))


def temporal(
    data: Interactions,
    test_prop: float = 0.2,
    valid_prop: float = 0.1,
    *,
    at: float | None = None,
    valid_at: float | None = None,
) -> Split:
    """Hold out everything from a point in time on.

    ``test_tr`` is a user's history before ``at``, validation included. Users without a history are
    dropped from the pair and counted.

    Parameters
    ----------
    data : Interactions
        With timestamps.
    test_prop, valid_prop : float, default 0.2, 0.1
        Shares of all interactions, the latest ones (more, where many share the time at the border).
    at, valid_at : float, optional
        The points in time themselves, in the unit of the timestamps: test is ``at <= time``,
        validation ``valid_at <= time < at``.

    Raises
    ------
    ValueError
        If there are no timestamps, or one part would be empty.
    """
    _check_shares(test_prop, valid_prop)
    times = _times(data, "temporal")
    in_order = np.sort(times)
    if at is None:
        at = in_order[-max(1, round(test_prop * len(times))) :][0].item()
    if valid_at is None:
        n_before = int(np.searchsorted(in_order, at))
        first = max(0, n_before - round(valid_prop * len(times)))
        valid_at = in_order[first].item() if first < n_before else at
    if valid_at > at:
        raise ValueError(f"valid_at = {valid_at} must not be after at = {at}")
    label = (times >= valid_at).astype(np.int8) + (times >= at)
    params = _plain(test_prop=test_prop, valid_prop=valid_prop, at=at, valid_at=valid_at)
    return _by_label(data, label, "temporal", params, with_valid=valid_at < at)


def _by_place(
    data: Interactions,
    place: NDArray[np.int64],
    n_test: NDArray[np.int64],
    n_valid: NDArray[np.int64],
    protocol: str,
    params: dict[str, Any],
    with_valid: bool = True,
) -> Split:
    """A user's first ``n_test`` places are test, the next ``n_valid`` validation."""
    lengths = lengths_of(data)
    held = place < np.repeat(n_test + n_valid, lengths)
    label = held.astype(np.int8) + (place < np.repeat(n_test, lengths))
    return _by_label(data, label, protocol, params, with_valid)


def _by_label(
    data: Interactions,
    label: NDArray[np.int8],
    protocol: str,
    params: dict[str, Any],
    with_valid: bool,
) -> Split:
    """Label 0 is train, 1 validation, 2 test."""
    if not (np.any(label == 0) and np.any(label == 2)):
        raise ValueError(f"{protocol} with {params} leaves nothing for train or nothing for test")
    train = _with_items_that_occur(data.select(label == 0))
    report: dict[str, int] = {}
    to_find = data.select(label == 1) if with_valid else data.select_users(slice(0))
    valid = paired("valid", train, to_find, train, report)
    test = paired("test", data.select(label < 2), data.select(label == 2), train, report)
    return Split(train, *valid, *test, protocol, params, report)


def _with_items_that_occur(train: Interactions) -> Interactions:
    occurs = np.bincount(train.matrix.indices, minlength=train.n_items) > 0
    return train.align(train.items[occurs])[0]


def _share(lengths: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """``share`` of each length, rounded down, but between 1 and all but 1."""
    # 0.29 * 100 is a little below 29 in floating point.
    whole = np.floor(share * lengths + 1e-9).astype(np.int64)
    counts: NDArray[np.int64] = np.clip(whole, int(share > 0), np.maximum(lengths - 1, 0))
    return counts


def _places(data: Interactions, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each interaction among its user's, where ``order`` sorts them user by user."""
    place = np.empty(data.n_interactions, np.int64)
    place[order] = _index_in_row(data)
    return place


def _index_in_row(data: Interactions) -> NDArray[np.int64]:
    return np.arange(data.n_interactions) - np.repeat(data.matrix.indptr[:-1], lengths_of(data))


def _random_places(data: Interactions, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Shuffle each user's interactions by draws that depend on seed, row and index alone."""
    lengths = lengths_of(data)
    drawn = draws(np.repeat(streams(seed, rows), lengths), _index_in_row(data))
    # One sort does for all users: the row in the high bits, the draw in those left.
    n_bits = np.uint64(data.n_users.bit_length())
    high = rows_of(data.matrix.indptr).view(np.uint64) << (np.uint64(64) - n_bits)
    return _places(data, np.argsort(high | (drawn >> n_bits), kind="stable"))


def _times(data: Interactions, protocol: str) -> NDArray[Any]:
    if data.timestamps is None:
        notes = [] if data.report is None else data.report.notes
        why = "".join(f" ({note})" for note in notes if note.startswith("timestamp"))
        raise ValueError(
            f"{protocol} needs timestamps, and these interactions have none{why}; "
            "read_interactions(..., timestamp='...') takes them from the column named"
        )
    if not data.n_interactions:
        raise ValueError(f"{protocol} needs interactions, and there are none")
    return data.timestamps


def _check_shares(test_prop: float, valid_prop: float = 0.0) -> None:
    if not 0 < test_prop < 1:
        raise ValueError(f"test_prop must lie above 0 and below 1, got {test_prop}")
    if not 0 <= valid_prop < 1:
        raise ValueError(f"valid_prop must lie at 0 or above and below 1, got {valid_prop}")
    if test_prop + valid_prop >= 1:
        raise ValueError(f"test_prop + valid_prop must lie below 1, got {test_prop} + {valid_prop}")


def _plain(**params: Any) -> dict[str, Any]:
    """NumPy's numbers as Python's, which JSON knows."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
    }
