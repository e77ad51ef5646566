"""task=records: the published records of runs; with `task.add` the page docs/league.md is made from them."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from datamodules.contract import LocalPath
from tasks.config import CONF
from tasks.league import draw_plots, make_rows, page, print_tables
from tasks.plots import save_plot
from tasks.published_runs import RECORDS, check_publishable, publish, published_groups, runs_of
from tasks.results import atomic_writer

ROOT = CONF.parent
PAGE = Path("docs", "league.md")


def records(cfg: DictConfig, folder: Path, add: list[LocalPath] | None = None) -> dict[str, Any]:
    """Lists the published runs of named experiments.

    Args:
        cfg: the config of the task.
        folder: the task's own; nothing is written there.
        add: folders with runs of experiments; those that have finished become records in published/runs, and the page
            of docs/ is made anew from all that are there, also with an empty list.

    Raises:
        ValueError: a folder has no such run, one cannot be published, or this is not a checkout with docs/.
    """
    if add is not None and not (ROOT / "docs").is_dir():
        raise ValueError("task.add: there is no docs/ beside run.py, pages are made in a checkout of the project")
    found = [record for path in add or () for record in runs_of(path)]
    check_publishable(found, ROOT)
    for record in found:
        publish(record, ROOT)
    groups = published_groups(ROOT)
    rows = make_rows(groups)
    print_tables(rows)
    if found:
        print(f"added        {len(found)} {'run' if len(found) == 1 else 'runs'} to {RECORDS}")
    if add is not None:
        with atomic_writer(ROOT / PAGE) as file:
            file.write(page(groups, rows))
        for name, figure in draw_plots(groups, rows).items():
            save_plot(figure, ROOT / PAGE.with_name(name))
        print(f"written      {PAGE}, and its plots beside it")
    return {}
