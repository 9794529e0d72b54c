"""What a run is: its model, settings and users. A folder with another run's manifest is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyrec.scoring.places import Place
from pyrec.scoring.scorer import Scorer

if TYPE_CHECKING:
    from pyrec.scoring.fragments import Users

__all__ = ["MANIFEST", "claim_folder", "manifest_of"]

# Readers of a folder of Parquet pass over names that begin with an underscore.
MANIFEST = "_manifest.json"
# Stands for everything that decides the bytes of a file and is not in the manifest itself.
_VERSION = 1


def manifest_of(scorer: Scorer, model: str, users: Sequence[Users]) -> dict[str, Any]:
    """Return what the files of a run depend on, as JSON values that do not vary between runs."""
    return {
        "format": "pyrec-recommendations",
        "version": _VERSION,
        "model": {"class": type(scorer.model).__name__, "digest": model},
        "settings": scorer.settings(),
        "parts": [part.describe() for part in users],
    }


def claim_folder(folder: Place, manifest: dict[str, Any]) -> str:
    """Make the folder of a run, or find it made by the same run before, and return the run's name.

    Parameters
    ----------
    folder : Place
    manifest : dict
        Of the run. It is written before any other file.

    Returns
    -------
    str
        The manifest's digest.

    Raises
    ------
    FileExistsError
        The folder holds another run, or Parquet files of another kind; nothing is touched.
    NotADirectoryError, FileNotFoundError, OSError
        The folder cannot be made or written to.
    """
    text = (json.dumps(manifest, indent=1) + "\n").encode()
    present = folder / MANIFEST
    if present.size() is not None:
        _check_same(folder, present.read(), text)
    else:
        others = folder.names("*.parquet")
        if others:
            raise FileExistsError(
                f"{folder} already holds {others[0]}: give a new or an empty folder"
            )
        folder.make_folder()
        present.write(text)
    return hashlib.sha256(text).hexdigest()


def _check_same(folder: Place, found: bytes, wanted: bytes) -> None:
    if found == wanted:
        return
    try:
        there = json.loads(found)
        differences = list(_differences(there, json.loads(wanted)))
    except (ValueError, KeyError, TypeError, AttributeError):
        differences = [f"its {MANIFEST} is not one of pyrec's"]
    raise FileExistsError(
        f"{folder} holds another run: {'; '.join(differences) or 'its manifest differs'}. "
        "Give a new folder, or remove that one"
    )


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    found = []
    for name in ("format", "version"):
        if there[name] != here[name]:
            found.append(f"{name} is {there[name]} there, {here[name]} here")
    if there["model"] != here["model"]:
        classes = [text["model"]["class"] for text in (there, here)]
        also = "" if classes[0] == classes[1] else f", {classes[0]} there and {classes[1]} here"
        found.append(f"the model is another one{also}")
    before, now = there["settings"], here["settings"]
    for name in {**now, **before}:
        if before.get(name) != now.get(name):
            found.append(f"{name} is {before.get(name)!r} there, {now.get(name)!r} here")
    if len(there["parts"]) != len(here["parts"]):
        found.append(
            f"the users come in {len(there['parts'])} parts there, {len(here['parts'])} here"
        )
    elif there["parts"] != here["parts"]:
        pairs = zip(there["parts"], here["parts"], strict=True)
        first = next((a, b) for a, b in pairs if a != b)
        found.append(f"the users differ: {json.dumps(first[0])} there, {json.dumps(first[1])} here")
    return found
