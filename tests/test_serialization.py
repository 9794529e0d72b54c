"""Files come back as they were written, and every broken file says what is wrong with it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import pyrec.models
from pyrec import machine
from pyrec.models import EASE, Popularity
from pyrec.models.storage import load_into, load_model, save_model
from pyrec.serialization import decode_ids, encode_ids, read_tensors, write_tensors

X = sp.csr_array(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 1, 1]]))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    model = EASE(lam=3.0)
    model.train(X)
    model.item_ids = np.array(["a", "b", "é", ""], dtype=object)
    save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewrite(path: Path, change_header=lambda header: None, change_tensors=lambda t: None) -> None:
    tensors, header = read_tensors(path, "pyrec-model")
    change_header(header)
    change_tensors(tensors)
    write_tensors(path, tensors, header)


class TestTensors:
    @pytest.mark.parametrize("memory_map", [False, True])
    def test_arrays_and_header_come_back(self, tmp_path, memory_map):
        tensors = {
            "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
            "empty": np.zeros((0, 4), np.int64),
            "scalar": np.array(2.5),
            "flags": np.array([True, False]),
            **{kind: np.arange(3).astype(kind) for kind in ("i1", "u2", "f2", "u8", "i4")},
        }
        header = {"format": "x", "name": "é", "nested": {"a": [1, None]}, "number": np.int64(3)}
        write_tensors(tmp_path / "f", tensors, header)
        read, read_header = read_tensors(tmp_path / "f", "x", memory_map=memory_map)
        assert read.keys() == tensors.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == array.dtype
            assert read[name].flags.aligned
            read[name][...] = 1
        assert read_header == {**header, "number": 3, "version": 1}
        again, _ = read_tensors(tmp_path / "f", "x")
        np.testing.assert_array_equal(again["weights"], tensors["weights"])

    def test_strides_are_respected(self, tmp_path):
        transposed = np.arange(6).reshape(2, 3).T
        write_tensors(tmp_path / "f", {"t": transposed, "step": np.arange(9)[::2]}, {"format": "x"})
        read, _ = read_tensors(tmp_path / "f", "x")
        np.testing.assert_array_equal(read["t"], [[0, 3], [1, 4], [2, 5]])
        np.testing.assert_array_equal(read["step"], [0, 2, 4, 6, 8])

    def test_what_json_or_the_format_cannot_hold_is_refused(self, tmp_path):
        with pytest.raises(TypeError, match="JSON values only, got object"):
            write_tensors(tmp_path / "f", {}, {"x": object()})
        with pytest.raises(TypeError, match="names must be an array of numbers, got dtype <U1"):
            write_tensors(tmp_path / "f", {"names": np.array(["a"])}, {"format": "x"})
        assert list(tmp_path.iterdir()) == []

    def test_a_file_truncated_anywhere_is_named(self, tmp_path):
        path = tmp_path / "f"
        write_tensors(path, {"a": np.arange(4.0)}, {"format": "x"})
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            for memory_map in (False, True):
                with pytest.raises(ValueError, match=f"{re.escape(str(path))} is truncated"):
                    read_tensors(path, "x", memory_map=memory_map)

    def test_a_place_that_cannot_be_written(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="none does not exist"):
            write_tensors(tmp_path / "none" / "f", {}, {"format": "x"})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("content", [b"user,item\n1,2\n" * 20, b"PK\x03\x04" * 100])
    def test_a_foreign_file_is_named(self, tmp_path, content):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(ValueError, match="f is not a pyrec file"):
            read_tensors(tmp_path / "f", "x")

    def test_an_npz_file_is_named(self, tmp_path):
        np.savez(tmp_path / "f.npz", a=np.arange(3))
        with pytest.raises(ValueError, match=r"f\.npz is not a pyrec file"):
            read_tensors(tmp_path / "f.npz", "x")

    @pytest.mark.parametrize("metadata", [None, {"other": "1"}, {"pyrec": "{"}, {"pyrec": "[]"}])
    def test_a_safetensors_file_of_others_is_named(self, tmp_path, metadata):
        save_file({"a": np.arange(3)}, tmp_path / "f", metadata=metadata)
        with pytest.raises(ValueError, match="that pyrec did not write"):
            read_tensors(tmp_path / "f", "x")

    def test_version_and_format_are_checked(self, tmp_path):
        path = tmp_path / "f"
        write_tensors(path, {}, {"format": "x", "version": 2})
        with pytest.raises(ValueError, match="format version 2; this pyrec reads versions up to 1"):
            read_tensors(path, "x")
        write_tensors(path, {}, {"format": "x", "version": "new"})
        with pytest.raises(ValueError, match="format version 'new', expected a number"):
            read_tensors(path, "x")
        write_tensors(path, {}, {"format": "x"})
        with pytest.raises(ValueError, match="format 'x', expected 'pyrec-model'"):
            read_tensors(path, "pyrec-model")

    def test_a_missing_file_and_a_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="none does not exist"):
            read_tensors(tmp_path / "none", "x")
        with pytest.raises(ValueError, match="is a folder"):
            read_tensors(tmp_path, "x")

    def test_a_file_larger_than_the_memory(self, tmp_path, monkeypatch):
        write_tensors(tmp_path / "f", {"a": np.ones(5000)}, {"format": "x"})
        monkeypatch.setattr(machine, "available_memory", lambda: 1 << 10)
        message = r"f needs memory for its arrays, 39\.\d KiB; 1\.0 KiB are available"
        with pytest.raises(MemoryError, match=message):
            read_tensors(tmp_path / "f", "x")

    def test_neither_writing_nor_reading_copies_a_large_array(self, tmp_path):
        script = r"""if True:
            import re, sys
            from pathlib import Path
            import numpy as np
            import safetensors.numpy
            from pyrec.serialization import read_tensors, write_tensors
            def peak():
                status = Path("/proc/self/status").read_text()
                return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
            before = peak()
            if sys.argv[1] == "write":
                write_tensors(sys.argv[2], {"a": np.ones(25_000_000, np.float32)}, {"format": "x"})
            else:
                tensors, _ = read_tensors(sys.argv[2], "x")
            print(peak() - before)
        """
        for action in ("write", "read"):
            run = [sys.executable, "-c", script, action, tmp_path / "f"]
            used = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            assert used < 120, f"{action}: {used:.0f} MiB for an array of 95 MiB"


class TestIds:
    @settings(deadline=None)
    @given(st.lists(st.text(st.characters(codec="utf-8")), max_size=20))
    def test_strings_come_back(self, ids):
        array = np.array(ids, dtype=object)
        decoded = decode_ids("ids", encode_ids("ids", array))
        assert decoded is not None
        assert decoded.dtype == object
        assert decoded.tolist() == ids

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
    def test_integers_come_back_as_int64(self, dtype):
        decoded = decode_ids("ids", encode_ids("ids", np.array([3, 0, 7], dtype)))
        assert decoded is not None
        assert decoded.dtype == np.int64
        assert decoded.tolist() == [3, 0, 7]

    def test_fixed_width_strings_and_none(self):
        assert decode_ids("i", encode_ids("i", np.array(["b", "aa"]))).tolist() == ["b", "aa"]
        assert encode_ids("i", None) == {}
        assert decode_ids("i", {}) is None

    def test_a_file_holds_them(self, tmp_path):
        ids = np.array(["", "x" * 300, "日本"], dtype=object)
        write_tensors(tmp_path / "f", encode_ids("users", ids), {"format": "x"})
        assert decode_ids("users", read_tensors(tmp_path / "f", "x")[0]).tolist() == ids.tolist()

    @pytest.mark.parametrize(
        "ids", [np.array([1.5]), np.array(["a", None], object), np.array([True]), np.array([1j])]
    )
    def test_other_types_are_refused(self, ids):
        with pytest.raises(TypeError, match="items must hold integers or strings"):
            encode_ids("items", ids)

    def test_integers_beyond_int64_are_refused(self):
        with pytest.raises(ValueError, match="items must fit in int64, got 18446744073709551615"):
            encode_ids("items", np.array([2**64 - 1], np.uint64))

    @pytest.mark.parametrize(
        ("offsets", "data"),
        [([0, 3], b"ab"), ([1, 2], b"ab"), ([0, 2, 1, 2], b"ab"), ([], b""), ([0, 1], b"\xff")],
    )
    def test_broken_strings_are_refused(self, offsets, data):
        tensors = {
            "i.offsets": np.array(offsets, np.int64),
            "i.bytes": np.frombuffer(data, np.uint8),
        }
        with pytest.raises(ValueError, match=r"^i"):
            decode_ids("i", tensors)


class TestModels:
    @pytest.mark.parametrize("memory_map", [False, True])
    def test_a_model_comes_back(self, model_file, memory_map):
        model = load_model(model_file, memory_map=memory_map)
        assert type(model) is EASE
        assert model.lam == 3.0
        assert model.n_items == 4
        assert model.item_ids.tolist() == ["a", "b", "é", ""]
        np.testing.assert_array_equal(model.item_counts, X.sum(0))
        trained = EASE(lam=3.0)
        trained.train(X)
        np.testing.assert_array_equal(model.recommend(X, 2).items, trained.recommend(X, 2).items)
        np.testing.assert_array_equal(model.scores(X), trained.scores(X))

    def test_the_header_can_be_read_by_anyone(self, model_file):
        raw = model_file.read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        pyrec = json.loads(header["__metadata__"]["pyrec"])
        assert pyrec["format"] == "pyrec-model"
        assert (pyrec["version"], pyrec["class"], pyrec["n_items"]) == (1, "EASE", 4)

    def test_an_untrained_model_is_not_saved(self, tmp_path):
        with pytest.raises(ValueError, match="EASE cannot be saved before it is trained"):
            save_model(EASE(), tmp_path / "f")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["EASE", "Popularity"])
    def test_a_model_without_counts_is_neither_saved_nor_loaded(self, name, tmp_path):
        model = getattr(pyrec.models, name)()
        model.train(X)
        save_model(model, tmp_path / "f")
        rewrite(tmp_path / "f", change_tensors=lambda tensors: tensors.pop("item_counts"))
        for load in (load_model, lambda path: load_into(model, path)):
            with pytest.raises(ValueError, match=f"valid {name}: 'item_counts' is missing"):
                load(tmp_path / "f")
        model.item_counts = None
        with pytest.raises(ValueError, match=f"{name} cannot be saved: its train has not set item"):
            save_model(model, tmp_path / "f")

    def test_load_into_replaces_what_a_model_knew(self, model_file):
        model = EASE(lam=1.0)
        model.train(X[:, :2])
        assert load_into(model, model_file)["lam"] == 3.0
        assert (model.lam, model.n_items) == (3.0, 4)
        with pytest.raises(ValueError, match="holds a EASE, not a Popularity"):
            load_into(Popularity(), model_file)

    @pytest.mark.parametrize("name", ["os", "RecSysModelX", None, ["EASE"]])
    def test_a_class_that_pyrec_does_not_have_is_named(self, model_file, name):
        rewrite(model_file, lambda header: header.update({"class": name}))
        with pytest.raises(ValueError, match=re.escape(repr(name)) + ", which pyrec.models does"):
            load_model(model_file)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda h: h.pop("n_items"), "'n_items' is missing"),
            (lambda h: h.update({"class": "RecSysModel"}), "not hold a valid RecSysModel"),
            (lambda h: h.update(n_items=5), "must have 5 entries, got 4"),
            (lambda h: h.update(parameters={"lamda": 1}), "lamda"),
            (lambda h: h.update(parameters=7), "model.safetensors does not hold a valid EASE"),
        ],
    )
    def test_a_wrong_header_is_named(self, model_file, change, message):
        rewrite(model_file, change)
        with pytest.raises(ValueError, match=message):
            load_model(model_file)

    @pytest.mark.parametrize(
        "change",
        [
            lambda t: t.update(item_counts=np.zeros(3, np.int64)),
            lambda t: t.update(item_counts=np.zeros(4)),
            lambda t: t.update({"item_ids.bytes": np.zeros(1, np.uint8)}),
            lambda t: t.update(weights=np.zeros((3, 3), np.float32)),
            lambda t: t.update(bias=np.zeros(4, np.float32)),
            lambda t: t.pop("weights"),
        ],
    )
    def test_wrong_arrays_are_named(self, model_file, change):
        rewrite(model_file, change_tensors=change)
        with pytest.raises(ValueError, match=r"model\.safetensors does not hold a valid EASE: "):
            load_model(model_file)
