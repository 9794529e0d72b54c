import json

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyrec.data import (
    Interactions,
    Split,
    datasets,
    leave_last_out,
    read_interactions,
    strong_generalization,
    temporal,
    weak_generalization,
)

PROTOCOLS = {
    "strong": lambda data, seed: strong_generalization(data, 0.2, 0.3, seed=seed),
    "weak": lambda data, seed: weak_generalization(data, 0.3, 0.2, seed=seed),
    "last": lambda data, seed: leave_last_out(data),
    "temporal": lambda data, seed: temporal(data, 0.3, 0.2),
}


def pairs_of(data):
    """The (user id, item id) of each interaction."""
    rows = np.repeat(data.users, np.diff(data.matrix.indptr))
    return set(zip(rows.tolist(), data.items[data.matrix.indices].tolist(), strict=True))


def time_of(data):
    rows = np.repeat(data.users, np.diff(data.matrix.indptr))
    items = data.items[data.matrix.indices]
    return dict(
        zip(zip(rows.tolist(), items.tolist(), strict=True), data.timestamps.tolist(), strict=True)
    )


@st.composite
def interactions(draw):
    shape = draw(st.tuples(st.integers(3, 12), st.integers(2, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))  # Hypothesis' own arrays are too empty
    dense = rng.random(shape) < draw(st.sampled_from([0.2, 0.5, 0.8]))
    times = rng.integers(draw(st.integers(1, 20)), size=np.count_nonzero(dense))
    users, items = np.arange(shape[0]) * 3 + 5, np.arange(shape[1]) * 7 + 1
    return Interactions(sp.csr_array(dense), users, items, times)


TOO_SMALL = ("asks for", "leaves nothing", "needs interactions", "no user has something both")


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@settings(deadline=None, max_examples=50)
@given(interactions(), st.integers(0, 3))
def test_parts_partition_the_interactions(protocol, data, seed):
    try:
        split = PROTOCOLS[protocol](data, seed)
    except ValueError as error:
        # Hypothesis fails the test when nearly all examples are too small.
        assume(not any(reason in str(error) for reason in TOO_SMALL))
        raise
    everything, times = pairs_of(data), time_of(data)
    train = pairs_of(split.train)
    occur = {item for _, item in train}
    assert split.train.items.tolist() == sorted(occur)
    for tr, te in ((split.valid_tr, split.valid_te), (split.test_tr, split.test_te)):
        assert tr.users.tolist() == te.users.tolist() == sorted(tr.users.tolist())
        assert tr.items.tolist() == te.items.tolist() == split.train.items.tolist()
        assert np.all(np.diff(tr.matrix.indptr) > 0)
        assert np.all(np.diff(te.matrix.indptr) > 0)
        assert not pairs_of(tr) & pairs_of(te)
        for part in (tr, te):
            assert time_of(part).items() <= times.items()
    test, valid = pairs_of(split.test_te), pairs_of(split.valid_te)
    assert not test & valid
    assert not (test | valid) & train
    assert train | test | valid <= everything
    if protocol == "strong":
        held = [set(split.valid_te.users.tolist()), set(split.test_te.users.tolist())]
        assert not held[0] & held[1]
        for users, tr, te in zip(
            held, (split.valid_tr, split.test_tr), (split.valid_te, split.test_te), strict=True
        ):
            assert not users & set(split.train.users.tolist())
            known = {(u, i) for u, i in everything if u in users and i in occur}
            assert pairs_of(tr) | pairs_of(te) == known
    else:
        # Lost are only items that train lacks, and users of whom train has nothing.
        warm = {user for user, _ in train}
        lost = everything - train - test - valid
        assert not {(u, i) for u, i in lost if i in occur and u in warm}
        assert protocol == "temporal" or warm >= {user for user, _ in everything}
        before_test = everything - test
        if protocol == "temporal":
            before_test = {p for p in everything if times[p] < split.params["at"]}
        users = set(split.test_te.users.tolist())
        expected = {(u, i) for u, i in before_test if u in users and i in occur}
        assert pairs_of(split.test_tr) == expected


def test_strong_generalization_follows_the_protocol():
    data = datasets.simulate(300, 100, 6000)
    split = strong_generalization(data, heldout=40, test_prop=0.2, seed=1)
    assert split.train.n_users == 220
    assert split.test_te.n_users == split.valid_te.n_users == 40
    given, wanted = np.diff(split.test_tr.matrix.indptr), np.diff(split.test_te.matrix.indptr)
    expected = np.maximum(1, np.floor(0.2 * (given + wanted) + 1e-9))
    np.testing.assert_array_equal(wanted, expected)
    assert strong_generalization(data, 0.1).test_te.n_users == 30


def test_draws_are_uniform_over_a_users_interactions():
    data = Interactions(sp.csr_array(np.ones((4000, 10))), np.arange(4000), np.arange(10))
    split = weak_generalization(data, 0.3, 0.2, seed=3)
    counts = np.bincount(split.test_te.matrix.indices, minlength=10)
    assert counts.sum() == 4000 * 3
    assert np.all(abs(counts - 1200) < 5 * np.sqrt(1200 * 0.7))
    # and of the pairs that can come together: none is favoured
    together = (split.test_te.matrix.T @ split.test_te.matrix).toarray()[~np.eye(10, dtype=bool)]
    assert np.all(abs(together - 4000 / 15) < 6 * np.sqrt(4000 / 15))


@pytest.mark.parametrize("protocol", ["strong", "weak"])
def test_the_seed_decides(protocol):
    data = datasets.simulate(200, 60, 2500)
    one, again, other = (PROTOCOLS[protocol](data, seed) for seed in (1, 1, 2))
    assert pairs_of(one.test_te) == pairs_of(again.test_te)
    assert pairs_of(one.valid_tr) == pairs_of(again.valid_tr)
    assert pairs_of(one.test_te) != pairs_of(other.test_te)


def test_a_users_draws_do_not_depend_on_other_users():
    dense = np.ones((3, 20), bool)
    fewer = dense.copy()
    fewer[1, 5:] = False
    splits = [
        weak_generalization(Interactions(sp.csr_array(x), [1, 2, 3], np.arange(20)), seed=4)
        for x in (dense, fewer)
    ]
    for user in (1, 3):
        drawn = [{p for p in pairs_of(split.train) if p[0] == user} for split in splits]
        assert drawn[0] == drawn[1]


def test_weak_generalization_leaves_something_to_everyone():
    dense = np.tri(5, 5, dtype=bool)  # users with 1, 2, 3, 4, 5 interactions
    data = Interactions(sp.csr_array(dense), np.arange(5), np.arange(5))
    split = weak_generalization(data, 0.4, 0.4)
    counts = {}
    for name in ("train", "valid_te", "test_te"):
        part = getattr(split, name)
        lengths = dict(zip(part.users.tolist(), np.diff(part.matrix.indptr).tolist(), strict=True))
        counts[name] = [lengths.get(user, 0) for user in range(5)]
    total = np.sum(list(counts.values()), 0)
    unknown = split.report["test: held-out interactions with items that train lacks"]
    assert np.all(total >= np.array([1, 2, 3, 4, 5]) - unknown)
    assert min(counts["train"]) >= 1
    assert counts["test_te"][0] == counts["valid_te"][1] == 0


def test_shares_are_not_rounded_down_by_floating_point():
    data = Interactions(np.ones((20, 100)), np.arange(20), np.arange(100))
    assert weak_generalization(data, test_prop=0.29).test_te.n_interactions == 20 * 29


def test_leave_last_out_takes_the_last_by_time_and_then_by_item():
    dense = np.ones((3, 5), bool)
    dense[1, 2:] = False
    dense[2, 1:] = False
    times = [4, 1, 3, 5, 2, 7, 7, 1]
    split = leave_last_out(Interactions(sp.csr_array(dense), [1, 2, 3], np.arange(5), times))
    # item 3 is found in no training row, so it is dropped from the test part, and counted
    assert pairs_of(split.train) == {(1, 1), (1, 4), (1, 2), (2, 0), (3, 0)}
    assert pairs_of(split.valid_te) == {(1, 0)}
    assert pairs_of(split.valid_tr) == {(1, 1), (1, 4), (1, 2)}
    assert pairs_of(split.test_te) == {(2, 1)}
    assert split.report["test: held-out interactions with items that train lacks"] == 1
    assert split.report["test: users with nothing to find"] == 2


def test_leave_last_out_with_two():
    times = (np.arange(7) + np.array([[0], [3], [5]])) % 7
    data = Interactions(sp.csr_array(np.ones((3, 7))), [1, 2, 3], np.arange(7), times.ravel())
    split = leave_last_out(data, n=2)
    first = {1: 0, 2: 4, 3: 2}  # the item at each user's time 0; the others follow
    for part, places in (
        (split.train, (0, 1, 2)),
        (split.valid_te, (3, 4)),
        (split.test_te, (5, 6)),
    ):
        assert pairs_of(part) == {(u, (first[u] + p) % 7) for u in first for p in places}
    with pytest.raises(ValueError, match="n must be a whole number, at least 1, got 0"):
        leave_last_out(data, 0)


def test_temporal_cuts_at_points_in_time():
    times = [1, 2, 3, 4, 1, 1, 2, 9, 0, 0, 1, 1]
    data = Interactions(sp.csr_array(np.ones((3, 4))), [1, 2, 3], np.arange(4), times)
    split = temporal(data, at=3, valid_at=2)
    assert pairs_of(split.train) == {(1, 0), (2, 0), (2, 1)} | {(3, item) for item in range(4)}
    assert pairs_of(split.valid_te) == {(1, 1), (2, 2)}
    assert pairs_of(split.test_te) == {(1, 2), (1, 3), (2, 3)}
    assert pairs_of(split.test_tr) == {(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}
    assert split.report["test: users with nothing to find"] == 1
    with pytest.raises(ValueError, match="valid_at = 5 must not be after at = 3"):
        temporal(data, at=3, valid_at=5)
    with pytest.raises(ValueError, match="leaves nothing for train or nothing for test"):
        temporal(data, at=100)
    data = datasets.simulate(300, 100, 6000)
    split = temporal(data, 0.25, 0.15)
    assert data.timestamps[data.timestamps >= split.params["at"]].size == 1500
    assert split.train.timestamps.max() < split.params["valid_at"]
    assert np.sum(data.timestamps < split.params["valid_at"]) == 3600
    assert temporal(data, valid_prop=0).valid_te.n_users == 0


def test_saving_and_loading_keep_everything(tmp_path):
    split = leave_last_out(datasets.simulate(60, 40, 500))
    split.save(tmp_path / "split")
    loaded = Split.load(tmp_path / "split")
    for name in ("train", "valid_tr", "valid_te", "test_tr", "test_te"):
        part, other = getattr(split, name), getattr(loaded, name)
        assert time_of(part) == time_of(other)
        assert part.users.tolist() == other.users.tolist()
    assert (loaded.protocol, loaded.params) == ("leave_last_out", {"n": 1})
    assert loaded.report == split.report
    assert json.loads((tmp_path / "split" / "split.json").read_text())["params"] == {"n": 1}


@pytest.mark.parametrize("number", [np.int64, np.int32, np.float32])
def test_params_are_plain_numbers(tmp_path, number):
    data = datasets.simulate(200, 60, 2500)
    timed = Interactions(
        sp.csr_array(np.ones((2, 4))), [1, 2], np.arange(4), [1, 2, 3, 4, 1, 1, 1, 2]
    )
    for split in (
        strong_generalization(data, number(20), np.float64(0.25), seed=np.int64(3)),
        weak_generalization(data, np.float32(0.25), number(0), seed=np.int64(3)),
        temporal(timed, at=number(3), valid_at=number(2)),
    ):
        split.save(tmp_path)
        assert Split.load(tmp_path).params == split.params
    assert pairs_of(strong_generalization(data, number(20), seed=np.int64(3)).test_te) == pairs_of(
        strong_generalization(data, 20, seed=3).test_te
    )


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        *(
            (strong_generalization, {"heldout": h}, f"heldout must be a share .*; got {h}")
            for h in (0, 0.5, 1.5, -1, float("nan"), float("inf"))
        ),
        (strong_generalization, {"heldout": 0.01}, "heldout = 0.01 asks for 0 users each"),
        (strong_generalization, {"heldout": 2}, "heldout = 2 asks for 2 users each"),
        (strong_generalization, {"test_prop": 0}, "^test_prop must lie above 0 and below 1, got 0"),
        (strong_generalization, {"seed": -1}, "seed must be a whole number, at least 0, got -1"),
        (weak_generalization, {"seed": -1}, "seed must be a whole number, at least 0, got -1"),
        (weak_generalization, {"seed": 0.5}, r"seed must be a whole number, .* got 0\.5"),
        (
            weak_generalization,
            {"test_prop": 0.8, "valid_prop": 0.2},
            r"test_prop \+ valid_prop must lie below 1, got 0.8 \+ 0.2",
        ),
        (weak_generalization, {"valid_prop": -0.1}, "^valid_prop must lie at 0 or above .*-0.1"),
        (weak_generalization, {"test_prop": float("nan")}, "^test_prop must lie .* got nan"),
        (leave_last_out, {"n": 1.5}, r"n must be a whole number, at least 1, got 1\.5"),
        (leave_last_out, {}, "leave_last_out needs timestamps"),
        (temporal, {}, "temporal needs timestamps"),
    ],
)
def test_errors_name_the_argument(function, arguments, message):
    data = Interactions(np.ones((4, 3)), [1, 2, 3, 4], [1, 2, 3])
    with pytest.raises(ValueError, match=message):
        function(data, **arguments)


