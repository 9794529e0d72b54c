"""Scoring all users of a Parquet data set: in files, on one machine or several, resumable."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from pyrec.arguments import whole
from pyrec.data import Interactions
from pyrec.files import StrPath
from pyrec.machine import find_device, parse_bytes, peak_memory
from pyrec.scoring.budget import Budget
from pyrec.scoring.digests import interactions_digest, model_digest
from pyrec.scoring.fragments import Users, fragments_of
from pyrec.scoring.in_memory import MemoryFragment
from pyrec.scoring.manifest import MANIFEST, claim_folder, manifest_of
from pyrec.scoring.output import FragmentReport, read_report
from pyrec.scoring.pipeline import Part, score_parts
from pyrec.scoring.places import Place
from pyrec.scoring.scorer import Scorer, open_model, packed_file

if TYPE_CHECKING:
    import torch

    from pyrec.models.base import RecSysModel

__all__ = ["ENGINES", "ScoreReport", "score"]

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class ScoreReport:
    """What a run of `score` did.

    Attributes
    ----------
    users : int
        Users in `files`.
    unknown_items : int
        Items in their histories that the model does not know; they were ignored.
    users_without_history : int
        Users of whose items the model knows none; they got the popular items.
    files : tuple of str
        The finished files of this call's share.
    written, skipped : int
        How many of them this call wrote, and how many were finished before.
    missing : tuple of str
        Files of the whole run that other shards have not finished yet.
    seconds : float
        Wall time of this call.
    users_per_second : float
        Users written over `seconds`.
    peak_memory : int
        Bytes: the most that this process, or one of the Ray actors, has held since it began.
    """

    users: int
    unknown_items: int
    users_without_history: int
    files: tuple[str, ...]
    written: int
    skipped: int
    missing: tuple[str, ...]
    seconds: float
    users_per_second: float
    peak_memory: int

    def __str__(self) -> str:
        text = (
            f"{self.users:,} users in {self.seconds:.1f} s ({self.users_per_second:,.0f} users/s), "
            f"peak memory {self.peak_memory / 2**30:.2f} GiB; "
            f"{self.unknown_items:,} unknown items ignored; "
            f"{self.users_without_history:,} users with nothing known got the popular items"
        )
        if self.skipped:
            text += f"; {self.written:,} files written, {self.skipped:,} finished before"
        if self.missing:
            text += f"; {len(self.missing):,} files of other shards are missing"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "files": list(self.files), "missing": list(self.missing)}


def score(
    model: RecSysModel | StrPath,
    users: StrPath | Interactions,
    out: StrPath,
    *,
    k: int = 100,
    remove_seen: bool = True,
    allow: ArrayLike | None = None,
    deny: ArrayLike | None = None,
    allow_column: str | None = None,
    deny_column: str | None = None,
    condition: Any = None,
    layout: str = "list",
    precision: str = "fp32",
    device: torch.device | str | None = None,
    user: str | None = None,
    items: str | None = None,
    memory: int | str = "2GiB",
    shard: str | None = None,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    verbose: int = 1,
) -> ScoreReport:
    """Recommend to many users: Parquet in, Parquet out, in bounded memory, safe to kill.

    Each file, or about 262,144 users of a large one (whole row groups), gives one file
    ``part-00000.parquet``, ... A file is there when it is whole. After an error or a kill the same
    call goes on: it skips the finished files, and in the end the folder is the same, byte for byte,
    as if nothing had happened, whatever the number of threads, the memory, the engine and the
    shards.

    Parameters
    ----------
    model : RecSysModel or path
        Trained, or the path of its file.
    users : path, URI or Interactions
        A Parquet file, a folder of them, or a pattern (``folder/*.parquet``): one row a user, with a
        user id column and a column of lists of item ids (lists, large lists or fixed-size lists of
        integers, strings or dictionary-encoded ids; nulls allowed). Or interactions in memory.
        Repeated items count once; unknown items are ignored; users with nothing known get the
        popular items.
    out : path or URI
        A folder, made when absent, that holds no Parquet files but those of the same run.
        ``_manifest.json`` says which run that is: the model's digest, the settings, the input files.
    k : int, default 100
        Items a user; fewer where fewer are left.
    remove_seen : bool, default True
        Whether to leave out the items of the user's history.
    allow, deny : item ids, optional
        The only items to recommend; items never to recommend.
    allow_column, deny_column : str, optional
        Columns of lists of item ids, for each user the only items to recommend and those never to
        recommend, besides `allow` and `deny`. Null means no list: nothing more is forbidden. An
        empty list of allowed items allows none. Unknown ids are ignored.
    condition : optional
        Passed on to the model's `recommend`, for conditioned models.
    layout : {"list", "long"}, default "list"
        ``list``: a row a user with ``user_id, items, scores``; ``long``: a row an item with
        ``user_id, item_id, score, rank``, ranks from 1. User ids keep their type.
    precision : {"fp32", "bf16"}, default "fp32"
        bf16 rounds the weights that rank to 8 significant bits: faster, half the memory, slightly
        other lists. Models with dense weights only.
    device : torch.device or str, optional
        Where to recommend, ``"cuda"`` for example: each process copies the model there, packs no
        weights, and takes float32 alone. By default where the model is; one given by its path is on
        the CPU. With Ray each actor has a GPU of its own.
    user, items : str, optional
        Names of the two columns of the files; by default found by name and by type.
    memory : int or str, default "2GiB"
        Bytes that users read ahead, in work and waiting to be written may take, in each process;
        the model and what it needs to compute come on top.
    shard : str, optional
        ``"i/n"``: only the files i - 1, i - 1 + n, ..., for n machines that share nothing but the
        two folders.
    engine : {"local", "ray"}, default "local"
        This process, or Ray actors (extra ``ray``), to which only names of files are sent: the
        machines must reach the model's file, `users` and `out` under the same names. A dead
        actor's file is done again by another.
    address : str, optional
        With Ray: the cluster (``"auto"``, ``"ray://..."``). By default one is started on this
        machine for the time of the call.
    workers : int, optional
        With Ray: the number of actors, among which the processors are divided; by default one for
        up to eight processors of a machine.
    verbose : int, default 1
        1 shows a progress bar where the standard error is a terminal, 0 none.

    Returns
    -------
    ScoreReport

    Raises
    ------
    FileNotFoundError
        There is no such file, or no Parquet file in the folder.
    FileExistsError
        ``out`` holds another run, or other Parquet files; the message says what differs.
    ValueError
        Unreadable input, columns that cannot be found, ids of another type than the model's, or a
        device that is not there.
    MemoryError
        `memory` is too small for one block, the machine has less, or the GPU has too little for the
        model.
    OSError
        The output cannot be written. After any error the finished files stay.
    """
    start = time.perf_counter()
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "local" and (address is not None or workers is not None):
        raise ValueError("address and workers go with engine='ray'")
    if workers is not None:
        whole(workers, "workers", 1)
    limit = parse_bytes(memory, "memory")
    first, step = _parse_shard(shard)
    path = model if isinstance(model, (str, os.PathLike)) else None
    options = {
        "remove_seen": remove_seen,
        "allow": allow,
        "deny": deny,
        "condition": condition,
        "layout": layout,
        "precision": precision,
        "device": None if device is None else str(device),
    }
    if engine == "local" and device is not None:
        find_device(device)
    scorer = Scorer(
        open_model(model) if isinstance(model, (str, os.PathLike)) else model, k, **options
    )
    folder = Place.of(out)
    source = users if isinstance(users, Interactions) else Place.of(users)
    if engine == "ray" and not isinstance(source, Interactions):
        folder, source = folder.absolute(), source.absolute()  # actors may be in other folders
    columns = {"user": user, "items": items, "allow": allow_column, "deny": deny_column}
    found = _find(scorer, source, engine, columns)
    digest = model_digest(scorer.model, mapped=path is not None)
    Budget.plan(limit, scorer, found)  # what cannot be is said before anything is written
    run = claim_folder(folder, manifest_of(scorer, digest, found))
    parts = [Part(i, part, folder / f"part-{i:05d}.parquet") for i, part in enumerate(found)]
    mine = parts[first::step]
    reports = _finished(folder, mine, run)
    unfinished = [part for part in mine if part.number not in reports]
    _remove_leftovers(folder, mine)

    def work(progress: Callable[[int], object]) -> tuple[list[FragmentReport], int]:
        if not unfinished:
            return [], 0
        if engine == "local":
            # All users of the run decide, so that a resumed one does as the first.
            scorer.pack(sum(part.users.n_rows for part in parts), mapped=path is not None)
            return score_parts(scorer, unfinished, run, limit, progress), 0
        from pyrec.scoring.ray_engine import Task, model_file, score_with_ray

        if scorer.device_type != "cpu":
            # Each actor sees one GPU, its own, and loads the model from a file.
            options["device"] = scorer.device_type
        with model_file(scorer.model, path, folder, shard) as file:
            task = Task(str(file), digest, {"k": k, **options}, run, limit)
            try:
                return score_with_ray(task, unfinished, progress, address=address, workers=workers)
            finally:
                packed_file(digest, precision).unlink(missing_ok=True)

    done = sum(report.users for report in reports.values())
    total = sum(part.users.n_rows for part in mine)
    new, peak = _with_bar(work, total, done, verbose)
    _remove_leftovers(folder, mine)
    reports.update(zip((part.number for part in unfinished), new, strict=True))
    present = set(folder.names("part-*.parquet"))
    missing = tuple(str(p.place) for p in parts if p.place.name not in present)
    if not missing and folder.is_local:
        # Nobody is at work here any more.
        for pattern in (f".{MANIFEST}.*.tmp", ".model*.safetensors", "..model*.tmp"):
            for name in folder.names(pattern):
                (folder / name).path.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    return ScoreReport(
        users=sum(r.users for r in reports.values()),
        unknown_items=sum(r.unknown_items for r in reports.values()),
        users_without_history=sum(r.users_without_history for r in reports.values()),
        files=tuple(str(part.place) for part in mine),
        written=len(unfinished),
        skipped=len(mine) - len(unfinished),
        missing=missing,
        seconds=seconds,
        users_per_second=sum(report.users for report in new) / seconds,
        peak_memory=max(peak, peak_memory()),
    )


def _find(
    scorer: Scorer,
    users: Place | Interactions,
    engine: str,
    columns: dict[str, str | None],
) -> Sequence[Users]:
    """Return the fragments of the users, whose ids can be those of the scorer's items."""
    if isinstance(users, Interactions):
        if engine == "ray" or columns["allow"] or columns["deny"]:
            raise ValueError("engine='ray', allow_column and deny_column need users in files")
        return MemoryFragment.divide(scorer.model, users, interactions_digest(users))
    fragments = fragments_of(users, **columns)
    for fragment in fragments:
        fragment.check(scorer)
    return fragments


def _parse_shard(shard: str | None) -> tuple[int, int]:
    """Return the first part, from 0, and the step to the next."""
    if shard is None:
        return 0, 1
    found = re.fullmatch(r"(\d+)/(\d+)", shard) if isinstance(shard, str) else None
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"shard must be i/n with i from 1 to n, such as '2/3', got {shard!r}")
    return int(found[1]) - 1, int(found[2])


def _finished(folder: Place, parts: Sequence[Part], run: str) -> dict[int, FragmentReport]:
    """Return the reports of the parts whose files are whole."""
    present = set(folder.names("part-*.parquet"))
    there = [part for part in parts if part.place.name in present]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda part: read_report(part.place, run, part.number), there)
        return {p.number: r for p, r in zip(there, found, strict=True) if r is not None}


def _remove_leftovers(folder: Place, parts: Sequence[Part]) -> None:
    """Remove what killed runs left of these parts; other shards may be at work on the others."""
    names = {part.place.name for part in parts}
    for name in folder.names(".part-*.tmp") if folder.is_local else []:
        if name[1:].partition(".parquet")[0] + ".parquet" in names:
            (folder / name).path.unlink(missing_ok=True)


def _with_bar(work: Callable[..., Any], total: int, done: int, verbose: int) -> Any:
    from tqdm import tqdm

    # disable=None: no bar where the standard error is not a terminal
    hidden = None if verbose else True
    with tqdm(total=total, initial=done, unit=" users", unit_scale=True, disable=hidden) as bar:
        return work(bar.update)
