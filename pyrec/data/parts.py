"""`Split`: training, validation and test parts, and how they come to fit together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrec.files import StrPath, atomic_write

from .interactions import Interactions

__all__ = ["Split"]

_PARTS = ("train", "valid_tr", "valid_te", "test_tr", "test_te")
_FILE = "split.json"


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
        Its arguments, as plain numbers.
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
        valid = paired("valid", train if valid_tr is None else valid_tr, valid_te, train, report)
        test = paired("test", train if test_tr is None else test_tr, test_te, train, report)
        for name, (tr, te) in (("valid", valid), ("test", test)):
            if te.n_users:
                overlap = tr.matrix.multiply(te.matrix).nnz
                report[f"{name}: interactions both given and to find"] = int(overlap)
        return cls(train, *valid, *test, protocol="from_parts", params={}, report=report)

    def save(self, folder: StrPath) -> None:
        """Write each part into a folder of its name inside ``folder``, and ``split.json``."""
        folder = Path(folder)
        about = {"protocol": self.protocol, "params": self.params, "report": self.report}
        text = json.dumps(about, indent=2) + "\n"
        # Gone first and written last, so that a folder with this file is complete.
        (folder / _FILE).unlink(missing_ok=True)
        for name in _PARTS:
            getattr(self, name).save(folder / name)
        with atomic_write(folder / _FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")

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


def paired(
    name: str, tr: Interactions, te: Interactions, train: Interactions, report: dict[str, int]
) -> tuple[Interactions, Interactions]:
    """Bring both to the items of train and to the users who have something in both.

    A validation part without users was not asked for, and gives nothing to report.
    """
    if name == "valid" and not te.n_users:
        return train.select_users(slice(0)), train.select_users(slice(0))
    tr = aligned(tr, train, name, report)
    te = aligned(te, train, name, report)
    row_in_tr = dict(zip(tr.users.tolist(), range(tr.n_users), strict=True))
    rows = np.array([row_in_tr.get(user, -1) for user in te.users.tolist()], np.int64)
    given = np.append(lengths_of(tr) > 0, False)[rows]
    wanted = lengths_of(te) > 0
    both = given & wanted
    report[f"{name}: users with nothing given"] = int(np.count_nonzero(wanted & ~given))
    report[f"{name}: users with nothing to find"] = int(np.count_nonzero(given & ~wanted))
    if name == "test" and not both.any():
        reasons = [
            f"{what.removeprefix('test: ')}: {count:,}"
            for what, count in report.items()
            if count and what.startswith("test: ")
        ]
        raise ValueError(
            "no user has something both in test_tr and in test_te, so there is nothing to test"
            + (f" ({', '.join(reasons)})" if reasons else "")
        )
    return tr.select_users(rows[both]), te.select_users(both)


def aligned(
    part: Interactions, train: Interactions, name: str, report: dict[str, int]
) -> Interactions:
    result, n_unknown = part.align(train.items)
    key = f"{name}: held-out interactions with items that train lacks"
    report[key] = report.get(key, 0) + n_unknown
    return result


def lengths_of(data: Interactions) -> NDArray[np.int64]:
    return np.diff(data.matrix.indptr)
