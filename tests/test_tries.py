"""Tries: runs that never saw test images are a row of docs/league.md; what is none is one line, and nothing written."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import change, change_facts, results_of, run, run_well
from conftest import ROOT
from hostile import HOSTILE, leave_evil_module

from tasks.published_runs import RECORDS
from tasks.tries import TRIES, UNTESTED, Tries, published_tries, tries_table

RATE = "model.optimizer.lr"


def as_tries(values: dict[str, float]) -> None:
    """Makes of runs/one a run for each changed override that was not tested, with its accuracy on validation images."""
    whole = results_of(Path("runs/one"))
    untested = {key: value for key, value in whole.items() if not key.startswith("test/")}
    for override, value in values.items():
        folder = Path("runs", override)
        shutil.copytree("runs/one", folder)
        (folder / "results.json").write_text(json.dumps(untested | {"val/accuracy": value}))
        change_facts(folder, overrides=[*whole["overrides"], override, UNTESTED])
    shutil.rmtree("runs/one")


@pytest.mark.extended
def test_runs_that_were_not_tested_are_tries_on_the_page_with_the_best_named(checkout: Path) -> None:
    as_tries({f"{RATE}=0.1": 0.5, f"{RATE}=0.2": 0.75})
    for _ in range(2):  # those that are made again take their own place
        run_well("task=records", "task.add=[runs]")
    assert [path.name for path in checkout.iterdir()] == [TRIES]
    [row] = tries_table(published_tries(RECORDS), {}).rows
    assert (row["best"], row["tried"]) == ("lr=0.2", "lr=0.1: 50.00 %; lr=0.2: 75.00 %")
    [line] = row["commands"]
    assert line.startswith("python run.py -m experiment=lenet_fast")
    assert line.endswith(f"{RATE}=0.1,0.2")
    assert row["tried"] in Path("docs/league.md").read_text()
    assert line in Path("docs/league.md").read_text()


def test_try_that_is_alone_says_what_it_changed(checkout: Path) -> None:
    as_tries({f"{RATE}=0.1": 0.5})
    run_well("task=records", "task.add=[runs]")
    [row] = tries_table(published_tries(RECORDS), {}).rows
    assert row["best"].endswith(", lr=0.1")


def test_tries_of_a_recipe_that_has_changed_since_say_so_or_how_to_repeat_them(checkout: Path) -> None:
    as_tries({f"{RATE}=0.1": 0.5})
    run_well("task=records", "task.add=[runs]")
    tries = json.loads((checkout / TRIES).read_text())
    tries[0]["config"]["model"]["label_smoothing"] = 0.3
    (checkout / TRIES).write_text(json.dumps(tries))
    [row] = tries_table(published_tries(RECORDS), {}).rows
    assert "model.label_smoothing=0.3" in row["commands"][0]
    tries[0]["config"]["model"]["lr_scheduler"] = None  # the recipe has one now
    (checkout / TRIES).write_text(json.dumps(tries))
    [row] = tries_table(published_tries(RECORDS), {}).rows
    assert row["net"] == "lenet_fast"
    assert "model.label_smoothing=0.3 model.lr_scheduler=null" in row["commands"][0]
    tries[0]["config"]["model"]["of_old"] = 1
    (checkout / TRIES).write_text(json.dumps(tries))
    [row] = tries_table(published_tries(RECORDS), {}).rows
    assert "by an earlier recipe" in row["net"]


def test_command_of_a_try_says_what_its_recipe_no_longer_has(checkout: Path) -> None:
    as_tries({f"{RATE}=0.1": 0.5})
    change_config(Path("runs", f"{RATE}=0.1"), "model", label_smoothing=0.3)
    run_well("task=records", "task.add=[runs]")
    [row] = tries_table(published_tries(RECORDS), {}).rows
    assert row["best"].endswith(", lr=0.1, label_smoothing=0.3")
    assert f" {RATE}=0.1 model.label_smoothing=0.3" in row["commands"][0]


def test_try_of_a_recipe_that_has_other_keys_now_is_refused_in_one_line(checkout: Path) -> None:
    as_tries({f"{RATE}=0.1": 0.5})
    change_config(Path("runs", f"{RATE}=0.1"), "model", sharpness=0.3)
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert "model.sharpness" in outcome.err
    assert not checkout.exists()


def change_config(folder: Path, part: str, **values: Any) -> None:
    """Changes a value of the config in a run's last checkpoint."""
    file = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["config"][part] |= values
    torch.save(checkpoint, file)


