"""Recommendations for many users: Parquet in, Parquet out, in bounded memory."""

from pyrec.scoring.fragments import Fragment, FragmentReport, score_fragment
from pyrec.scoring.run import ScoreReport, find_users, recommend, score
from pyrec.scoring.scorer import Scorer

__all__ = [
    "Fragment",
    "FragmentReport",
    "ScoreReport",
    "Scorer",
    "find_users",
    "recommend",
    "score",
    "score_fragment",
]
