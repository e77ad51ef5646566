"""claim.json: the runs of a claim as plain values, from which its tables, plot, page and verdict are made."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from datamodules.contract import STRICT, Index, NonNegative
from tasks.annotations import fault_of
from tasks.claims.verdict import decide, effects_of, outcome_row, overall
from tasks.config import Name
from tasks.machine import Line, Machine, fault_of_commit
from tasks.results import read_json, rounded
from tasks.run_records import MOST, Record
from tasks.tables import one_line

CLAIM = "claim.json"
LEAST_SEEDS = 3  # of each arm of a verdict that is published
SAME_CLAIM = ("experiment=", "seed=", "trainer.accelerator=", "name=", "tags=", "description=", "hydra")  # overrides
TEXTS = ("sentence", "paper", "found", "differs", "arms", "expectations", "drawn", "drawn_over")  # of the YAML
NUMBERS: ConfigDict = {**STRICT, "extra": "ignore"}
Number = Annotated[float, Field(ge=-MOST, le=MOST)]
Point = Annotated[list[Number], Field(min_length=2, max_length=2)]
Seconds = Annotated[NonNegative, Field(le=MOST)]


@with_config(NUMBERS)
class ClaimRun(TypedDict):
    """The outcome of one arm and seed."""

    arm: Name
    seed: Index
    measures: dict[str, Number]
    curves: dict[str, list[Point]]
    seconds: Seconds  # by the clock
    cpu_seconds: NotRequired[Seconds]  # of the processor, whatever else ran beside
    machine: Machine


@with_config(NUMBERS)
class ClaimRecord(TypedDict):
    """The content of claim.json that is read again; it has the texts, outcomes and verdict of its day as well."""

    name: Name
    overrides: list[Line]
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    runs: Annotated[list[ClaimRun], Field(min_length=1)]
    arms: NotRequired[dict[Name, Any]]
    expectations: NotRequired[list[dict[str, Any]]]


def usable_runs(records: Iterable[Record]) -> tuple[list[ClaimRun], list[str]]:
    """The outcomes of a sweep's jobs that finished, by arm and seed, and a line for each that cannot be used."""
    runs: list[ClaimRun] = []
    faults: list[str] = []
    for record in records:
        if record["status"] != "finished":
            continue
        if (fault := fault_of(record, ClaimRun)) is not None:
            faults.append(one_line(f"{record['folder']}: left out, its results.json {fault}"))
        else:
            kept: Any = {key: record[key] for key in ClaimRun.__annotations__ if key in record}
            runs.append(kept)
    return sorted(runs, key=lambda run: (run["arm"], run["seed"])), faults


def cost(claim: Mapping[str, Any]) -> tuple[float, str]:
    """The minutes that the runs of a claim took, and of what clock they are."""
    if all("cpu_seconds" in run for run in claim["runs"]):
        return sum(run["cpu_seconds"] for run in claim["runs"]) / 60, "of a processor core"
    return sum(run["seconds"] for run in claim["runs"]) / 60, "by the clock"


