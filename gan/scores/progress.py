"""What a long evaluation is doing, on the terminal: the stage that it has reached, and for how long it has gone on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning import Trainer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Report = Callable[[str], None]  # is called with the name of each stage that begins


def silent(stage: str) -> None:
    """Reports nothing."""


@contextmanager
def scoring_progress(trainer: Trainer) -> Iterator[Report]:
    """Shows the stages that are reported, below the progress bar of the trainer where that shows anything."""
    is_shown = getattr(trainer.progress_bar_callback, "is_enabled", False)
    columns = (TextColumn("Scoring: {task.description}"), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, transient=True, disable=not is_shown) as progress:
        task = progress.add_task("samples", total=None)
        yield lambda stage: progress.update(task, description=stage)
