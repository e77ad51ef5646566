"""task=records: the published records of runs; with `task.add` the page docs/league.md is made from them."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from datamodules.contract import LocalPath
from tasks.league import make_rows, page, print_tables
from tasks.league_plot import draw_plots
from tasks.overrides import CONF
from tasks.plots import save_plot
from tasks.published_runs import (
    PARTS,
    RECORDS,
    check_parts,
    check_publishable,
    publish,
    publish_part,
    published_groups,
    runs_of,
)
from tasks.results import atomic_writer
from tasks.tries import is_try, merged_tries, published_tries, write_tries

ROOT = CONF.parent
PAGE = Path("docs", "league.md")


def records(cfg: DictConfig, folder: Path, add: list[LocalPath] | None = None) -> dict[str, Any]:
    """Lists the published runs of named experiments.

    Args:
        cfg: the config of the task.
        folder: the task's own; nothing is written there.
        add: folders with runs of experiments; those that have finished become records in published/runs, those that
            were not tested (trainer.limit_test_batches=0) tries of their recipe, those of task=small_data records in
            published/small_data. The page of docs/ is made anew from all that are there, also with an empty list.

    Raises:
        ValueError: a folder has no such run, one cannot be published, or this is not a checkout with docs/.
    """
    if add is not None and not (ROOT / "docs").is_dir():
        raise ValueError("task.add: there is no docs/ beside run.py, pages are made in a checkout of the project")
    runs = [record for place in add or () for record in runs_of(place)]
    parts = [record for record in runs if record["task"] == "small_data"]
    trained = [record for record in runs if record["task"] == "train"]
    found = [record for record in trained if not is_try(record)]
    check_publishable(found, ROOT)
    check_parts(parts, ROOT)
    tries = merged_tries((record for record in trained if is_try(record)), ROOT)
    for record in found:
        publish(record, ROOT)
    for record in parts:
        publish_part(record, ROOT)
    for path, made in tries.items():
        write_tries(path, made)
    groups = published_groups(ROOT)
    rows = make_rows(groups)
    print_tables(rows)
    if runs:
        print(
            f"added        {len(runs)} {'run' if len(runs) == 1 else 'runs'} to {PARTS if parts == runs else RECORDS}"
        )
    if add is not None:
        text = page(groups, rows, published_tries(ROOT / RECORDS))
        with atomic_writer(ROOT / PAGE) as file:
            file.write(text)
        for name, figure in draw_plots(groups, rows).items():
            save_plot(figure, ROOT / PAGE.with_name(name))
        print(f"written      {PAGE}, and its plots beside it")
    return {}
