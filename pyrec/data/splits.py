"""Training, validation and test parts: the four usual protocols, and parts made elsewhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrec.files import StrPath, atomic_write

from .interactions import Interactions

__all__ = ["Split", "leave_last_out", "strong_generalization", "temporal", "weak_generalization"]

_PARTS = ("train", "valid_tr", "valid_te", "test_tr", "test_te")
_FILE = "split.json"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class Split:
    """Parts of a data set that share one item vocabulary, that of ``train``.

    Attributes
    ----------
    train : Interactions
        What a model learns from.
    valid_tr, valid_te, test_tr, test_te : Interactions
        A model is given ``tr`` and has to find ``te``. The rows of a pair are the same users, each
        with something in both. A pair that was not asked for has no rows.
    protocol : str
        Name of the function that made the split.
    params : dict
        Its arguments.
    report : dict
        What was dropped from the held-out parts, and why.
    """

    train: Interactions
    valid_tr: Interactions
    valid_te: Interactions
    test_tr: Interactions
    test_te: Interactions
    protocol: str
    params: dict[str, Any]
    report: dict[str, int]

    @classmethod
    def from_parts(
        cls,
        train: Interactions,
        test_te: Interactions,
        test_tr: Interactions | None = None,
        valid_te: Interactions | None = None,
        valid_tr: Interactions | None = None,
    ) -> Split:
        """Take train and test data as they are.

        Parameters
        ----------
        train : Interactions
            Its items are the vocabulary; other items are dropped from the other parts and counted.
        test_te, valid_te : Interactions
            What is to be found. Without ``valid_te`` there is no validation.
        test_tr, valid_tr : Interactions, optional
            What is given, paired with ``te`` by user id; by default the same users' ``train`` rows.
        """
        report: dict[str, int] = {}
        if valid_te is None:
            valid_te = train.select_users(slice(0))
        valid = _pair("valid", train if valid_tr is None else valid_tr, valid_te, train, report)
        test = _pair("test", train if test_tr is None else test_tr, test_te, train, report)
        for name, (tr, te) in (("valid", valid), ("test", test)):
            overlap = tr.matrix.multiply(te.matrix).nnz
            report[f"{name}: interactions both given and to find"] = int(overlap)
        return cls(train, *valid, *test, protocol="from_parts", params={}, report=report)

    def save(self, folder: StrPath) -> None:
        """Write each part into a folder of its name inside ``folder``, and ``split.json``."""
        folder = Path(folder)
        for name in _PARTS:
            getattr(self, name).save(folder / name)
        about = {"protocol": self.protocol, "params": self.params, "report": self.report}
        # Last, so that a folder with this file is complete.
        with atomic_write(folder / _FILE) as temporary:
            temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: StrPath) -> Split:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If ``folder`` holds no split.
        ValueError
            If a file is corrupt.
        """
        path = Path(folder) / _FILE
        if not path.exists():
            raise FileNotFoundError(f"{folder} holds no split: there is no {_FILE} in it")
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            protocol, params, report = (about[name] for name in ("protocol", "params", "report"))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is corrupt: {error!r}") from error
        parts = {name: Interactions.load(path.parent / name) for name in _PARTS}
        return cls(**parts, protocol=protocol, params=params, report=report)


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

    Raises
    ------
    ValueError
        If there are too few users, or a parameter is out of range.
    """
    _check_shares(test_prop=test_prop)
    eligible = np.flatnonzero(_lengths(data) >= 2)
    n = round(heldout * data.n_users) if heldout < 1 else int(heldout)
    if n < 1 or (heldout >= 1 and n != heldout) or 2 * n >= data.n_users or 2 * n > len(eligible):
        raise ValueError(
            f"heldout = {heldout} asks for {n} users each for validation and test, of "
            f"{data.n_users:,} users, {len(eligible):,} of them with at least 2 interactions; "
            "expected a share below 0.5 or a number, at least 1 user each, and users left to train"
        )
    drawn = np.random.default_rng(seed).permutation(eligible)
    part = np.zeros(data.n_users, np.int8)
    part[drawn[:n]], part[drawn[n : 2 * n]] = 1, 2
    train = _with_items_that_occur(data.select_users(part == 0))
    report: dict[str, int] = {}
    pairs = {}
    for number, name in ((1, "valid"), (2, "test")):
        rows = np.flatnonzero(part == number)
        known = _align(data.select_users(rows), train, name, report)
        n_te = _share(_lengths(known), test_prop)
        is_te = _random_places(known, rows, seed) < np.repeat(n_te, _lengths(known))
        pairs[name] = _pair(name, known.select(~is_te), known.select(is_te), train, report)
    params = {"heldout": heldout, "test_prop": test_prop, "seed": seed}
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

    Raises
    ------
    ValueError
        If the shares are negative or leave nothing, or nobody has 2 interactions.
    """
    _check_shares(test_prop=test_prop, valid_prop=valid_prop)
    lengths = _lengths(data)
    n_test = _share(lengths, test_prop)
    n_valid = np.minimum(_share(lengths, valid_prop), np.maximum(lengths - n_test - 1, 0))
    place = _random_places(data, np.arange(data.n_users), seed)
    params = {"test_prop": test_prop, "valid_prop": valid_prop, "seed": seed}
    return _by_place(data, place, n_test, n_valid, "weak_generalization", params)


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
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    lengths = _lengths(data)
    rows = np.repeat(np.arange(data.n_users), lengths)
    order = np.lexsort((_times(data, "leave_last_out"), rows))
    place = lengths[rows] - 1 - _places(data, order)
    n_test = np.where(lengths > n, n, 0)
    n_valid = np.where(lengths > 2 * n, n, 0)
    return _by_place(data, place, n_test, n_valid, "leave_last_out", {"n": n})


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
    _check_shares(test_prop=test_prop, valid_prop=valid_prop)
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
    params = {"test_prop": test_prop, "valid_prop": valid_prop, "at": at, "valid_at": valid_at}
    return _by_label(data, label, "temporal", params)


