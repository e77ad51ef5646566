"""How a task labels and saves its plots."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from tasks.results import atomic_writer


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

    The limits and the layout of the figure have to be what they will be. Where all sides are taken the first is used.
    """
    pixels = axes.transData.transform(points)
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in pixels]
    sides = [(7, 0), (-7, 0), (6, 8), (6, -8), (-6, 8), (-6, -8)]  # in printer's points
    for point, text in zip(points, texts, strict=True):
        labels = [
            axes.annotate(text, point, side, textcoords="offset points", fontsize=8, va="center") for side in sides
        ]
        for label, (x, _) in zip(labels, sides, strict=True):
            label.set_horizontalalignment("left" if x > 0 else "right")
        boxes = [label.get_window_extent() for label in labels]
        free = [not any(box.overlaps(other) for other in taken) for box in boxes]
        chosen = free.index(True) if any(free) else 0
        taken.append(boxes[chosen])
        for number, label in enumerate(labels):
            if number != chosen:
                label.remove()
