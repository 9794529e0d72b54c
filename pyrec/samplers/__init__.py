"""Training data in batches, in an order that seed and epoch decide."""

from pyrec.samplers.rows import DataSampler, Sampler

__all__ = ["DataSampler", "Sampler"]
