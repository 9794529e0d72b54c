"""A file or a folder is there as a whole, or it is not there."""

from __future__ import annotations

import os

import pytest

from pyrec.files import atomic_folder, atomic_write, check_place


class TestAtomicWrite:
    def test_the_file_appears_when_the_block_ends(self, tmp_path):
        path = tmp_path / "f"
        with atomic_write(path) as temporary:
            temporary.write_text("new")
            assert temporary.parent == tmp_path
            assert not path.exists()
        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]

    def test_the_old_file_stays_when_the_block_fails(self, tmp_path):
        path = tmp_path / "f"
        path.write_text("old")

        def write_half() -> None:
            with atomic_write(path) as temporary:
                temporary.write_text("half")
                assert path.read_text() == "old"
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            write_half()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_others_may_read_the_file_as_the_umask_says(self, tmp_path):
        before = os.umask(0o027)
        try:
            with atomic_write(tmp_path / "f") as temporary:
                # as a library does that renames a private file of its own
                temporary.unlink()
                temporary.touch(mode=0o600)
        finally:
            os.umask(before)
        assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640

    def test_a_name_as_long_as_names_may_be(self, tmp_path):
        with atomic_write(tmp_path / ("x" * 255)) as temporary:
            temporary.write_text("new")
        assert (tmp_path / ("x" * 255)).read_text() == "new"

    @pytest.mark.parametrize("function", [check_place, lambda path: atomic_write(path).__enter__()])
    def test_a_place_that_cannot_be_written(self, tmp_path, function):
        with pytest.raises(FileNotFoundError, match="none does not exist"):
            function(tmp_path / "none" / "f")
        with pytest.raises(IsADirectoryError, match="it is a folder"):
            function(tmp_path)
        assert list(tmp_path.iterdir()) == []
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileExistsError, match="it is a device or the like, no file"):
            function(tmp_path / "pipe")
        with pytest.raises(OSError, match="the folder /proc is not writable"):
            function("/proc/f")

    def test_a_link_leads_to_its_file(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "file")
        with atomic_write(tmp_path / "link") as temporary:
            temporary.write_text("new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_text() == "new"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_the_right_to_write(self, tmp_path):
        (tmp_path / "locked").mkdir(mode=0o500)
        with (
            pytest.raises(PermissionError, match="locked is not writable"),
            atomic_write(tmp_path / "locked" / "f"),
        ):
            pass


class TestAtomicFolder:
    @pytest.mark.parametrize("is_there", [False, True])
    def test_the_folder_appears_when_the_block_ends(self, tmp_path, is_there):
        path = tmp_path / "d"
        if is_there:
            path.mkdir()
        with atomic_folder(path) as temporary:
            (temporary / "f").write_text("new")
            assert not (path / "f").exists()
        assert (path / "f").read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]

    def test_nothing_is_left_when_the_block_fails(self, tmp_path):
        def write_half() -> None:
            with atomic_folder(tmp_path / "d") as temporary:
                (temporary / "f").write_text("half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_half()
        assert list(tmp_path.iterdir()) == []

    def test_what_is_there_is_not_replaced(self, tmp_path):
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "f").write_text("old")
        for path in (tmp_path / "d", tmp_path / "d" / "f"):
            with pytest.raises(FileExistsError, match="already exists"), atomic_folder(path):
                pass
        with pytest.raises(FileNotFoundError, match="none does not exist"):
            atomic_folder(tmp_path / "none" / "d").__enter__()
        assert [p.name for p in tmp_path.iterdir()] == ["d"]
