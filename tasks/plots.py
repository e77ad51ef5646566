"""How a task labels and saves its plots."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from tasks.results import atomic_writer

SIDES = ((7, 0), (-7, 0), (6, 8), (6, -8), (-6, 8), (-6, -8))  # of a point, in printer's points


def save_plot(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Writes a PNG, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_writer(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name's characters that the font lacks
        figure.savefig(file, dpi=dpi, format="png")


def label_points(axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Writes a text beside each point, on the first of six sides where it covers neither points nor earlier texts.

    The limits and the layout of the figure have to be what they will be. Where all sides are taken the last is used.
    """
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in axes.transData.transform(points)]
    for point, text in zip(points, texts, strict=True):
        for side in SIDES:
            alignment = "left" if side[0] > 0 else "right"
            label = axes.annotate(text, point, side, textcoords="offset points", fontsize=8, ha=alignment, va="center")
            box = label.get_window_extent()
            if side == SIDES[-1] or not any(map(box.overlaps, taken)):
                taken.append(box)
                break
            label.remove()
