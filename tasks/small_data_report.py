"""The report of a sweep of task=small_data: a table, its caption and a plot."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from datamodules.contract import Count, Index
from tasks.annotations import fault_of
from tasks.folders import short
from tasks.plots import save_plot
from tasks.results import atomic_writer, leaves
from tasks.run_records import Record, is_number
from tasks.tables import Column, Row, Table, deviation, escape_markdown, format_mean, mean, one_line

PLAIN = {"alone": "real", "with_fake": "real and generated"}  # what a classifier is trained on
AUGMENTED = {"augmented": "real, augmented", "augmented_with_fake": "both, augmented"}
ARMS = PLAIN | AUGMENTED
MAX_DEPTH = 20  # levels of settings
PART_FACTS = ("per_class", "metric", "settings", *ARMS)  # of a record, beside those of every run


class Settings(NamedTuple):
    """The options of the task that a part depends on, in plain values."""

    gan: str
    gan_network: str
    gan_settings: dict[str, Any]
    gan_steps: Count
    augment: dict[str, Any]
    fake_per_class: Count
    classifier_steps: Count


def write_report(records: list[Record], folder: Path) -> None:
    """Writes small_data.md, .csv and .png over the finished jobs of a sweep, which have to be of the same settings."""
    parts = [record for record in records if record["task"] == "small_data" and record["status"] == "finished"]
    if not parts or not all(map(is_part, parts)):
        return
    if not is_alike(parts) or len({(part["per_class"], part["seed"]) for part in parts}) < len(parts):
        print("table        none: the jobs differ in more than task.per_class and seed, which a table compares")
        return
    table = make_table(parts)
    with atomic_writer(folder / "small_data.md") as file:
        file.write("\n".join([table.to_markdown(), "", escape_markdown(caption(parts[0])), ""]))
    with atomic_writer(folder / "small_data.csv") as file:
        file.write(Table(map(Column, table.rows[0]), table.rows).to_csv())
    save_plot(draw(table.rows, parts[0]["metric"]), folder / "small_data.png")
    table.print()
    print(f"written      {one_line(short(folder.absolute()))}/small_data.md, .csv and .png")


def make_table(parts: Iterable[Record]) -> Table:
    """A row for each number of images per class."""
    rows = summarize(sorted(parts, key=lambda part: (part["per_class"], part["seed"])))
    return Table(columns_of(rows), rows)


def is_alike(parts: Sequence[Record]) -> bool:
    """Whether the runs differ in nothing that a table of them would not show."""
    return all(part[key] == parts[0][key] for part in parts for key in ("settings", "model", "data", "metric"))


def is_part(record: Record) -> bool:
    """Whether a record is one that the task wrote."""
    settings = record.get("settings")
    if not isinstance(settings, dict) or settings.keys() != {*Settings._fields}:
        return False
    kinds = Settings.__annotations__.items()
    if any(fault_of(settings[key], kind) for key, kind in kinds) or depth(settings) > MAX_DEPTH:
        return False
    counts = (record.get("per_class"), record.get("seed"))
    if fault_of(counts, tuple[Count, Index]) or record.get("metric") not in ("test/accuracy", "val/accuracy"):
        return False
    arms = ARMS if settings["augment"] else PLAIN
    return all(is_number(record.get(name), 0, 1) for name in arms)


def depth(node: Any) -> int:
    """Levels of a nested mapping or list.

    >>> depth({"a": {"b": [1]}}), depth(1)
    (3, 0)
    """
    levels, nodes = 0, [node]
    while nodes := [inner for node in nodes for inner in children(node)]:
        levels += 1
    return levels


def children(node: Any) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def sentence(record: dict[str, Any]) -> str:
    """
    >>> sentence({"per_class": 10, "seed": 0, "alone": 0.8, "with_fake": 0.825, "metric": "val/accuracy", "seconds": 9})
    '10 per class, seed 0: val/accuracy 0.8000 real, 0.8250 real and generated (9 s)'
    """
    part = f"{record['per_class']} per class, seed {record['seed']}: {record['metric']}"
    accuracies = [f"{record[arm]:.4f} {label}" for arm, label in ARMS.items() if arm in record]
    return f"{part} {', '.join(accuracies)} ({record['seconds']:.0f} s)"


def summarize(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each n: mean and standard deviation (n - 1) over the seeds of each arm.

    >>> part = {"per_class": 10, "alone": 0.5}
    >>> summarize([part | {"with_fake": 0.75}, part | {"with_fake": 0.75}])[0]["with_fake"]
    0.75
    """
    rows = []
    for n in dict.fromkeys(record["per_class"] for record in records):
        group = [record for record in records if record["per_class"] == n]
        row: dict[str, Any] = {"per_class": n, "seeds": len(group)}
        for arm in (arm for arm in ARMS if arm in group[0]):
            values = [record[arm] for record in group]
            row |= {arm: mean(values), f"{arm}_sd": deviation(values)}
        rows.append(row)
    return rows


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns of the arms that the rows have; accuracies are shown in per cent."""

    def percent(arm: str) -> Any:
        return lambda row: format_mean(row[arm], row[f"{arm}_sd"], ".2f", 0.01)

    arms = [Column(arm, label, percent(arm)) for arm, label in ARMS.items() if arm in rows[0]]
    return [Column("per_class", "real images per class"), Column("seeds"), *arms]


def caption(record: Record) -> str:
    settings = Settings(**record["settings"])
    changes = (f"{key}={value}" for key, value in leaves(settings.gan_settings).items())
    gan = " ".join([settings.gan, settings.gan_network, *changes])
    return (
        f"{record['metric']} in per cent, mean +- standard deviation over seeds; "
        f"{settings.gan_steps:,} generator steps ({gan}), {settings.fake_per_class:,} generated images per class, "
        f"{settings.classifier_steps:,} steps of each classifier ({record['model']}, {record['data']})."
    )


def draw(rows: Sequence[Row], metric: str) -> Figure:
    """Accuracy over the number of real images, a line for each arm."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    counts = [row["per_class"] for row in rows]
    for arm, label in ((arm, label) for arm, label in ARMS.items() if arm in rows[0]):
        heights, errors = ([100 * (row[key] or 0.0) for row in rows] for key in (arm, f"{arm}_sd"))
        line = "--" if arm in AUGMENTED else "-"
        axes.errorbar(counts, heights, errors, marker="o", linestyle=line, capsize=3, label=label)
    axes.set(xscale="log", xlabel="real images per class", ylabel=f"{metric} (%)")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
