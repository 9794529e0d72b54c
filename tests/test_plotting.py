"""Curves of text and the picture, against what they are drawn from."""

import math
import sys

import pytest

from pyrec import plotting

HISTORY = {
    "loss": [9.0, 8.0, 7.5],
    "seconds": [1.0, 1.0, 1.0],
    "ndcg@100": [0.1, 0.3, 0.2],
    "beta": [0.0, 0.1, 0.2],
}


class TestTextCurve:
    def test_heights_are_the_values(self):
        text = plotting.text_curve("x", [0, 1, 2, 3, 4, 5, 6, 7], width=8, height=1)
        assert text.splitlines() == [
            "x: best 7 in epoch 8, last 7",
            "0 │▁▂▃▄▅▆▇█",
            "   1      8",
        ]

    def test_two_lines(self):
        lines = plotting.text_curve("x", [1.0, 2.0], width=2, height=2).splitlines()
        assert lines[1:3] == ["2 │ █", "1 │▁█"]

    def test_few_epochs_are_stretched(self):
        lines = plotting.text_curve("loss", [2.0, 1.0], width=60, height=1).splitlines()
        assert lines == ["loss: best 1 in epoch 2, last 1", "1 │██████▁▁▁▁▁▁", "   1          2"]

    def test_many_epochs_share_columns(self):
        lines = plotting.text_curve("x", [0, 2, 4, 6, 5, 5], width=3, height=1).splitlines()
        assert lines[1] == "1 │▁██"  # means 1, 5, 5
        assert lines[0] == "x: best 6 in epoch 4, last 5"

    def test_gaps(self):
        values = [math.nan, 1.0, math.nan, 2.0]
        lines = plotting.text_curve("x", values, width=4, height=1).splitlines()
        assert lines[1] == "1 │ ▁ █"
        lines = plotting.text_curve("x", values, width=2, height=1).splitlines()
        assert lines[1] == "1 │▁█"

    @pytest.mark.parametrize("values", [[3.0], [3.0] * 5])
    def test_a_flat_line(self, values):
        lines = plotting.text_curve("x", values, width=5, height=1).splitlines()
        assert set(lines[1]) == set("3 │▁")


def test_text_curves():
    lines = plotting.text_curves(HISTORY).splitlines()
    headings = [line for line in lines if "best" in line]
    assert headings == [
        "ndcg@100: best 0.3 in epoch 2, last 0.2",
        "loss: best 7.5 in epoch 3, last 7.5",
    ]
    assert plotting.text_curves({"loss": [math.nan], "seconds": [1.0]}) == ""


class TestPicture:
    def test_panels_hold_the_values(self):
        figure = plotting.draw({**HISTORY, "val_loss": [9.5, 9.0, 9.1]}, "title")
        panels = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
        assert panels == [["loss", "val_loss"], ["ndcg@100"], ["beta"]]
        assert figure.axes[1].get_lines()[0].get_xydata().tolist() == [[1, 0.1], [2, 0.3], [3, 0.2]]
        assert figure.get_suptitle() == "title"

    def test_what_does_not_move_is_not_drawn(self):
        figure = plotting.draw({"loss": [1.0], "seconds": [2.0], "beta": [0.2]})
        assert len(figure.axes) == 1

    def test_png(self, tmp_path):
        plotting.save_png(HISTORY, tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(FileNotFoundError, match="the folder"):
            plotting.save_png(HISTORY, tmp_path / "no" / "p.png")

    def test_without_matplotlib(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"pip install 'pyrec\[plot\]'"):
            plotting.save_png(HISTORY, tmp_path / "p.png")
        assert list(tmp_path.iterdir()) == []
