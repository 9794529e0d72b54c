"""Digests of arrays and models: by them a run knows its own model again."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec.serialization import encode_ids, release_pages

if TYPE_CHECKING:
    from pyrec.data import Interactions
    from pyrec.models.base import RecSysModel

__all__ = ["digest_arrays", "interactions_digest", "model_digest"]

_CHUNK = 32 << 20


def model_digest(model: RecSysModel, *, mapped: bool = False) -> str:
    """Return the SHA-256 of all that a model file holds and scores depend on.

    The pages of a model that is `mapped` from its file go again as they have been read.

    Raises
    ------
    NotImplementedError
        The model's class has no `state`: what it computes cannot be told from another's.
    """
    parameters, tensors = model.state()
    made = {name: value for name, value in parameters.items() if name != "training"}
    arrays = {**tensors, **encode_ids("item_ids", model.item_ids)}
    if model.item_counts is not None:
        arrays["item_counts"] = np.asarray(model.item_counts, np.int64)
    about = [type(model).__name__, model.n_items, made]
    return digest_arrays(arrays, json.dumps(about, default=_plain, sort_keys=True), mapped)


def digest_arrays(arrays: dict[str, NDArray[Any]], about: str = "", mapped: bool = False) -> str:
    """Return a SHA-256 of named arrays and a text."""
    digest = hashlib.sha256(about.encode())
    # hashlib frees the interpreter, and a large model is hashed as fast as it is read.
    with ThreadPoolExecutor() as pool:
        for name, array in sorted(arrays.items()):
            array = np.ascontiguousarray(array)  # a single number gets a dimension, as in files
            digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
            data = array.reshape(-1).view(np.uint8)
            chunks = (data[i : i + _CHUNK] for i in range(0, len(data), _CHUNK))
            for part in pool.map(lambda chunk: hashlib.sha256(chunk).digest(), chunks):
                digest.update(part)
                if mapped:
                    release_pages(array)
    return digest.hexdigest()


def interactions_digest(data: Interactions) -> str:
    """Return the SHA-256 of interactions and their ids; times do not count."""
    matrix = data.matrix
    arrays: dict[str, NDArray[Any]] = {
        "indptr": matrix.indptr.astype(np.int64, copy=False),
        "indices": matrix.indices,
        "values": matrix.data,
        **encode_ids("users", data.users),
        **encode_ids("items", data.items),
    }
    return digest_arrays(arrays)


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
