"""Every job and every way of doing it, a pytest-benchmark group a job.

The ways of a job run in turn, round by round (contest.py), when the first of them comes up; what
pytest-benchmark then times is a clock that goes on by the seconds that were measured.
"""

from __future__ import annotations

import time

import pytest
from contest import Job, Result, play
from jobs import JOBS


class Clock:
    """The real one, until it is given times: then it is read before and after each."""

    def __init__(self) -> None:
        self.times, self.now, self.running = None, 0.0, False

    def replay(self, times: list[float]) -> None:
        self.times, self.now, self.running = iter(times), 0.0, False

    def __call__(self) -> float:
        if self.times is None:
            return time.perf_counter()
        if self.running:
            self.now += next(self.times)
        self.running = not self.running
        return self.now


CLOCK = Clock()


def ways():
    found = []
    for job in JOBS:
        marks = [pytest.mark.benchmark(group=job.name, timer=CLOCK)]
        if job.full:
            marks.append(pytest.mark.full)
        if job.gpu:
            marks.append(pytest.mark.gpu)
        for way in job.ways:
            found.append(pytest.param(job, way, marks=marks, id=f"{job.name}-{way}"))
    return found


@pytest.fixture(scope="module")
def played():
    """What is known of the job that was played last."""
    return {}


@pytest.mark.parametrize(("job", "way"), ways())
def test_job(benchmark, played, pytestconfig, job: Job, way: str):
    if job.name not in played:
        played.clear()
        played[job.name] = None  # where it fails, its other ways must not play it again
        played[job.name] = play(job, pytestconfig.getoption("--seconds"))
    result: Result | None = played[job.name]
    if result is None:
        pytest.fail("the job failed, see its first way")
    if way in result.missing:
        pytest.skip(result.missing[way])
    seconds = result.seconds[way]
    benchmark.extra_info.update(way=way, seconds=seconds, memory_kib=result.memory[way])
    CLOCK.replay(seconds)
    try:
        benchmark.pedantic(lambda: None, rounds=len(seconds))
    finally:
        CLOCK.times = None
