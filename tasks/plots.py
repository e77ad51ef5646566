"""How a task labels and saves its plots."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tasks.results import atomic_writer

SIDES = [(x, y) for y in (0, 7, -7, 15, -15, 23, -23, 31, -31, 40, -40) for x in (8, -8)]  # of a point, for its label
LINE = {"arrowstyle": "-", "linewidth": 0.5, "color": "gray"}  # to a label that is not beside its point


def save_plot(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Writes a PNG, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_writer(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name's characters that the font lacks
        figure.savefig(file, dpi=dpi, format="png")


def label_points(
    axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str], spreads: Sequence[float]
) -> None:
    """Writes a text near each point, at the first of SIDES where it covers no point, error bar or earlier text.

    The limits and the layout of the figure have to be what they will be. Where all sides are taken the last is used.
    """
    ends = [[(x, max(y - spread, y / 10)), (x, y + spread)] for (x, y), spread in zip(points, spreads, strict=True)]
    bars = [axes.transData.transform(pair) for pair in ends]
    taken = [Bbox.from_extents(low[0] - 5, low[1] - 5, high[0] + 5, high[1] + 5) for low, high in bars]
    for point, text in zip(points, texts, strict=True):
        for side in SIDES:
            alignment = "left" if side[0] > 0 else "right"
            line = LINE if abs(side[1]) > 7 else None
            label = axes.annotate(
                text, point, side, textcoords="offset points", fontsize=8, ha=alignment, va="center", arrowprops=line
            )
            label.get_window_extent()  # which finds its place
            box = Text.get_window_extent(label)  # without its line
            if side == SIDES[-1] or not any(map(box.overlaps, taken)):
                taken.append(box)
                break
            label.remove()
