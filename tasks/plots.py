"""How a task saves its plots."""

import warnings
from pathlib import Path

from matplotlib.figure import Figure

from tasks.results import atomic_writer


def save_plot(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Writes a PNG, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_writer(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name's characters that the font lacks
        figure.savefig(file, dpi=dpi, format="png")
