"""The picture beside the table: how many times pyrec's time the rivals take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peers.install import NAMES

if TYPE_CHECKING:
    from table import Row

# Of Okabe and Ito: told apart by everybody.
BAR, LIBRARY, PLAIN = "#56B4E9", "#D55E00", "#000000"


def draw(rows: list[Row], head: str, path: Path) -> None:
    """Bars up to the quickest rival, a mark for each rival, on a scale of powers of ten."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "pyrec"  # the same figures, the same file
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.rival and not row.kernel][::-1]
    if not shown:
        return
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(shown) + 1.4), layout="constrained")
    lengths = [row.ratios[row.rival] - 1 for row in shown]
    axes.barh([row.job for row in shown], lengths, left=1, color=BAR)
    for place, row in enumerate(shown):
        for name, ratio in row.ratios.items():
            library = name in NAMES
            axes.plot(
                ratio, place, "o" if library else "d", color=LIBRARY if library else PLAIN, ms=5
            )
        axes.annotate(
            f"{row.ratios[row.rival]:.1f}  {'; '.join(sorted(row.ratios, key=row.ratios.get))}",
            (max(row.ratios.values()), place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_xscale("log")
    axes.axvline(1, color="black", lw=1)
    ratios = [ratio for row in shown for ratio in row.ratios.values()]
    axes.set_xlim(0.8 * min(1, *ratios), 12 * max(1, *ratios))
    axes.set_xlabel(
        "times pyrec's time; bar: the quickest rival, dots: libraries, diamonds: plain code"
    )
    axes.set_title(head.split(". In the same run")[0], fontsize=8, loc="left", wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", labelsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
