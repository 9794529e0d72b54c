"""Simulated interactions: popularity, activity, taste, order and trends as in real data, seeded.

Items live in niches, and niches in genres. A user comes in sessions; each session stays in one of
the user's few niches. Within a session the next item often is the next one of the niche's own order
(a sequel), otherwise one drawn by popularity, which is Zipf-Mandelbrot and rises and falls with the
age of the item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .csr import INT32_MAX, csr, offsets_of
from .interactions import Interactions
from .randomness import check_seed

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["simulate", "simulated_genres"]

_GENRES = (
    *("Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller"),
    *("War", "Western"),
)
_START, _END = 1_420_070_400, 1_577_836_800  # 2015 and 2020
_N_EPOCHS = 16
_NICHES_A_USER = 8
_BLOCK_CELLS = 1 << 26


class _Catalogue(NamedTuple):
    """Items in the order of their niches; "place" is an item's position in that order."""

    items: NDArray[np.int64]  # item number at each place
    niche_starts: NDArray[np.int64]  # first place of each niche, and the end
    niche_genres: NDArray[np.int64]  # never falling: niches of a genre lie together
    weights: NDArray[np.float64]  # popularity at each place
    births: NDArray[np.float64]  # when the item appears, in units of the whole time


def simulate(
    users: int = 2000, items: int = 1000, interactions: int = 100_000, seed: int = 0
) -> Interactions:
    """Simulate interactions on which models differ and clearly beat popularity.

    Parameters
    ----------
    users, items : int, default 2000, 1000
        Both get the ids 1, 2, ..., in no order of popularity or activity. Every user has at least
        one interaction; some items may have none.
    interactions : int, default 100,000
        Exactly so many, without duplicates: at least ``users``, at most a quarter of
        ``users * items``.
    seed : int, default 0
        At least 0. The same arguments give the same data.

    Returns
    -------
    Interactions
        With timestamps: seconds since 1970, from 2015 to 2019, all different for one user.

    Raises
    ------
    ValueError
        If the numbers are impossible together, or the seed is negative.
    """
    if not (users >= 1 and 2 <= items <= INT32_MAX):
        raise ValueError(f"users must be at least 1 and items at least 2, got {users} and {items}")
    if not users <= interactions <= users * items // 4:
        raise ValueError(
            f"interactions must lie between the number of users, {users:,}, and a quarter of "
            f"users * items, {users * items // 4:,}; got {interactions:,}"
        )
    check_seed(seed)
    catalogue = _catalogue(items, seed)
    rng = np.random.default_rng([seed, 1])
    degrees = _degrees(users, items, interactions, rng)
    indptr = offsets_of(degrees)
    indices = np.empty(interactions, np.int32)
    times = np.empty(interactions, np.int64)
    popularity = _popularity_over_time(catalogue)
    block = max(1, _BLOCK_CELLS // items)
    taken = np.zeros(min(block, users) * items, bool)
    for first in range(0, users, block):
        lengths = degrees[first : first + block]
        entries = slice(indptr[first], indptr[first + len(lengths)])
        places, when = _histories(lengths, catalogue, popularity, taken, rng)
        columns = catalogue.items[places]
        rows = np.repeat(np.arange(len(lengths)), lengths)
        order = np.argsort(rows * items + columns)
        indices[entries], times[entries] = columns[order], when[order]
    matrix = csr(np.ones(interactions, np.float32), indices, indptr, (users, items))
    return Interactions(matrix, np.arange(1, users + 1), np.arange(1, items + 1), times)


def simulated_genres(items: int = 1000, seed: int = 0) -> tuple[sp.csr_array, list[str]]:
    """Return the genres of the items that `simulate` makes with the same ``items`` and ``seed``.

    Returns
    -------
    genres : (items, 18) csr_array of ones, float32
        Each item has its niche's genre and up to two more.
    names : list of str
    """
    check_seed(seed)
    catalogue = _catalogue(items, seed)
    rng = np.random.default_rng([seed, 2])
    main = np.repeat(catalogue.niche_genres, np.diff(catalogue.niche_starts))
    has = np.zeros((items, len(_GENRES)), bool)
    has[catalogue.items, main] = True
    for share in (0.5, 0.15):
        more = np.flatnonzero(rng.random(items) < share)
        has[more, rng.integers(len(_GENRES), size=len(more))] = True
    import scipy.sparse as sp

    return sp.csr_array(has, dtype=np.float32), list(_GENRES)


def _catalogue(items: int, seed: int) -> _Catalogue:
    rng = np.random.default_rng([seed, 0])
    n_niches = max(min(4, items // 2), round(items**0.75 / 10))
    sizes = rng.lognormal(sigma=0.5, size=n_niches)
    niches = np.sort(rng.choice(n_niches, size=items, p=sizes / sizes.sum()))
    ranks = rng.permutation(items)
    return _Catalogue(
        items=rng.permutation(items),
        niche_starts=np.searchsorted(niches, np.arange(n_niches + 1)),
        niche_genres=np.arange(n_niches) * len(_GENRES) // n_niches,
        # A flat top that widens slowly with the catalogue, as in MovieLens and MSD.
        weights=(ranks + 3 * items**0.25) ** -1.5,
        births=rng.uniform(-1.5, 1, size=items),
    )


def _degrees(
    users: int, items: int, interactions: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Interactions of each user: log-normal between a least and half the catalogue."""
    least, most = min(5, interactions // users), max(1, items // 2)
    shares = rng.lognormal(sigma=1.1, size=users)
    degrees = np.full(users, least, np.int64)
    while left := interactions - int(degrees.sum()):
        shares[degrees >= most] = 0
        exact = left * shares / shares.sum()
        whole = np.floor(exact).astype(np.int64)
        # The last few go to the largest remainders, one each.
        rest = np.argsort(whole - exact, kind="stable")[: left - int(whole.sum())]
        whole[rest] += 1
        degrees = np.minimum(degrees + whole, most)
    return degrees


def _popularity_over_time(catalogue: _Catalogue) -> NDArray[np.float64]:
    """Running sum of the weights at each (epoch, place), from 0."""
    epochs = (np.arange(_N_EPOCHS)[:, None] + 0.5) / _N_EPOCHS
    age = epochs - catalogue.births
    trend = np.where(age < 0, 0.02, 1 + 3 * np.exp(-np.maximum(age, 0) / 0.1))
    return np.concatenate(([0.0], np.cumsum(trend * catalogue.weights)))


def _histories(
    lengths: NDArray[np.int64],
    catalogue: _Catalogue,
    popularity: NDArray[np.float64],
    taken: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places and times of some users' interactions, in each user's order of time.

    ``taken`` is scratch memory for users x items, false before and after.
    """
    n, n_items = int(lengths.sum()), len(catalogue.items)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    new_session = rng.random(n) < 1 / 6
    new_session[offsets_of(lengths)[:-1]] = True
    seconds = _times(lengths, new_session, rng)
    first = (seconds - _START) * _N_EPOCHS // (_END - _START) * n_items
    niches = _session_niches(lengths, new_session, catalogue, rng)
    low, high = first + catalogue.niche_starts[niches], first + catalogue.niche_starts[niches + 1]
    astray = rng.random(n) < 0.3
    at_first = np.where(astray, first, low), np.where(astray, first + n_items, high)

    places = np.empty(n, np.int64)
    open_places, attempt = np.arange(n), 0
    while len(open_places):
        if attempt == 0:
            drawn = _draw(popularity, *at_first, rng) % n_items
            drawn = _sequels(drawn, new_session | (rng.random(n) < 0.65), catalogue)
        elif attempt <= 6:
            a, b = (low, high) if attempt <= 2 else (first, first + n_items)
            drawn = _draw(popularity, a[open_places], b[open_places], rng) % n_items
        else:
            # Nobody has more than half of the items, so each attempt settles half of the rest.
            drawn = rng.integers(n_items, size=len(open_places))
        cells, at = np.unique(rows[open_places] * n_items + drawn, return_index=True)
        at = at[~taken[cells]]
        places[open_places[at]] = drawn[at]
        taken[rows[open_places[at]] * n_items + drawn[at]] = True
        open_places = np.delete(open_places, at)
        attempt += 1
    taken[rows * n_items + places] = False
    return places, seconds


def _times(
    lengths: NDArray[np.int64], new_session: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Seconds, rising for each user: minutes within a session, days between sessions."""
    whole = _END - _START
    starts = offsets_of(lengths)[:-1]
    gaps = rng.exponential(size=len(new_session)) * np.where(new_session, 5 * 86_400, 120)
    elapsed = np.cumsum(gaps)
    elapsed -= np.repeat(elapsed[starts], lengths)
    begin = 0.95 * whole * rng.random(len(lengths)) ** 0.7
    # A second is added an interaction, so that no two of a user fall together.
    most = whole - begin - lengths
    longest = np.maximum(elapsed[starts + lengths - 1], 1)
    scale = np.minimum(1, most / longest)
    seconds = np.repeat(begin, lengths) + elapsed * np.repeat(scale, lengths)
    seconds += np.arange(len(gaps)) - np.repeat(starts, lengths)
    times: NDArray[np.int64] = seconds.astype(np.int64) + _START
    return times


def _session_niches(
    lengths: NDArray[np.int64],
    new_session: NDArray[np.bool_],
    catalogue: _Catalogue,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The niche of each interaction's session: one of the user's, the first ones most often."""
    genres = catalogue.niche_genres
    running = np.concatenate(([0.0], np.cumsum(catalogue.weights)))[catalogue.niche_starts]
    lowest, highest = np.zeros(len(lengths), np.int64), np.full(len(lengths), len(genres))
    likes = np.empty((len(lengths), _NICHES_A_USER), np.int64)
    likes[:, 0] = _draw(running, lowest, highest, rng)
    genre = genres[likes[:, 0]]
    first, stop = np.searchsorted(genres, genre), np.searchsorted(genres, genre, "right")
    for column in range(1, _NICHES_A_USER):
        low, high = (first, stop) if column % 2 else (lowest, highest)
        likes[:, column] = _draw(running, low, high, rng)
    users = np.repeat(np.arange(len(lengths)), lengths)[new_session]
    focus = rng.uniform(0.25, 0.75, size=len(lengths))
    choice = np.minimum(rng.geometric(focus[users]), _NICHES_A_USER) - 1
    niches: NDArray[np.int64] = likes[users, choice][np.cumsum(new_session) - 1]
    return niches


def _draw(
    running: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """One number in ``low <= number < high`` each, by the weights whose running sum is given."""
    value = running[low] + rng.random(len(low)) * (running[high] - running[low])
    found = np.searchsorted(running, value, "right") - 1
    drawn: NDArray[np.int64] = np.clip(found, low, high - 1)
    return drawn


def _sequels(
    places: NDArray[np.int64], fresh: NDArray[np.bool_], catalogue: _Catalogue
) -> NDArray[np.int64]:
    """Replace what is not fresh by the next place of the niche, counted from the last fresh one."""
    index = np.arange(len(places))
    origin = np.maximum.accumulate(np.where(fresh, index, 0))
    places = places[origin]
    niche = np.searchsorted(catalogue.niche_starts, places, "right") - 1
    start, stop = catalogue.niche_starts[niche], catalogue.niche_starts[niche + 1]
    after: NDArray[np.int64] = start + (places - start + index - origin) % (stop - start)
    return after
