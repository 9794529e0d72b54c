"""`Split`: fitting parts together, and what lies in its folder."""

import dataclasses
import re

import numpy as np
import pytest

from pyrec.data import Interactions, Split, datasets, leave_last_out, weak_generalization


def test_from_parts_pairs_rows_by_user_id():
    train = Interactions(np.eye(3), ["a", "b", "c"], [1, 2, 3])
    test = Interactions(np.array([[1, 1], [0, 1], [1, 0]]), ["c", "new", "a"], [2, 9])
    split = Split.from_parts(train, test)
    assert split.test_te.users.tolist() == split.test_tr.users.tolist() == ["c", "a"]
    np.testing.assert_array_equal(split.test_tr.matrix.toarray(), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(split.test_te.matrix.toarray(), [[0, 1, 0], [0, 1, 0]])
    assert split.valid_te.n_users == split.valid_tr.n_users == 0
    assert not any(what.startswith("valid") for what in split.report)
    assert split.report["test: held-out interactions with items that train lacks"] == 2
    assert split.report["test: interactions both given and to find"] == 0
    known = Interactions(np.eye(3), ["c", "new", "x"], [1, 2, 3])
    split = Split.from_parts(train, test, test_tr=known, valid_te=train, valid_tr=train)
    assert split.test_te.users.tolist() == ["c"]
    np.testing.assert_array_equal(split.test_tr.matrix.toarray(), [[1, 0, 0]])
    assert split.report["valid: interactions both given and to find"] == 3
    with pytest.raises(ValueError, match="no user has something both"):
        Split.from_parts(train, Interactions(np.eye(3), ["x", "y", "z"], [1, 2, 3]))


def test_nothing_to_test_says_why():
    train, test = (Interactions(np.eye(2), ["a", "b"], items) for items in ([1, 2], [3, 4]))
    message = (
        "no user has something both in test_tr and in test_te, so there is nothing to test "
        "(held-out interactions with items that train lacks: 2, users with nothing to find: 2)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Split.from_parts(train, test, valid_te=test)


def test_a_folder_with_split_json_is_complete(tmp_path, monkeypatch):
    data = datasets.simulate(60, 40, 500)
    leave_last_out(data).save(tmp_path)
    other = weak_generalization(data)
    foreign = dataclasses.replace(other, params={"when": object()})
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        foreign.save(tmp_path)
    assert Split.load(tmp_path).protocol == "leave_last_out"  # nothing was touched
    save = Interactions.save

    def fail(part, folder):
        if folder.name == "test_tr":
            raise OSError("disk full")
        save(part, folder)

    monkeypatch.setattr(Interactions, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        other.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no split\.json"):
        Split.load(tmp_path)


def test_loading_names_the_file_that_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no split\.json"):
        Split.load(tmp_path)
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(ValueError, match=r"split\.json is corrupt"):
        Split.load(tmp_path)
