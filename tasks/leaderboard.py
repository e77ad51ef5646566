"""One table over many runs: task=leaderboard, and the end of every sweep."""

import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from tasks.folders import short
from tasks.results import atomic_writer
from tasks.run_records import METRICS, STAGES, Record, collect
from tasks.tables import Column, Row, Table, deviation, escape_markdown, format_mean, mean, one_line

WITH_DEVIATION = tuple(name for name in METRICS if not name.endswith("_floor"))
COLUMNS = (
    *("model", "data", "changes", "parameters", "macs", "accuracy", "accuracy_sd", "measured_on", "seeds", "epochs"),
    *(key for name in METRICS[1:] for key in ((name, f"{name}_sd") if name in WITH_DEVIATION else (name,))),
    *("seconds", "images_per_second", "device", "precision", "status", "reason", "folder"),
)
IGNORED_OVERRIDES = (  # nothing of the run itself, or in another column
    *("model=", "data=", "seed=", "experiment=", "hydra", "trainer.accelerator=", "[]", "~callbacks.progress_bar"),
)


def leaderboard(cfg: DictConfig, folder: Path, runs: str) -> dict[str, Any]:
    """task=leaderboard: the table over every training run below the folder `runs`, written into `folder`.

    Raises:
        ValueError: there is no such folder, or no run in it.
    """
    if not Path(runs).is_dir():
        raise ValueError(f"task.runs={runs}: no such folder")
    rows = write_table(Path(runs), folder)
    return {"runs": sum(int(row["seeds"]) for row in finished(rows)), "unfinished": len(unfinished(rows))}


class SweepTable(Callback):
    """Writes the table when a sweep ends, of whatever task, failed jobs or not; then its exit status is 1."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        if not any(path.is_dir() for path in folder.iterdir()):
            shutil.rmtree(folder)  # which holds Hydra's multirun.yaml alone
            print("Error: this sweep has no jobs, one of its options stands for no value", file=sys.stderr)
            raise SystemExit(2)
        if unfinished(write_table(folder, folder, every_task=True)):
            sys.stdout.flush()
            raise SystemExit(1)


def write_table(runs: Path, target: Path, every_task: bool = False) -> list[Row]:
    """Prints the table of the runs below a folder and writes it as leaderboard.csv, .md and .png into `target`.

    Args:
        runs: the folder.
        target: another one, or the same.
        every_task: not only training runs, but also what else was done there: nets that were summarized, say.

    Returns:
        The rows: one per kind of run, and one per run that did not finish.

    Raises:
        ValueError: there is no run.
    """
    records = collect(runs, every_task)
    if not records:
        raise ValueError(f"{runs} holds no run")
    rows = make_rows(records)
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
    print(f"\ntable        {one_line(place)}/{names}\ndashboard    tensorboard --logdir {one_line(str(runs))}")
    return rows


def make_rows(records: list[Record]) -> list[Row]:
    """One row per kind of run, over its seeds, the best of each data set first; then one per unfinished run."""
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    others: list[Row] = []
    common = set.intersection(*(set(record["overrides"]) for record in records))
    for record in records:
        chosen = dict(text.split("=", 1) for text in record["overrides"] if "=" in text)
        model, data = (record.get(key) or chosen.get(key, "") for key in ("model", "data"))
        names = (model or Path(record["folder"]).name, data, list_changes(record, common))
        if record["status"] == "finished":
            groups[*names, record.get("device") or ""].append(record)
        else:
            row = dict(zip(("model", "data", "changes"), names, strict=True))
            row |= {"seeds": record.get("seed", chosen.get("seed", "")), "folder": record["folder"]}
            others.append(row | {key: record.get(key) or "" for key in ("status", "reason")})
    rows = [summarize(names, group) for names, group in groups.items()]
    return [*sorted(rows, key=rank), *others]


def rank(row: Row) -> tuple[Any, ...]:
    """By data set; then the highest accuracy, the most modes or the lowest FID first."""
    return row["data"], -(row["accuracy"] or row["modes"] or 0.0), row["fid"] or 0.0, row["model"]


def list_changes(record: Record, common: set[str]) -> str:
    """What tells a run from others of the same model and data: its experiment and its overrides, without the seed."""
    resumed = ("ckpt_path=",) if record["task"] == "train" else ()  # the same run went on
    ignored = (*IGNORED_OVERRIDES, *resumed)
    kept = [text for text in record["overrides"] if text not in common and not text.startswith(ignored)]
    return " ".join(([record["experiment"]] if record.get("experiment") else []) + kept)


def summarize(names: tuple[str, ...], group: list[Record]) -> dict[str, Any]:
    """The row of one kind of run: means over its seeds, and standard deviations (n - 1)."""
    group = latest_per_seed(group)
    first = group[0]
    row: dict[str, Any] = dict(zip(("model", "data", "changes", "device"), names, strict=True))
    row |= {"status": "finished", "reason": "", "folder": first["folder"] if len(group) == 1 else ""}
    row |= {key: first.get(key) for key in ("parameters", "macs", "epochs", "precision")}
    row |= {"seeds": len(group), "measured_on": measured_on(first)}
    row |= {key: mean(values(group, key)) for key in ("seconds", "images_per_second")}
    for name in METRICS:
        numbers = values(group, *(f"{stage}/{name}" for stage in STAGES))
        row |= {name: mean(numbers), f"{name}_sd": deviation(numbers)}
    return row


def latest_per_seed(group: list[Record]) -> list[Record]:
    """One record per seed: a run that was repeated must not count twice in a mean."""
    ordered = sorted(group, key=lambda record: record.get("started") or "")
    return list({record.get("seed"): record for record in ordered}.values())


def values(group: list[Record], *keys: str) -> list[float]:
    """The numbers under the first of the keys that any of the records has."""
    key = next((key for key in keys if any(record.get(key) is not None for record in group)), "")
    return [record[key] for record in group if record.get(key) is not None]


def measured_on(record: Record) -> str:
    """The images behind a record's metrics: "test", "validation", or none of a set that has no such split."""
    stage = next((stage for stage in STAGES if any(f"{stage}/{name}" in record for name in METRICS)), "samples")
    return {"test": "test", "val": "validation", "samples": ""}[stage]