def test_run_that_cannot_be_a_try_is_counted_where_others_are_added(checkout: Path) -> None:
    as_tries({f"{RATE}=0.1": 0.5, f"{RATE}=0.2": 0.5})
    change(Path("runs", f"{RATE}=0.2"), **{"val/accuracy": "x"})
    out = run_well("task=records", "task.add=[runs]").out
    assert "left out     1 of 2 runs" in out
    assert "added        1 run" in out


SCORES: tuple[object, ...] = (None, "x", [], True, 2, -1, float("nan"), float("inf"))
FAULTS = [
    *({"test/accuracy": 0.5}, {"test/accuracy": 0.5, "overrides": None}),
    *({"val/accuracy": value} for value in SCORES),
    *({"machine": None}, {"machine": {"processor": "`x`"}}),
    *({"seed": None}, {"seed": -1}, {"seed": 0.5}),
    *({"experiment": None}, {"experiment": "lenet_slow"}, {"experiment": "../../x"}),
    *({"data": "../x"}, {"cpu_seconds": -1}, {"overrides": [UNTESTED, "a\nb"]}),
]


@pytest.mark.parametrize("changes", FAULTS, ids=str)
def test_run_that_is_no_try_is_refused_in_one_line_before_anything_is_written(
    changes: dict[str, Any], checkout: Path
) -> None:
    as_tries({f"{RATE}=0.1": 0.5})
    change(Path("runs", f"{RATE}=0.1"), **changes)
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert not checkout.exists()
    assert not list(Path("docs").iterdir())


@pytest.mark.parametrize("override", HOSTILE)
def test_try_runs_no_code_that_its_command_names(
    override: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    override = leave_evil_module(override, monkeypatch)
    as_tries({f"{RATE}=0.1": 0.5})
    [folder] = Path("runs").glob("model*")
    change_facts(folder, overrides=[*results_of(folder)["overrides"], override])
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert not checkout.exists()
    assert not Path("made").exists()


GOOD_TRY = next(file.read_text() for file in sorted((ROOT / RECORDS).rglob(TRIES)))
DAMAGED = [
    *("", "[]", "{", "[1]", "[" * 100_000, "null", "\0", '[{"seed": 0}]', '{"a": 1}'),
    re.sub(r'"value": [\d.]+', '"value": NaN', GOOD_TRY),
    re.sub(r'"cpu_seconds": [\d.]+', '"cpu_seconds": Infinity', GOOD_TRY),
    GOOD_TRY.replace("val/accuracy", "val/loss"),
    GOOD_TRY.replace("val/accuracy", "val/fid", 1),
    GOOD_TRY.replace("seed=0", "a`b"),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_tries_are_one_line_and_stay_as_they_are(content: str, checkout: Path) -> None:
    checkout.mkdir(parents=True)
    (checkout / TRIES).write_text(content)
    with pytest.raises(ValueError, match=TRIES) as refusal:
        published_tries(RECORDS)
    assert "\n" not in str(refusal.value)
    shutil.copytree("runs/one", "runs/two")  # a record that is good, beside a try that has no place
    as_tries({f"{RATE}=0.1": 0.5})
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert [path.name for path in checkout.iterdir()] == [TRIES]
    assert (checkout / TRIES).read_text() == content


def test_core_seconds_of_tries_leave_out_those_of_a_gpu() -> None:
    def tried(rate: str, seconds: float, gpu: str | None) -> Any:
        overrides = ["experiment=lenet_fast", f"model.optimizer.lr={rate}"]
        machine = {"gpu": gpu}
        return {
            "overrides": overrides,
            "seed": 0,
            "metric": "val/accuracy",
            "value": 0.9,
            "cpu_seconds": seconds,
            "machine": machine,
            "config": {},
        }

    runs = [tried("0.1", 10.0, None), tried("0.2", 20.0, None), tried("0.3", 400.0, "H200")]
    [row] = tries_table([Tries("lenet_fast", "mnist", runs)], {}).rows
    assert row["seconds"] == 30
