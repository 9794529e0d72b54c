"""The recommenders."""

from pyrec.models.base import RecSysModel
from pyrec.models.linear import EASE
from pyrec.models.popularity import Popularity

__all__ = ["EASE", "Popularity", "RecSysModel"]
