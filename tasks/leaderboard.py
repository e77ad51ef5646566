"""One table over many runs: task=leaderboard, and the end of every sweep."""

import csv
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = (
    *("model", "data", "changes", "parameters", "macs", "accuracy", "accuracy_sd", "measured_on", "seeds", "epochs"),
    *("fid", "fid_sd", "fid_floor", "modes", "modes_sd", "modes_kl", "modes_kl_sd", "high_quality", "high_quality_sd"),
    *("seconds", "images_per_second", "device", "precision", "reason"),
)
MODES = ("modes", "modes_kl", "high_quality")  # of gan/modes.py, after samples/
WIDTH = 120  # characters that the table needs, or its columns would be cut off
SHOWN = (
    *("model", "changes", "data", "parameters", "MACs", "accuracy (%)", "FID / floor", "modes", "KL"),
    *("high quality (%)", "seeds", "epochs", "s", "images/s"),
)


def leaderboard(cfg: DictConfig) -> None:
    """task=leaderboard: the table over every run below `task.folder`, written into this run's own folder."""
    folder = Path(cfg.task.folder)
    if not folder.is_dir():
        raise ValueError(f"task.folder={folder}: no such folder")
    write_table(folder, Path(HydraConfig.get().runtime.output_dir))


class SweepTable(Callback):
    """Writes the table when a sweep ends, of whatever task, failed jobs or not; then its exit status is 1."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        failed = write_table(folder, folder, every_task=True)
        if failed:
            sys.stdout.flush()
            raise SystemExit(1)


def write_table(folder: Path, target: Path, every_task: bool = False) -> int:
    """Collects the runs below `folder` into leaderboard.csv, .md and .png in `target`; returns how many failed.

    These are training runs, with `every_task` also what else was done there: nets that were summarized, say.

    Raises:
        ValueError: there is no run.
    """
    records = collect(folder, every_task)
    if not records:
        raise ValueError(f"{folder} holds no run")
    rows = summarize(records)
    with open(target / "leaderboard.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (target / "leaderboard.md").write_text(markdown(rows))
    from tasks.leaderboard_figure import draw  # with matplotlib, which no other run should wait for

    if rows_of_size := [row for row in rows if row.get("macs") is not None]:
        draw(rows_of_size, target / "leaderboard.png")
    show(rows)
    print(f"\ntable        {target}/leaderboard.md, .csv and .png\ndashboard    tensorboard --logdir {folder}")
    return sum(row["reason"] != "" for row in rows)


def collect(folder: Path, every_task: bool = False) -> list[dict[str, Any]]:
    """What the runs below a folder left; of a run that was killed outright, that it left nothing."""
    from tasks.results import NAME, read

    records = []
    for config in sorted(folder.rglob(".hydra/overrides.yaml")):
        run = config.parent.parent
        overrides = [line.removeprefix("- ").strip() for line in config.read_text().splitlines()]
        unknown = {"status": "failed", "reason": "no results.json: still running, or killed", "overrides": overrides}
        task = next((text.removeprefix("task=") for text in overrides if text.startswith("task=")), "train")
        record = read(run / NAME) or unknown | {"folder": str(run), "task": task}
        if every_task or record["task"] == "train":
            records.append(record)
    return records


def changes(record: dict[str, Any], common: set[str]) -> str:
    """What tells a run from another of the same model and data: its experiment and overrides, without the seed."""
    ignored = ["model=", "data=", "seed=", "experiment=", "hydra", "trainer.accelerator=", "[]"]
    ignored += ["~callbacks.progress_bar"]  # nothing of the run itself
    ignored += ["ckpt_path="] if record["task"] == "train" else []  # the same run went on
    kept = [text for text in record["overrides"] if text not in common and not text.startswith(tuple(ignored))]
    return " ".join(([record["experiment"]] if record.get("experiment") else []) + kept)


def summarize(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a kind of run, over its seeds, best accuracy, most modes or least FID first; a row a failed run, last."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    failed = []
    common = set.intersection(*(set(record["overrides"]) for record in records))
    for record in records:
        chosen = dict(text.split("=", 1) for text in record["overrides"] if "=" in text)
        name = [record.get(key) or chosen.get(key, "") for key in ("model", "data")]
        name[0] = name[0] or Path(record["folder"]).name
        name.append(changes(record, common))
        if record["status"] == "finished":
            groups[*name, record.get("device", "")].append(record)
        else:
            reason = f"{record['status']}: {record['reason']}"
            seed = chosen.get("seed", "")
            failed.append(
                dict(zip(("model", "data", "changes"), name, strict=True)) | {"seeds": seed, "reason": reason}
            )
    done = [summary(name, group) for name, group in groups.items()]
    done.sort(key=lambda row: (row["data"], -(row["accuracy"] or row["modes"] or 0.0), row["fid"] or 0.0, row["model"]))
    return done + failed


def summary(name: tuple[str, ...], group: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1) over the seeds of one kind of run."""
    metric = next((key for key in ("test/accuracy", "val/accuracy") if key in group[0]), None)
    judged = next((key for key in ("test/fid", "val/fid") if key in group[0]), "")
    accuracies = [record[metric] for record in group] if metric else []
    others = sorted(
        {key for record in group for key, value in record.items() if "/" in key and isinstance(value, float)}
    )
    return {
        **{"model": name[0], "data": name[1], "changes": name[2], "device": name[3], "reason": ""},
        "parameters": group[0].get("parameters"),
        "macs": group[0].get("macs"),
        "accuracy": statistics.fmean(accuracies) if metric else None,
        "accuracy_sd": deviation(group, metric) if metric else None,
        "measured_on": (metric or judged).split("/")[0].replace("val", "validation"),
        "seeds": len({record["seed"] for record in group}),
        "epochs": group[0].get("epochs"),
        "precision": group[0].get("precision"),
        **{key: mean(group, key) for key in ("seconds", "images_per_second")},
        **{"fid": mean(group, judged), "fid_sd": deviation(group, judged), "fid_floor": mean(group, f"{judged}_floor")},
        **{key: mean(group, f"samples/{key}") for key in MODES},
        **{f"{key}_sd": deviation(group, f"samples/{key}") for key in MODES},
        "metrics": {key: mean(group, key) for key in others},
    }