def make_record(runs: Sequence[ClaimRun], config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The record of a claim whose sweep has this config and was begun with these overrides."""
    name = str(config.hydra.runtime.choices.experiment).removeprefix("claim/")
    record = {"name": name, "overrides": [*overrides], "date": time.strftime("%Y-%m-%d"), "runs": [*runs]}
    return complete(rounded(record), config.task)


def changes_of(overrides: Iterable[str]) -> list[str]:
    """What a command changes of a claim, so that its texts and bounds may no longer be of what was run.

    >>> changes_of(["experiment=claim/relu", "seed=0,1,2", "trainer.accelerator=cpu", "trainer.max_epochs=1"])
    ['trainer.max_epochs=1']
    """
    return [text for text in overrides if not text.startswith(SAME_CLAIM)]


def check_complete(record: ClaimRecord, task: Mapping[str, Any]) -> None:
    """Refuses a record of which no verdict is published, by what the YAML of its claim has under `task`.

    Raises:
        ValueError: the command changed the claim, a run's code is in no commit, an arm or an expectation has fewer than
            `LEAST_SEEDS` seeds, or a run is of no arm or there twice.
    """
    if changes := changes_of(record["overrides"]):
        raise ValueError(f"the sweep changed the claim ({' '.join(changes)}), its verdict is of something else")
    if faults := [fault for run in record["runs"] if (fault := fault_of_commit(run["machine"]))]:
        raise ValueError(f"a run {faults[0]}")
    seeds = by_arm(record["runs"])
    for arm in task["arms"]:
        if len(seeds.get(arm, ())) < LEAST_SEEDS:
            raise ValueError(
                f"arm {arm} has {len(seeds.get(arm, ()))} seeds that finished, at least {LEAST_SEEDS} count"
            )
    if unknown := seeds.keys() - {*task["arms"]}:
        raise ValueError(f"a run is of arm {min(unknown)}, which the claim has not")
    if sum(map(len, seeds.values())) < len(record["runs"]):
        raise ValueError("two runs are of the same arm and seed: leave one of them")
    for expectation in (*task["expectations"], *(task.get("requires") or ())):
        if (count := len(effects_of(expectation, seeds))) < LEAST_SEEDS:
            raise ValueError(f"{expectation['measure']} has {count} seeds, at least {LEAST_SEEDS} count")


def check_unchanged(record: ClaimRecord, task: DictConfig) -> None:
    """Refuses a record whose arms or bounds are no longer those of the claim's YAML.

    Raises:
        ValueError: they have changed since it was run.
    """
    plain: Any = OmegaConf.to_container(task)
    for key in ("arms", "expectations"):
        if key in record and record[key] != plain[key]:
            raise ValueError(f"the {key} of the claim {record['name']} have changed since it was run: run it again")


def complete(record: Mapping[str, Any], task: DictConfig) -> dict[str, Any]:
    """A record with the texts of the claim's YAML and with the verdict that its runs give by that."""
    plain: Any = OmegaConf.to_container(task)
    texts = {key: plain[key] for key in TEXTS if key in plain}
    measures = by_arm(record["runs"])
    outcomes, required = (
        [outcome_row(expectation, decide(expectation, measures)) for expectation in plain.get(key) or []]
        for key in ("expectations", "requires")
    )
    verdict = overall((row["verdict"] for row in outcomes), (row["verdict"] for row in required))
    facts = {key: record[key] for key in sorted(ClaimRecord.__required_keys__)}  # of a set
    defaults = {"drawn": None, "drawn_over": "step"}
    decided = {"outcomes": rounded(outcomes), **({"required": rounded(required)} if required else {})}
    return defaults | texts | facts | decided | {"verdict": verdict}


def read_claim(path: Path) -> ClaimRecord:
    """
    Raises:
        ValueError: there is no record of a claim.
    """
    try:
        record = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: name the folder of a claim's sweep that has finished") from None
    if (fault := fault_of(record, ClaimRecord)) is not None:
        raise ValueError(f"{path}: is not the record of a claim, it {one_line(fault)[:200]}")
    return record


def to_json(record: Mapping[str, Any]) -> str:
    """The record with a line for each key and each run, of which one may have thousands of numbers."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items() if key != "runs"]
    runs = ",\n".join(f"  {json.dumps(run)}" for run in record["runs"])
    return "{\n" + ",\n".join([*lines, f'"runs": [\n{runs}\n]']) + "\n}\n"


def by_arm(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
    """The measures of runs by arm and seed."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs:
        found.setdefault(run["arm"], {})[run["seed"]] = run["measures"]
    return found


def arms_of(claim: Mapping[str, Any]) -> list[str]:
    """The arms that were run, in the order in which the claim lists them."""
    found = by_arm(claim["runs"])
    return [arm for arm in claim["arms"] if arm in found]


def values_of(claim: Mapping[str, Any], arm: str, measure: str) -> list[float]:
    """A measure's values for the seeds of an arm, in their order."""
    seeds = by_arm(claim["runs"])[arm]
    return [values[measure] for _, values in sorted(seeds.items()) if measure in values]
