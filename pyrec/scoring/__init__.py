"""Recommendations for many users: Parquet in, Parquet out, in bounded memory."""

from pyrec.scoring.fragments import Fragment, fragments_of
from pyrec.scoring.in_memory import find_users, recommend
from pyrec.scoring.output import FragmentReport
from pyrec.scoring.pipeline import score_fragment
from pyrec.scoring.run import ScoreReport, score
from pyrec.scoring.scorer import Scorer

__all__ = [
    "Fragment",
    "FragmentReport",
    "ScoreReport",
    "Scorer",
    "find_users",
    "fragments_of",
    "recommend",
    "score",
    "score_fragment",
]
