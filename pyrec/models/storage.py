"""Model files: one safetensors file with what rebuilds the model, its item ids and counts inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec.files import StrPath
from pyrec.serialization import decode_ids, encode_ids, read_tensors, write_tensors

if TYPE_CHECKING:
    from pyrec.models.base import RecSysModel

__all__ = ["load_into", "load_model", "save_model"]

_FORMAT = "pyrec-model"
_COUNTS = "item_counts"
_IDS = "item_ids"


def save_model(model: RecSysModel, path: StrPath) -> None:
    """Write a trained model, its item ids and its item counts to one file.

    Parameters
    ----------
    model : RecSysModel
        Trained: ``model.state()`` gives its parameters and arrays.
    path : path
        Usually named ``*.safetensors``; its folder must exist.

    Raises
    ------
    ValueError
        The model is not trained, or its ``train`` did not set ``item_counts``.
    FileNotFoundError, IsADirectoryError, PermissionError
        The file cannot be written; nothing is left behind.
    """
    class_name = type(model).__name__
    if model.n_items is None:
        raise ValueError(f"{class_name} cannot be saved before it is trained")
    if model.item_counts is None:
        raise ValueError(f"{class_name} cannot be saved: its train has not set item_counts")
    parameters, tensors = model.state()
    stored = {**tensors, **encode_ids(_IDS, model.item_ids)}
    stored[_COUNTS] = np.asarray(model.item_counts, dtype=np.int64)
    header = {
        "format": _FORMAT,
        "class": class_name,
        "parameters": parameters,
        "n_items": int(model.n_items),
    }
    write_tensors(path, stored, header)


def load_model(path: StrPath, *, memory_map: bool = False) -> RecSysModel:
    """Rebuild a model from the file that ``save_model`` wrote.

    Parameters
    ----------
    path : path
        The model's file.
    memory_map : bool, default False
        Map the file's arrays instead of reading them, so that processes share one copy of them
        (see `pyrec.serialization.read_tensors`).

    Returns
    -------
    RecSysModel
        Of the class named in the file, with its item ids and counts.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is truncated, foreign, of a newer version, or does not fit its class; the message
        says what is wrong.
    """
    import pyrec.models

    tensors, header = read_tensors(path, _FORMAT, memory_map=memory_map)
    name = header.get("class")
    if name not in pyrec.models.__all__:
        raise ValueError(
            f"{path} holds a model of the class {name!r}, which pyrec.models does not have; "
            f"its classes: {', '.join(sorted(pyrec.models.__all__))}"
        )
    model_class = getattr(pyrec.models, name)
    # `restore` does what the constructor does, with what only the file knows.
    model: RecSysModel = model_class.__new__(model_class)
    _restore(model, path, tensors, header)
    return model


def load_into(
    model: RecSysModel,
    path: StrPath,
    *,
    check: Callable[[dict[str, Any], NDArray[Any] | None, NDArray[Any]], None] | None = None,
) -> dict[str, Any]:
    """Restore ``model``, trained or not, from a file of its own class.

    Parameters
    ----------
    model : RecSysModel
        Left as it was when an error is raised, if its ``restore`` keeps to that.
    path : path
        The model's file.
    check : callable, optional
        Gets the file's parameters, item ids and item counts before anything is changed, and raises a
        ValueError when they are not the ones that are wanted.

    Returns
    -------
    dict
        The parameters stored in the file.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_model`, and when the file holds a model of another class.
    """
    tensors, header = read_tensors(path, _FORMAT)
    if header.get("class") != type(model).__name__:
        raise ValueError(f"{path} holds a {header.get('class')}, not a {type(model).__name__}")
    if check is not None:
        try:
            check(header["parameters"], decode_ids(_IDS, tensors), tensors[_COUNTS])
        except KeyError as error:
            raise ValueError(f"{path} does not hold a valid model: {error} is missing") from error
        except ValueError as error:
            raise ValueError(f"{path} is of another training: {error}") from error
    _restore(model, path, tensors, header)
    return dict(header["parameters"])


def _restore(
    model: RecSysModel, path: StrPath, tensors: dict[str, NDArray[Any]], header: dict[str, Any]
) -> None:
    name = type(model).__name__
    try:
        n_items, parameters = header["n_items"], header["parameters"]
        ids = decode_ids(_IDS, tensors)
        if ids is not None and len(ids) != n_items:
            raise ValueError(f"item_ids must have {n_items} entries, got {len(ids)}")
        counts = tensors.pop(_COUNTS)
        if counts.shape != (n_items,) or counts.dtype != np.int64:
            raise ValueError(
                f"item_counts must be int64 of shape ({n_items},), "
                f"got {counts.dtype} of shape {counts.shape}"
            )
        for stored_id in (_IDS, f"{_IDS}.bytes", f"{_IDS}.offsets"):
            tensors.pop(stored_id, None)
        model.restore(parameters, tensors, n_items)
    except KeyError as error:
        raise ValueError(f"{path} does not hold a valid {name}: {error} is missing") from error
    except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError) as error:
        raise ValueError(f"{path} does not hold a valid {name}: {error}") from error
    model.n_items, model.item_ids, model.item_counts = n_items, ids, counts
