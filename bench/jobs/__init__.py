"""All jobs that are measured, in the order of the tables."""

from __future__ import annotations

from contest import Job

from jobs import (
    ease,
    evaluation,
    examples,
    gpu,
    gpu_batches,
    gpu_ease,
    gpu_kernels,
    layers,
    likelihood,
    sampling,
    slim,
    svae,
    topk,
    training,
)

JOBS: list[Job] = [
    job
    for module in (
        ease,
        slim,
        training,
        likelihood,
        topk,
        sampling,
        examples,
        svae,
        evaluation,
        layers,
        gpu,
        gpu_batches,
        gpu_ease,
        gpu_kernels,
    )
    for job in module.JOBS
]
