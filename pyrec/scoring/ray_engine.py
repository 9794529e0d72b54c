"""The parts of a run over Ray actors, to which only names of files are sent."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pyrec.files import StrPath
from pyrec.machine import find_device, peak_memory, usable_cpus
from pyrec.scoring.digests import model_digest
from pyrec.scoring.output import FragmentReport
from pyrec.scoring.pipeline import Part, score_parts
from pyrec.scoring.places import Place
from pyrec.scoring.scorer import Scorer, open_model

if TYPE_CHECKING:
    from pyrec.models.base import RecSysModel

__all__ = ["Task", "model_file", "score_with_ray"]

# A part that has taken so many actors with it is not given to another.
_MOST_DEATHS = 3
# More threads in a process would wait for its one reader and its one writer.
_MOST_CPUS = 8
# To find processors, and to read the model once.
_START_SECONDS = 180.0
# An actor does not know how many users it will be given.
_MANY = 1 << 30
# Slots of a Ray started here that no actor takes: what else asks for one would wait for ever.
_SPARE = 1


class Task(NamedTuple):
    """What every actor of a run is told."""

    model: str
    digest: str
    options: dict[str, Any]
    run: str
    memory: int

    @property
    def device(self) -> str | None:
        """The device on which the actors recommend; None: the CPU."""
        device: str | None = self.options.get("device")
        return None if device is None or device.startswith("cpu") else device


class _Worker:
    """An actor: a model, opened on its machine, and the parts that it is given."""

    def __init__(self, task: Task, n_cpus: int) -> None:
        os.environ["PYREC_NUM_THREADS"] = str(n_cpus)
        self.task = task
        self.scorer: Scorer | None = None

    def open(self) -> None:
        # Not in the constructor, whose errors come wrapped as the death of the actor.
        if self.task.device is not None:
            find_device(self.task.device)
        model = open_model(self.task.model)
        if model_digest(model, mapped=True) != self.task.digest:
            raise ValueError(f"{self.task.model} is not the model that the run began with")
        self.scorer = Scorer(model, **self.task.options)
        self.scorer.pack(_MANY, mapped=True, shared=self.task.digest)

    def score(self, part: Part) -> tuple[FragmentReport, int]:
        assert self.scorer is not None
        run, memory = self.task.run, self.task.memory
        report = score_parts(self.scorer, [part], run, memory, lambda n: None)[0]
        return report, peak_memory()


def score_with_ray(
    task: Task,
    parts: Sequence[Part],
    progress: Callable[[int], object],
    *,
    address: str | None,
    workers: int | None,
) -> tuple[list[FragmentReport], int]:
    """Score parts of a run with Ray actors.

    Parameters
    ----------
    task : Task
    parts : sequence of Part
    progress : callable
        Called with the number of users of each part that is done.
    address : str or None
        Of a cluster; None uses the Ray that this process is connected to, or starts one.
    workers : int or None
        How many actors.

    Returns
    -------
    reports : list of FragmentReport
        In the order of the parts.
    peak : int
        Bytes that the largest actor has held.

    Raises
    ------
    ImportError
        Ray is not installed.
    ValueError
        The actors are to have a GPU each, and no machine of the cluster has one.
    TimeoutError
        No actor starts in three minutes.
    ChildProcessError
        A part's actors die again and again.
    """
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError as error:
        raise ImportError("engine='ray' needs Ray: pip install 'pyrec[ray]'") from error
    found: dict[int, tuple[FragmentReport, int]] = {}
    deaths: Counter[int | None] = Counter()
    unscored = deque(parts)
    with _connected(ray, address) as spare:
        gpus = 0 if task.device is None else 1
        n_actors, n_cpus = _shares(ray, workers, len(parts), spare, gpus)
        actor_class: Any = ray.remote(_Worker)
        actor_class = actor_class.options(num_cpus=n_cpus, **({"num_gpus": 1} if gpus else {}))
        busy: dict[Any, tuple[Any, Part | None]] = {}

        def start() -> None:
            actor = actor_class.remote(task, n_cpus)
            busy[actor.open.remote()] = actor, None

        for _ in range(n_actors):
            start()
        try:
            while len(found) < len(parts):
                done, _ = ray.wait(list(busy), timeout=_START_SECONDS)
                if not done and not any(part for _, part in busy.values()):
                    raise TimeoutError(
                        f"no Ray actor with {n_cpus} CPUs has started and opened the model in "
                        f"{_START_SECONDS:.0f} s; "
                        f"free in the cluster: {ray.available_resources().get('CPU', 0):g} CPUs"
                    )
                if not done:
                    continue
                actor, part = busy.pop(done[0])
                try:
                    result = ray.get(done[0])
                except RayTaskError as error:
                    raise error.cause from None
                except RayError as error:  # the actor or its machine has died
                    ray.kill(actor)
                    deaths[part and part.number] += 1
                    if deaths[part and part.number] >= _MOST_DEATHS:
                        what = "opened the model" if part is None else f"made {part.place}"
                        raise ChildProcessError(
                            f"{_MOST_DEATHS} Ray actors have died while they {what}: {error}"
                        ) from error
                    if part is not None:
                        unscored.appendleft(part)
                    start()
                    continue
                if part is None:
                    del deaths[None]
                else:
                    found[part.number] = result
                    progress(result[0].users)
                if unscored:
                    following = unscored.popleft()
                    busy[actor.score.remote(following)] = actor, following
        finally:
            for actor, _ in busy.values():
                ray.kill(actor)
    reports = [found[part.number] for part in parts]
    return [report for report, _ in reports], max(peak for _, peak in reports)


@contextmanager
def model_file(
    model: RecSysModel, path: StrPath | None, folder: Place, shard: str | None
) -> Iterator[StrPath]:
    """Yield the path of the model's file; a model in memory is saved in the run's folder meanwhile."""
    if path is not None:
        yield os.path.abspath(path)
        return
    if not folder.is_local:
        raise ValueError("with engine='ray' and an object store, pass the path of the model's file")
    name = f".model{'-' + shard.replace('/', '-of-') if shard else ''}.safetensors"
    place = folder.path.absolute() / name
    model.save_model(place)
    try:
        yield place
    finally:
        place.unlink(missing_ok=True)


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[int]:
    """Connect to Ray for a while; yield how many slots of a machine are to be left free."""
    if ray.is_initialized():
        yield 0
        return
    quiet = {"log_to_driver": False, "logging_level": "WARNING"}
    if address is None:
        # No data goes through Ray's store.
        ray.init(
            address="local",
            num_cpus=usable_cpus() + _SPARE,
            object_store_memory=80 << 20,
            include_dashboard=False,
            **quiet,
        )
    else:
        ray.init(address=address, **quiet)
    try:
        yield _SPARE if address is None else 0
    finally:
        ray.shutdown()


def _shares(
    ray: Any, workers: int | None, n_parts: int, spare: int, gpus: int = 0
) -> tuple[int, int]:
    """Return how many actors there are, and the processors of each; `spare` slots stay free.

    Each actor has so many GPUs, 0 or 1.
    """
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    able = [own for own in there if own.get("CPU", 0) > spare]
    cpus = [int(own["CPU"]) - spare for own in able]
    if not cpus:
        raise OSError("the Ray cluster has no machine with processors")
    if gpus:
        return _gpu_shares(cpus, [int(own.get("GPU", 0)) for own in able], workers, n_parts)
    if workers is None:
        each = min(_MOST_CPUS, *cpus)
        workers = sum(n // each for n in cpus)
    else:
        each = max(1, min(sum(cpus) // workers, *cpus))
    return min(workers, n_parts), each


def _gpu_shares(
    cpus: list[int], gpus: list[int], workers: int | None, n_parts: int
) -> tuple[int, int]:
    """The same of actors with a GPU each, on machines with so many processors and GPUs."""
    able = [pair for pair in zip(cpus, gpus, strict=True) if pair[1]]
    if not able:
        raise ValueError("each actor needs a GPU for the device, and the Ray cluster has none")
    most = sum(map(min, able))
    each = min(_MOST_CPUS, *(max(1, n_cpus // n_gpus) for n_cpus, n_gpus in able))
    return min(most if workers is None else workers, most, n_parts), each