def mean(group: list[dict[str, Any]], key: str) -> float | None:
    values = [record[key] for record in group if key in record]
    return statistics.fmean(values) if values else None


def deviation(group: list[dict[str, Any]], key: str) -> float | None:
    values = [record[key] for record in group if key in record]
    return statistics.stdev(values) if len(values) > 1 else None


def tables_of(rows: list[dict[str, Any]]) -> list[list[tuple[str, ...]]]:
    """Header and rows as people read them, without the columns in which nothing stands: a table a kind of figure."""
    kinds: dict[str, list[list[str]]] = {}
    for row in rows:
        kind = next((key for key in ("fid", "modes") if row[key] is not None), "accuracy")
        kinds.setdefault(kind, [list(SHOWN)]).append(cells(row))
    filled = [[column for column in zip(*table, strict=True) if any(column[1:])] for table in kinds.values()]
    return [list(zip(*columns, strict=True)) for columns in filled]


def cells(row: dict[str, Any]) -> list[str]:
    """A row as people read it: accuracy in per cent with its standard deviation, counts in thousands and millions."""
    counts = [short_count(row["parameters"]), short_count(row["macs"]), accuracy(row)]
    fid = f"{spread(row, 'fid', '{:.4g}')} / {row['fid_floor']:.2g}{held_out(row)}" if row["fid"] is not None else ""
    modes = [spread(row, "modes", "{:.4g}"), spread(row, "modes_kl", "{:.2f}")]
    samples = [fid, *modes, spread(row, "high_quality", "{:.1f}", 100)]
    costs = [f"{row[key]:,.0f}" if row[key] is not None else "" for key in ("epochs", "seconds", "images_per_second")]
    costs[2] = costs[2] if row["modes"] is None else ""  # there are enough columns
    return [row["model"], row["changes"], row["data"], *counts, *samples, str(row["seeds"]), *costs]


def accuracy(row: dict[str, Any]) -> str:
    """
    >>> accuracy({"accuracy": 0.9911, "accuracy_sd": 0.0004, "measured_on": "validation"})
    '99.11 +- 0.04 (val)'
    """
    spread = f" +- {100 * row['accuracy_sd']:.2f}" if row["accuracy_sd"] is not None else ""
    return f"{100 * row['accuracy']:.2f}{spread}{held_out(row)}" if row["accuracy"] is not None else ""


def held_out(row: dict[str, Any]) -> str:
    """What stands behind a figure that is not of test images."""
    return " (val)" if row["measured_on"] == "validation" else ""


def spread(row: dict[str, Any], key: str, form: str, unit: int = 1) -> str:
    """A mean with its standard deviation, where there are several seeds.

    >>> spread({"modes": 7.5, "modes_sd": 0.5}, "modes", "{:.3g}")
    '7.5 +- 0.5'
    """
    values = (row[key], row[f"{key}_sd"])
    return " +- ".join(form.format(unit * value) for value in values if value is not None)


def short_count(count: int | None) -> str:
    """
    >>> short_count(61_706), short_count(416_520), short_count(60_965_224)
    ('61.7 k', '417 k', '61.0 M')
    """
    if count is None:
        return ""
    value, unit = (count / 1e6, "M") if count >= 999_500 else (count / 1e3, "k")
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:,.0f} {unit}"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown, then the devices and what failed."""
    done, failed = split(rows)
    lines: list[str] = []
    for header, *body in tables_of(done):
        lines += [*([""] if lines else []), f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
        lines += [f"| {' | '.join(row)} |" for row in body]
    if devices := sorted({row["device"] for row in done} - {""}):
        lines += ["", f"Device: {'; '.join(devices)}. Seconds are of training alone, (val) is on validation images."]
    return "\n".join([*lines, *([""] if failed else []), *map(failure, failed), ""])


def split(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return [row for row in rows if not row["reason"]], [row for row in rows if row["reason"]]


def failure(row: dict[str, Any]) -> str:
    return f"- {' '.join(filter(None, (row['model'], row['changes'], row['data'])))}: {row['reason']}"


def show(rows: list[dict[str, Any]]) -> None:
    done, failed = split(rows)
    for header, *body in tables_of(done):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in header:
            table.add_column(name, overflow="fold")
        for line in body:
            table.add_row(*(re.sub(r"(^| )(model|trainer|callbacks)\.", r"\1", cell) for cell in line))
        Console(width=max(WIDTH, Console().width)).print(table)
    for row in failed:
        print(failure(row))
