"""Training data in batches, in an order that seed and epoch decide."""

from pyrec.samplers.adversarial import CFGAN_TrainingSampler
from pyrec.samplers.conditioned import (
    BalancedConditionedDataSampler,
    ConditionedDataSampler,
    EmptyConditionedDataSampler,
)
from pyrec.samplers.rows import DataSampler, Sampler
from pyrec.samplers.sequences import SVAE_Sampler

__all__ = [
    "BalancedConditionedDataSampler",
    "CFGAN_TrainingSampler",
    "ConditionedDataSampler",
    "DataSampler",
    "EmptyConditionedDataSampler",
    "SVAE_Sampler",
    "Sampler",
]
