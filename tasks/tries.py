"""What was tried for a recipe: short runs that never saw test images, by what they reached on validation images."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from datamodules.contract import STRICT, Index, Positive
from tasks.annotations import fault_of
from tasks.machine import Line, Machine
from tasks.messages import MISTAKES, command, message_of
from tasks.published_runs import check_config_of_run, check_facts, checkpoint_without_files, place_of_recipe, shared
from tasks.results import atomic_writer, read_json, rounded
from tasks.run_records import Record
from tasks.stale import changes_of_recipe, compared
from tasks.tables import Column, Table, format_number

TRIES = "tries.json"  # in published/runs/EXPERIMENT/DATA
UNTESTED = "trainer.limit_test_batches=0"  # what makes a run a try
FIXED = ("experiment=", "data=", "seed=", UNTESTED)  # what the row of a table says anyway
SCORES = {
    "val/accuracy": (max, lambda value: f"{100 * value:.2f} %"),
    "val/fid": (min, lambda value: f"FID {format_number(value, '.3g')}"),
}


@with_config(STRICT)
class Try(TypedDict):
    """A run of a recipe on its way."""

    overrides: list[Line]
    seed: Index
    metric: Line
    value: float
    cpu_seconds: NotRequired[Positive]
    machine: Machine
    config: dict[str, Any]  # what decides what was computed, see `compared`


class Tries(NamedTuple):
    """All that was tried for one recipe on one data set."""

    experiment: str
    data: str
    runs: Sequence[Try]
    is_stale: bool = False  # no command composes to what one of them computed


def is_try(record: Record) -> bool:
    """Whether a run was told to leave the test images alone."""
    return UNTESTED in record["overrides"]


def merged_tries(records: Iterable[Record], root: Path) -> dict[Path, list[Try]]:
    """What the files of tries below `root` hold with these runs added; one that is made again takes its place.

    Raises:
        ValueError: says what a reader could not tell of a run, or which file that is there is damaged.
    """
    files: dict[Path, list[Try]] = {}
    for record in records:
        check_facts(record)
        checkpoint = checkpoint_without_files(record)
        if any(key.startswith("test/") for key in record):
            raise ValueError(f"{record['folder']}: was told not to be tested, and has a score of test images")
        file = place_of_recipe(record, root) / TRIES
        if file not in files:
            files[file] = read_tries(file) if file.exists() else []
        made = as_try(record, checkpoint["config"])
        same = [made["overrides"], made["seed"]]
        files[file] = [one for one in files[file] if [one["overrides"], one["seed"]] != same] + [made]
        check_tries(files[file], record["folder"])
    return files


def as_try(record: Record, config: Mapping[str, Any]) -> Try:
    """What is kept of a run with this config.

    Raises:
        ValueError: it has no score of validation images, or no command composes to its config now.
    """
    metric = next((name for name in SCORES if name in record), None)
    if metric is None:
        raise ValueError(f"{record['folder']}: a try needs one of {', '.join(SCORES)}")
    kept = {key: record[key] for key in ("seed", "cpu_seconds", "machine") if key in record}
    overrides = [text for text in shared(record) if not text.startswith("trainer.accelerator=")]
    try:
        changes_of_recipe(overrides, config)
    except MISTAKES as error:
        raise ValueError(f"{record['folder']}: {message_of(error)[:300]}") from error
    made: Any = rounded({"overrides": overrides, "metric": metric, "value": record[metric], **kept})
    return made | {"config": compared(config)}


def write_tries(file: Path, tries: Sequence[Try]) -> None:
    """Writes the tries of a recipe on a data set."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(file) as stream:
        stream.write(json.dumps(tries, indent=1) + "\n")


def read_tries(file: Path) -> list[Try]:
    """
    Raises:
        ValueError: the file is damaged.
    """
    tries: list[Try] = read_json(file)
    check_tries(tries, str(file))
    return tries


def check_tries(tries: Sequence[Try], where: str) -> None:
    """
    Raises:
        ValueError: these are no tries, or none, or their scores do not compare.
    """
    fault = fault_of(tries, list[Try])
    metrics = set() if fault else {one["metric"] for one in tries}
    if len(metrics) != 1 or not metrics <= SCORES.keys():
        raise ValueError(f"{where}: holds no tries ({fault or 'by one score of validation images'})")
    for one in tries:
        check_config_of_run(one["config"], where)


