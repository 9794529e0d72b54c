"""pyrec: top-N recommendation from implicit feedback, fast on one ordinary machine.

>>> from pyrec import read_interactions, recommend
>>> from pyrec.models import EASE

Names load when they are first used, so that ``import pyrec`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyrec._core import __version__

if TYPE_CHECKING:
    from pyrec.data import Histories, Interactions, Split, datasets, read_interactions
    from pyrec.evaluation import evaluate
    from pyrec.models.storage import load_model
    from pyrec.scoring import recommend

_HOMES = {
    "Histories": "pyrec.data",
    "Interactions": "pyrec.data",
    "Split": "pyrec.data",
    "datasets": "pyrec.data",
    "evaluate": "pyrec.evaluation",
    "load_model": "pyrec.models.storage",
    "read_interactions": "pyrec.data",
    "recommend": "pyrec.scoring",
}

__all__ = [
    "Histories",
    "Interactions",
    "Split",
    "__version__",
    "datasets",
    "evaluate",
    "load_model",
    "read_interactions",
    "recommend",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pyrec' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