def _by_place(
    data: Interactions,
    place: NDArray[np.int64],
    n_test: NDArray[np.int64],
    n_valid: NDArray[np.int64],
    protocol: str,
    params: dict[str, Any],
) -> Split:
    """A user's first ``n_test`` places are test, the next ``n_valid`` validation."""
    lengths = _lengths(data)
    held = place < np.repeat(n_test + n_valid, lengths)
    label = held.astype(np.int8) + (place < np.repeat(n_test, lengths))
    return _by_label(data, label, protocol, params)


def _by_label(
    data: Interactions, label: NDArray[np.int8], protocol: str, params: dict[str, Any]
) -> Split:
    """Label 0 is train, 1 validation, 2 test."""
    if not (np.any(label == 0) and np.any(label == 2)):
        raise ValueError(f"{protocol} with {params} leaves nothing for train or nothing for test")
    train = _with_items_that_occur(data.select(label == 0))
    report: dict[str, int] = {}
    valid = _pair("valid", train, data.select(label == 1), train, report)
    test = _pair("test", data.select(label < 2), data.select(label == 2), train, report)
    return Split(train, *valid, *test, protocol, params, report)


def _pair(
    name: str, tr: Interactions, te: Interactions, train: Interactions, report: dict[str, int]
) -> tuple[Interactions, Interactions]:
    """Bring both to the items of train and to the users who have something in both."""
    tr = _align(tr, train, name, report)
    te = _align(te, train, name, report)
    row_in_tr = dict(zip(tr.users.tolist(), range(tr.n_users), strict=True))
    rows = np.array([row_in_tr.get(user, -1) for user in te.users.tolist()], np.int64)
    given = np.append(_lengths(tr) > 0, False)[rows]
    wanted = _lengths(te) > 0
    both = given & wanted
    report[f"{name}: users with nothing given"] = int(np.count_nonzero(wanted & ~given))
    report[f"{name}: users with nothing to find"] = int(np.count_nonzero(given & ~wanted))
    if name == "test" and not both.any():
        raise ValueError(
            "no user has something both in test_tr and in test_te: "
            + ", ".join(f"{count:,} {what}" for what, count in report.items() if count)
        )
    return tr.select_users(rows[both]), te.select_users(both)


def _align(
    part: Interactions, train: Interactions, name: str, report: dict[str, int]
) -> Interactions:
    aligned, n_unknown = part.align(train.items)
    key = f"{name}: interactions with items that train lacks"
    report[key] = report.get(key, 0) + n_unknown
    return aligned


def _with_items_that_occur(train: Interactions) -> Interactions:
    occurs = np.bincount(train.matrix.indices, minlength=train.n_items) > 0
    return train.align(train.items[occurs])[0]


def _lengths(data: Interactions) -> NDArray[np.int64]:
    return np.diff(data.matrix.indptr)


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
    return np.arange(data.n_interactions) - np.repeat(data.matrix.indptr[:-1], _lengths(data))


def _random_places(data: Interactions, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Shuffle each user's interactions by draws that depend on seed, row and index alone."""
    lengths = _lengths(data)
    streams = _mix(rows.astype(np.uint64) * _GOLDEN + np.uint64(seed % 2**64))
    draws = _mix(np.repeat(streams, lengths) + _index_in_row(data).astype(np.uint64) * _GOLDEN)
    # One sort does for all users: the row in the high bits, the draw in those left.
    n_bits = np.uint64(data.n_users.bit_length())
    high = np.repeat(np.arange(data.n_users, dtype=np.uint64), lengths) << (np.uint64(64) - n_bits)
    return _places(data, np.argsort(high | (draws >> n_bits), kind="stable"))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014): every input bit reaches every output bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _times(data: Interactions, protocol: str) -> NDArray[Any]:
    if data.timestamps is None:
        raise ValueError(f"{protocol} needs timestamps, and these interactions have none")
    if not data.n_interactions:
        raise ValueError(f"{protocol} needs interactions, and there are none")
    return data.timestamps


def _check_shares(test_prop: float, valid_prop: float = 0.0) -> None:
    if not (test_prop > 0 and valid_prop >= 0 and test_prop + valid_prop < 1):
        raise ValueError(
            "test_prop must lie above 0, valid_prop at 0 or above, and their sum below 1; got "
            f"test_prop = {test_prop}, valid_prop = {valid_prop}"
        )