def published_tries(records: Path) -> list[Tries]:
    """The tries below published/runs, by experiment and data set."""
    found = []
    for file in sorted(records.rglob(TRIES)):
        experiment, data = file.parent.parent.relative_to(records).as_posix(), file.parent.name
        tries = read_tries(file)
        try:
            found.append(Tries(experiment, data, [repeatable(one) for one in tries]))
        except MISTAKES:
            found.append(Tries(experiment, data, tries, is_stale=True))
    return found


def repeatable(one: Try) -> Try:
    """A try with the overrides that make its command compose to what it computed, whatever its recipe is now.

    Raises:
        ValueError: none do.
    """
    return {**one, "overrides": [*one["overrides"], *changes_of_recipe(one["overrides"], one["config"])]}


def tries_table(tries: Iterable[Tries], titles: Mapping[str, str]) -> Table:
    """A row for each recipe: what the best try changed, the score of each, and the commands that repeat them.

    Args:
        titles: of the data sets that readers know by another name.
    """
    rows = []
    for one in tries:
        common, changed = split(one.runs)
        shown = [[in_short(part) for part in parts if not part.startswith(FIXED)] for parts in changed]
        names = [", ".join(parts) or "as it is" for parts in shown]
        best, text = SCORES[one.runs[0]["metric"]]
        values = [run["value"] for run in one.runs]
        row = {
            "net": one.experiment.removeprefix("ten_minutes/") + (", by an earlier recipe" if one.is_stale else ""),
            "data": titles.get(one.data, one.data),
            "best": names[values.index(best(values))],
            "tried": "; ".join(f"{name}: {text(value)}" for name, value in zip(names, values, strict=True)),
            "seconds": round(sum(run.get("cpu_seconds", 0.0) for run in one.runs if run["machine"]["gpu"] is None)),
            "commands": commands(common, changed),
        }
        rows.append(row)
    return Table(COLUMNS, rows)


def split(tries: Sequence[Try]) -> tuple[list[str], list[list[str]]]:
    """What all tries have in common, and what each changed; one alone changed all that says how it was trained."""
    common = [part for part in tries[0]["overrides"] if all(part in one["overrides"] for one in tries)]
    if len(tries) == 1:
        common = [part for part in common if part.startswith(FIXED)]
    return common, [[part for part in one["overrides"] if part not in common] for one in tries]


def in_short(override: str) -> str:
    """What a reader of a table needs of an override.

    >>> in_short("model.optimizer.lr=0.1"), in_short("model.discriminator_optimizer.lr=0.1")
    ('lr=0.1', 'discriminator_optimizer.lr=0.1')
    >>> in_short("data/augment=flip"), in_short("~data.augment.crop")
    ('augment=flip', '~data.augment.crop')
    >>> in_short("+model/optimizer@model.discriminator_optimizer=wgan")
    'discriminator_optimizer=wgan'
    """
    key, is_set, value = override.partition("=")
    if not is_set:
        return override
    key = key.rpartition("@")[2]  # where an option is put
    return f"{re.sub(r'^(model|data|trainer)[./](optimizer[.])?', '', key)}={value}"


def commands(common: Sequence[str], changed: Sequence[Sequence[str]]) -> list[str]:
    """The commands that repeat tries: a sweep over the key that has most values, for each of what else was changed.

    >>> commands(["model=vgg"], [["tags=[a]", "seed=0"], ["tags=[a]", "seed=1"], ["tags=[b]", "seed=2"]])
    ["python run.py -m model=vgg 'tags=[a]' seed=0,1", "python run.py model=vgg 'tags=[b]' seed=2"]
    """
    values: dict[str, list[str]] = {}
    for part in dict.fromkeys(part for parts in changed for part in parts):
        values.setdefault(part.partition("=")[0], []).append(part)
    swept = max(values.values(), key=len, default=[])
    lines: dict[tuple[str, ...], list[str]] = {}
    for parts in changed:
        rest = tuple(part for part in parts if part not in swept)
        lines.setdefault(rest, []).extend(part for part in parts if part in swept)
    made = []
    for rest, found in lines.items():
        one = [f"{found[0].partition('=')[0]}={','.join(part.partition('=')[2] for part in found)}"] if found else []
        made.append(command(*common, *rest, *one, multirun=len(found) > 1))
    return made


COLUMNS = (
    *(Column("net"), Column("data"), Column("best"), Column("tried", "reached on validation images")),
    Column("seconds", "core seconds", right=True),
)