def finished(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "finished"]


def unfinished(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] != "finished"]


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
    Column("changes", text=lambda row: re.sub(r"(^| )(model|trainer|callbacks)\.", r"\1", row["changes"])),
    Column("data"),
    Column("parameters", text=lambda row: short_count(row["parameters"])),
    Column("macs", "MACs", lambda row: short_count(row["macs"])),
    Column("accuracy", "accuracy (%)", lambda row: with_stage(metric("accuracy", ".2f", 0.01)(row), row)),
    Column("fid", "FID / floor", fid),
    Column("fid_relative", "relative FID", metric("fid_relative", ".3g")),
    Column("nearest_neighbour_accuracy", "1-NN (real, generated)", nearest_neighbour),
    Column("modes", text=metric("modes", ".4g")),
    Column("modes_kl", "KL", metric("modes_kl", ".2f")),
    Column("high_quality", "high quality (%)", metric("high_quality", ".1f", 0.01)),
    Column("seeds"),
    Column("epochs", text=rounded("epochs")),
    Column("seconds", "s", rounded("seconds")),
    Column("images_per_second", "images/s", lambda row: "" if row["modes"] else rounded("images_per_second")(row)),
)


def to_markdown(rows: list[Row]) -> str:
    """The tables in Markdown, then the devices and the runs that did not finish."""
    parts = [table.to_markdown() for table in make_tables(rows)]
    if devices := sorted({row["device"] for row in finished(rows)} - {""}):
        text = f"Device: {'; '.join(devices)}. Seconds are of training alone, (val) is on validation images."
        parts.append(escape_markdown(text))
    if others := unfinished(rows):
        parts.append("\n".join(f"- {escape_markdown(describe_unfinished(row))}" for row in others))
    return "\n\n".join([*parts, ""]).rstrip("\n") + "\n"


def describe_unfinished(row: Row) -> str:
    """One run and why it is not in the table."""
    name = " ".join(str(row[key]) for key in ("model", "changes", "data") if row[key])
    seed = f", seed {row['seeds']}" if row["seeds"] != "" else ""
    reason = row["reason"] if row["status"] == "unknown" else f"{row['status']}: {row['reason']}"
    return f"{name}{seed}: {reason} ({row['folder']})"
