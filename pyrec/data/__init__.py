"""From interactions files to matrices, histories and splits."""

from . import datasets
from .csr import as_csr
from .interactions import Histories, Interactions
from .reading import ReadReport, read_interactions
from .splits import Split, leave_last_out, strong_generalization, temporal, weak_generalization

__all__ = [
    "Histories",
    "Interactions",
    "ReadReport",
    "Split",
    "as_csr",
    "datasets",
    "leave_last_out",
    "read_interactions",
    "strong_generalization",
    "temporal",
    "weak_generalization",
]
