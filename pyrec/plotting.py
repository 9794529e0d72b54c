"""How training went, drawn from ``model.history``: curves of text, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec.files import StrPath, atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "require_matplotlib", "save_png", "text_curve", "text_curves"]

_EIGHTHS = " ▁▂▃▄▅▆▇█"
# What a history holds beside the curves of interest: no goal of training.
_ASIDE = ("seconds", "beta")

History = Mapping[str, Sequence[float]]


def text_curves(history: History, *, width: int = 60, height: int = 5) -> str:
    """Return one `text_curve` for each metric and loss of a history that has a value.

    Parameters
    ----------
    history : dict of str to list of float
        ``model.history``: a value an epoch, NaN where there is none.
    width, height : int
        The most characters across, and the lines, of each curve.

    Returns
    -------
    str
        The validation metrics come first, then the losses; empty without any.
    """
    names = sorted((n for n in history if n not in _ASIDE), key=lambda n: (is_loss(n), n))
    curves = [
        text_curve(name, history[name], width=width, height=height)
        for name in names
        if np.isfinite(history[name]).any()
    ]
    return "\n".join(curves)


def text_curve(name: str, values: Sequence[float], *, width: int = 60, height: int = 5) -> str:
    """Draw one value an epoch as columns of block characters.

    Parameters
    ----------
    name : str
        Named in the heading, with the best value: the lowest of a loss, otherwise the highest.
    values : (n_epochs,) float
        At least one is finite; an epoch without a value (NaN) leaves a gap.
    width, height : int
        The most characters across, and the lines. More epochs than `width` share columns, which
        show their mean.

    Returns
    -------
    str
        `height` + 2 lines without a newline at the end.
    """
    epochs = np.asarray(values, np.float64)
    best = int(np.nanargmin(epochs) if is_loss(name) else np.nanargmax(epochs))
    columns = _columns(epochs, width)
    low, high = np.nanmin(columns), np.nanmax(columns)
    share = (columns - low) / ((high - low) or 1.0)
    # The lowest column is one eighth of a line high, so that it can be told from a gap.
    levels = np.nan_to_num(1 + np.round(share * (8 * height - 1)), nan=0).astype(int)
    margin = max(len(f"{v:.4g}") for v in (low, high))
    lines = [f"{name}: best {epochs[best]:.4g} in epoch {best + 1}, last {epochs[-1]:.4g}"]
    for row in reversed(range(height)):
        label = {height - 1: f"{high:.4g}", 0: f"{low:.4g}"}.get(row, "")
        blocks = "".join(_EIGHTHS[level] for level in np.clip(levels - 8 * row, 0, 8))
        lines.append(f"{label:>{margin}} │{blocks.rstrip()}")
    last = str(len(epochs))
    lines.append(" " * (margin + 2) + "1" + last.rjust(max(len(columns), len(last) + 2) - 1))
    return "\n".join(lines)


def save_png(history: History, path: StrPath, title: str = "") -> None:
    """Write `draw`'s picture of a history as PNG, whole or not at all.

    Raises
    ------
    ImportError
        matplotlib is not installed (the extra ``plot``).
    FileNotFoundError, IsADirectoryError, PermissionError
        The file cannot be written.
    """
    figure = draw(history, title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def draw(history: History, title: str = "") -> Figure:
    """Draw the losses, the validation metrics, and β where a schedule moves it, by epoch.

    Parameters
    ----------
    history : dict of str to list of float
        ``model.history``.
    title : str
        Above the picture.

    Returns
    -------
    matplotlib.figure.Figure
        A panel each; notebooks show it. No window and no global state of matplotlib is touched.

    Raises
    ------
    ImportError
        matplotlib is not installed (the extra ``plot``).
    """
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    losses = [name for name in history if is_loss(name)]
    metrics = [name for name in history if not is_loss(name) and name not in _ASIDE]
    beta = ["beta"] if len(set(history.get("beta", ()))) > 1 else []
    panels = [names for names in (losses, metrics, beta) if names] or [[]]
    figure = Figure(figsize=(4.8 * len(panels), 3.6), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            values = history[name]
            # One epoch is a point: a line would not be seen.
            axes.plot(
                range(1, len(values) + 1), values, label=name, marker="." * (len(values) < 30)
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if names:
            axes.legend()
    figure.suptitle(title)
    return figure


def require_matplotlib() -> None:
    """Raise an ImportError that says how to get matplotlib, unless it is there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("matplotlib is not installed: pip install 'pyrec[plot]'") from error


def is_loss(name: str) -> bool:
    """Whether lower is better."""
    return name.endswith("loss")


def _columns(epochs: NDArray[Any], width: int) -> NDArray[Any]:
    """Stretch a few epochs, or average many, to at most `width` columns."""
    if len(epochs) <= width:
        return np.repeat(epochs, min(6, width // len(epochs)))
    known = np.isfinite(epochs)
    starts = np.linspace(0, len(epochs), width, endpoint=False).astype(int)
    sums = np.add.reduceat(np.where(known, epochs, 0.0), starts)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    means = np.full(width, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