@pytest.mark.parametrize("protocol", [leave_last_out, temporal])
def test_missing_timestamps_say_why(protocol):
    frame = pl.DataFrame({"user": [1, 1], "item": [1, 2], "time": [3, None]})
    message = rf"{protocol.__name__} needs .* none \(.*time is null in 1 rows\); .*timestamp='"
    with pytest.raises(ValueError, match=message):
        protocol(read_interactions(frame).filter(min_user=1))


def test_validation_is_reported_where_it_was_asked_for():
    times = [3, 4, 5, 4, 5, 3, 5, 3, 4]
    data = Interactions(sp.csr_array(np.ones((3, 3))), [1, 2, 3], [1, 2, 3], times)
    for asked in (weak_generalization(data), temporal(data, at=5, valid_at=4)):
        assert "valid: users with nothing to find" in asked.report
    for unasked in (weak_generalization(data, valid_prop=0), temporal(data, at=5, valid_at=5)):
        assert unasked.valid_te.n_users == unasked.valid_tr.n_users == 0
        assert unasked.valid_te.n_items == unasked.train.n_items
        assert not any(what.startswith("valid") for what in unasked.report)


def test_users_with_one_interaction_are_not_held_out():
    data = Interactions(np.tri(6, 2), np.arange(6), [1, 2])
    for seed in range(5):
        split = strong_generalization(data, heldout=2, seed=seed)
        assert 0 in split.train.users
    with pytest.raises(ValueError, match="5 of them with at least 2 interactions"):
        strong_generalization(data, heldout=3)
    with pytest.raises(ValueError, match="leaves nothing"):
        weak_generalization(Interactions(np.eye(3), [1, 2, 3], [1, 2, 3]))
