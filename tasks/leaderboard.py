"""One table over many runs: task=leaderboard, and the end of every sweep."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tasks.folders import short
from tasks.leaderboard_rows import WITH_DEVIATION, finished, make_rows, unfinished
from tasks.results import atomic_writer
from tasks.run_records import METRICS, collect, existing, select
from tasks.tables import Column, Row, Table, escape_markdown, format_mean, one_line

COLUMNS = (
    *("model", "data", "name", "tags", "changes", "parameters", "macs", "accuracy", "accuracy_sd", "measured_on"),
    *("seeds", "epochs"),
    *(key for name in METRICS[1:] for key in ((name, f"{name}_sd") if name in WITH_DEVIATION else (name,))),
    *("seconds", "cpu_seconds", "images_per_second", "device", "precision", "status", "reason", "folder", "checkpoint"),
)


def leaderboard(
    cfg: DictConfig,
    folder: Path,
    runs: str,
    failed: bool = False,
    model: str | None = None,
    data: str | None = None,
    tag: str | None = None,
) -> dict[str, Any]:
    """task=leaderboard: the table over every training run below the folder `runs`, written into `folder`.

    Args:
        cfg: the config of the task.
        folder: the task's own.
        runs: a folder.
        failed: also lists the runs that did not finish, with the reason.
        model: only runs of this model.
        data: only runs on this data set.
        tag: only runs with this tag.

    Raises:
        ValueError: there is no such folder, or no such run in it.
    """
    records = select(runs, collect(existing(runs)), model=model, data=data, tag=tag)
    rows = make_rows(records)
    others = unfinished(rows)
    write_table(Path(runs), folder, rows if failed else finished(rows))
    if others and not failed:
        print(f"not shown    {len(others)} that did not finish: task.failed=true")
    return {"runs": sum(int(row["seeds"]) for row in finished(rows)), "unfinished": len(others)}


def write_table(runs: Path, target: Path, rows: list[Row]) -> None:
    """Prints a table of runs and writes it as leaderboard.csv, .md and .png.

    Args:
        runs: the folder below which the runs are.
        target: the folder that the files are written into.
        rows: one per kind of run, and one per run that did not finish.
    """
    for table in make_tables(rows):
        table.print()
    for row in unfinished(rows):
        print(one_line(describe_unfinished(row)))
    texts = {"csv": Table(map(Column, COLUMNS), rows).to_csv(), "md": to_markdown(rows)}
    for ending, text in texts.items():
        with atomic_writer(target / f"leaderboard.{ending}") as file:
            file.write(text)
    drawn = [row for row in finished(rows) if row["macs"] is not None]
    if drawn:
        from tasks.leaderboard_plot import draw  # with matplotlib, which other tables need not wait for
        from tasks.plots import save_plot

        save_plot(draw(drawn), target / "leaderboard.png")
    place, names = short(target.absolute()), "leaderboard.md, .csv and .png" if drawn else "leaderboard.md and .csv"
    print(f"\ntable        {one_line(place)}/{names}")
    print(one_line(f"dashboard    tensorboard --logdir {shlex.quote(str(runs))}"))


def make_tables(rows: list[Row]) -> list[Table]:
    """Tables for readers of the runs that finished: one for each kind of metric, without its empty columns."""
    kinds: dict[str, list[Row]] = {}
    for row in finished(rows):
        kind = next((name for name in ("fid", "modes") if row[name] is not None), "accuracy")
        kinds.setdefault(kind, []).append(row)
    return [Table(SHOWN, of_kind).without_empty_columns() for of_kind in kinds.values()]


def metric(name: str, digits: str, unit: float = 1) -> Callable[[Row], str]:
    """Writes the mean of a metric with its standard deviation, if there is one."""
    return lambda row: format_mean(row[name], row[f"{name}_sd"], digits, unit)


def with_stage(text: str, row: Row) -> str:
    """Marks what was not measured on test images."""
    return f"{text} (val)" if text and row["measured_on"] == "validation" else text


def modes(row: Row) -> str:
    """Whole modes of one run, a mean over several."""
    return metric("modes", ".4g" if row["modes_sd"] is None else ".1f")(row)


def fid(row: Row) -> str:
    floor = f" / {row['fid_floor']:.2g}" if row["fid"] is not None and row["fid_floor"] is not None else ""
    return with_stage(metric("fid", ".3g")(row) + floor, row)


def nearest_neighbour(row: Row) -> str:
    """The total with both halves behind it: it is near 0.5 for some useless generators too."""
    total, *halves = (row[f"nearest_neighbour_accuracy{suffix}"] for suffix in ("", "_real", "_fake"))
    if total is None:
        return ""
    return f"{total:.2f}" + ("" if None in halves else f" ({', '.join(f'{half:.2f}' for half in halves)})")


def rounded(key: str) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else f"{row[key]:,.0f}"


def short_count(count: int | None) -> str:
    """
    >>> short_count(61_706), short_count(416_520), short_count(60_965_224)
    ('61.7 k', '417 k', '61.0 M')
    """
    if count is None:
        return ""
    value, unit = (count / 1e6, "M") if count >= 999_500 else (count / 1e3, "k")
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:,.0f} {unit}"


SHOWN = (
    Column("model"),
    Column("name"),
    Column("changes", text=lambda row: re.sub(r"(^| )(model|trainer|callbacks)\.", r"\1", row["changes"])),
    Column("data"),
    Column("parameters", text=lambda row: short_count(row["parameters"])),
    Column("macs", "MACs", lambda row: short_count(row["macs"])),
    Column("accuracy", "accuracy (%)", lambda row: with_stage(metric("accuracy", ".2f", 0.01)(row), row)),
    Column("fid", "FID / floor", fid),
    Column("fid_relative", "relative FID", metric("fid_relative", ".3g")),
    Column("nearest_neighbour_accuracy", "1-NN (real, generated)", nearest_neighbour),
    Column("modes", text=modes),
    Column("modes_kl", "KL", metric("modes_kl", ".2f")),
    Column("high_quality", "high quality (%)", metric("high_quality", ".1f", 0.01)),
    Column("seeds"),
    Column("epochs", text=rounded("epochs")),
    Column("seconds", "clock s", rounded("seconds")),
    Column("images_per_second", "images/s", lambda row: "" if row["modes"] else rounded("images_per_second")(row)),
    Column("folder", optional=True),
)


def to_markdown(rows: list[Row]) -> str:
    """The tables in Markdown, then the devices and the runs that did not finish."""
    parts = [table.to_markdown() for table in make_tables(rows)]
    if devices := sorted({row["device"] for row in finished(rows)} - {""}):
        text = f"Device: {'; '.join(devices)}. Seconds are of training, by the clock; (val): on validation images."
        parts.append(escape_markdown(text))
    if others := unfinished(rows):
        parts.append("\n".join(f"- {escape_markdown(describe_unfinished(row))}" for row in others))
    return "\n\n".join([*parts, ""]).rstrip("\n") + "\n"


def describe_unfinished(row: Row) -> str:
    """One run and why it is not in the table."""
    name = " ".join(str(row[key]) for key in ("model", "name", "changes", "data") if row[key])
    seed = f", seed {row['seeds']}" if row["seeds"] != "" else ""
    reason = row["reason"] if row["status"] in ("killed", "unknown", "running") else f"{row['status']}: {row['reason']}"
    return f"{name}{seed}: {reason} ({row['folder']})"
