"""From interactions files to matrices, histories and splits."""

from . import datasets
from .condition_files import read_conditions
from .conditions import ItemConditions
from .csr import as_csr
from .histories import Histories
from .interactions import Interactions
from .parts import Split
from .reading import read_interactions
from .report import ReadReport
from .splits import leave_last_out, strong_generalization, temporal, weak_generalization

__all__ = [
    "Histories",
    "Interactions",
    "ItemConditions",
    "ReadReport",
    "Split",
    "as_csr",
    "datasets",
    "leave_last_out",
    "read_conditions",
    "read_interactions",
    "strong_generalization",
    "temporal",
    "weak_generalization",
]
