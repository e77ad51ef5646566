"""Two runs side by side: what differs in their configs and metrics, and their curves in one plot."""

import csv
import io
import logging
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from datamodules.bounded import READ_ERRORS, open_file, reason
from tasks import folders
from tasks.plots import save_plot
from tasks.results import MAX_BYTES, atomic_writer, leaves
from tasks.run_records import COUNTS, Record, is_number, read_run
from tasks.tables import Column, Row, Table, one_line

Curve = list[tuple[float, float]]  # steps and values
MAX_PANELS = 12
MAX_EVENTS = 10_000  # of a curve
MAX_ROWS = 1_000_000  # of a CSV
FIRST = ("val/accuracy", "val/fid", "val/loss", "train/loss", "train/accuracy")  # curves that are shown before others


def compare_runs(a: Path, b: Path, target: Path) -> dict[str, Any]:
    """Prints what differs between two runs, and writes it with their curves as comparison.csv, .md and .png.

    Args:
        a: folder of a run.
        b: of another one.
        target: the folder that the files are written into.

    Raises:
        ValueError: one of them is not the folder of a run.
    """
    configs, records = [read_config(folder) for folder in (a, b)], [read_run(folder) for folder in (a, b)]
    rows = [*differing_keys(*configs), *differing_metrics(*records)]
    table = Table([Column("key"), Column("a"), Column("b")], rows)
    names = {"a": one_line(str(a)), "b": one_line(str(b))}
    print("\n".join(f"{letter}            {name}" for letter, name in names.items()))
    table.print(min_width=80)
    curves = (read_curves(a), read_curves(b))
    texts = {"csv": table.to_csv(), "md": table.to_markdown() + "\n"}
    for ending, text in texts.items():
        with atomic_writer(target / f"comparison.{ending}") as file:
            file.write(text)
    if shown := common_curves(*curves):
        save_plot(draw(shown, *curves, names), target / "comparison.png")
    files = f"comparison.md and .csv{', and the curves as .png' if shown else ''}"
    print(f"written      {one_line(folders.short(target.absolute()))}/{files}")
    return {"compared": [str(a), str(b)], "differing": [row["key"] for row in rows]}


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a run by dotted keys.

    Raises:
        ValueError: there is none, or it is not one that a run would write.
    """
    path = folder / folders.CONFIG
    if not path.is_file():
        raise ValueError(f"task.compare: {folder} is not the folder of a run, it has no {folders.CONFIG}")
    try:
        with open_file(path, MAX_BYTES) as file:
            text = file.read().decode()
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):  # which can repeat a part at no cost
            raise ValueError("it has aliases")
        config = OmegaConf.to_container(OmegaConf.create(text))
        if not isinstance(config, dict):
            raise ValueError("it is not a mapping")
        kept = {key: value for key, value in leaves(config).items() if not key.startswith(("overrides", "choices"))}
        str(kept)  # what cannot be written, such as an integer of thousands of digits, is an error here
        return kept
    except Exception as error:  # of several libraries
        raise ValueError(f"{path}: cannot be read ({one_line(str(error))[:200]})") from error


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Row]:
    """A row for each key whose values differ; a key that one of the configs lacks is an empty cell there.

    >>> differing_keys({"seed": 0, "model.depth": 11}, {"seed": 1, "model.depth": 11})
    [{'key': 'seed', 'a': '0', 'b': '1'}]
    """

    def text(config: Mapping[str, Any], key: str) -> str:
        return str(config[key]) if key in config else ""

    keys = (key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key))
    return [{"key": key, "a": text(a, key), "b": text(b, key)} for key in keys]


def differing_metrics(a: Record, b: Record) -> list[Row]:
    """A row for the status and each metric that differs."""
    keys = ["status", *(key for key in dict.fromkeys([*a, *b]) if "/" in key or key in COUNTS)]

    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)

    return [{"key": key, "a": text(a.get(key)), "b": text(b.get(key))} for key in keys if a.get(key) != b.get(key)]


def read_curves(folder: Path) -> dict[str, Curve]:
    """The curves that a run's logger wrote, TensorBoard's or CSV files, by their names.

    Raises:
        ValueError: a file is none that a logger would write.
    """
    curves: dict[str, Curve] = {}
    for path in sorted(folder.glob("csv_*/metrics.csv")):
        read_csv(path, curves)
    if any(folder.glob("events.out.tfevents.*")):
        read_events(folder, curves)
    return {name: sorted(curve) for name, curve in curves.items()}


def read_csv(path: Path, curves: dict[str, Curve]) -> None:
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8", errors="replace", newline="") as file:
            for row in islice(csv.DictReader(file), MAX_ROWS):
                step = number(row.get("step"))
                for name, text in row.items():
                    value = number(text)
                    if step is not None and value is not None and "/" in str(name):
                        curves.setdefault(name, []).append((step, value))
    except (csv.Error, *READ_ERRORS) as error:
        raise ValueError(f"{path}: cannot be read ({reason(error)}); to compare the rest, remove it") from error


def number(text: Any) -> float | None:
    try:
        return value if is_number(value := float(text)) else None
    except (TypeError, ValueError):
        return None


def read_events(folder: Path, curves: dict[str, Curve]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if others := [file for file in folder.glob("*tfevents*") if not file.is_file()]:  # a pipe would be waited for
        raise ValueError(f"{others[0]}: is not an ordinary file")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # a resumed run has its graph twice
    events = EventAccumulator(str(folder), size_guidance={"scalars": MAX_EVENTS})
    try:
        events.Reload()
        scalars = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    except Exception as error:  # of several libraries
        raise ValueError(f"{folder}: its events.out.tfevents.* cannot be read ({reason(error)[:200]})") from error
    for name, points in scalars.items():
        found = [(point.step, point.value) for point in points if is_number(point.value)]
        curves.setdefault(name, []).extend(found)


def common_curves(a: Mapping[str, Curve], b: Mapping[str, Curve]) -> list[str]:
    """Names of the curves that both runs have, those that are looked at most first."""
    names = [name for name in a if name in b and len(a[name]) + len(b[name]) > 2]
    names = [name for name in names if name != "epoch" and not name.endswith("_floor")]
    order = {name: place for place, name in enumerate(FIRST)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))[:MAX_PANELS]


def draw(shown: list[str], a: Mapping[str, Curve], b: Mapping[str, Curve], names: Mapping[str, str]) -> Figure:
    """A panel for each curve, over the steps, with a line for each of the two runs."""
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(5 * columns, 0.8 + 3 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, name in zip(panels, shown, strict=False):
        for label, curves in (("a", a), ("b", b)):
            steps, values = zip(*curves[name], strict=True)
            marker = "." if len(steps) < 30 else ""
            axes.plot(steps, values, marker=marker, label=f"{label}  {names[label]}")
        axes.set_title(name, fontsize=10, parse_math=False)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper left", frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure
