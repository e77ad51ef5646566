"""Claims: their files, and one claim from its command to its page, stopped and gone on with."""

import json
import math
from pathlib import Path

import pytest
from command_line import PLAIN, run, run_well
from conftest import CONF, ROOT, compose, compose_once
from omegaconf import OmegaConf

from tasks.claims import measures
from tasks.claims.verdict import decide
from tasks.prepare import prepare
from tasks.saved_config import plain_config
from tasks.untrusted import check_callbacks, check_untrusted

CLAIMS = sorted(file.stem for file in (CONF / "experiment" / "claim").glob("*.yaml"))


@pytest.mark.extended
@pytest.mark.parametrize("name", CLAIMS)
def test_claim_is_whole(name: str) -> None:
    """Every arm composes, differs from the others, can be gone on with, and is run with three seeds or more."""
    file = CONF / "experiment" / "claim" / f"{name}.yaml"
    node = OmegaConf.load(file)
    assert name != "max_pool" or file.read_text() in (ROOT / "docs" / "extending.md").read_text()
    assert file.read_text().splitlines()[1].startswith(f"# python run.py experiment=claim/{name} ")
    params = {key.removeprefix("++"): str(value).split(",") for key, value in node.hydra.sweeper.params.items()}
    arms = OmegaConf.to_container(node.task.arms)
    assert isinstance(arms, dict)
    assert params["task.arm"] == list(arms)
    assert len(params["seed"]) >= 3
    assert len({tuple(changes) for changes in arms.values()}) == len(arms)
    for expectation in node.task.expectations:
        assert {expectation.arm, expectation.get("than", expectation.arm)} <= arms.keys()
        decide(expectation, {})
    composed = compose_once((f"experiment=claim/{name}", "task.arm=any", "seed=0"))
    for arm, changes in arms.items():
        cfg = composed.copy()
        cfg.task.arm = arm
        prepared = prepare(cfg)
        assert set(changes) <= set(prepared.overrides)
        config = plain_config(prepared)
        check_untrusted({"config": config, "overrides": []})
        check_callbacks(config["callbacks"], {})
    if node.task.get("full"):
        cfg.task.size = "full"
        assert {*node.task.full, *changes} <= set(prepare(cfg).overrides)


def test_full_size_is_one_word_and_what_is_typed_counts() -> None:
    full = ("experiment=claim/max_pool", "task.arm=max", "seed=0", "task.size=full")
    assert compose(*full).trainer.max_epochs == 20
    assert compose(*full, "trainer.max_epochs=3").trainer.max_epochs == 3


@pytest.mark.extended
@pytest.mark.parametrize("one_job", [(), ("task.arm=gan", "seed=0", "hydra.mode=RUN")])
@pytest.mark.parametrize(
    "mistake",
    [
        *("task.size=full", "task.size=big", "task.size=null", "task.size=[1]"),
        *("task.full=5", "task.full=abc", "task.full=null", "task.full=[1]", "task.full={a:[b]}"),
        *("task.arms=5", "task.arms=[gan]", "task.arms=null", "task.arms.gan=5", "task.arms={gan:[1]}", "~task.arms"),
        *("task.expectations=3", "task.expectations=null", "task.expectations=[a]"),
        "task.expectations=[{measure:gap,arm:nobody,above:0}]",
    ],
)
def test_what_a_claim_does_not_have_is_refused_in_one_line_before_the_first_job(
    mistake: str, one_job: tuple[str, ...]
) -> None:
    outcome = run("experiment=claim/disjoint", mistake, *one_job)  # which has one size
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    keys = ("task.size", "task.full", "task.arms", "task.expectations")
    assert any(key in mistake and key in outcome.err for key in keys)
    assert not list(Path().rglob("*.json"))


@pytest.mark.parametrize(
    "mistake",
    [
        *("task.arm=max,maximum", "task.arm=maximum", "seed=0,0,1", "seed=interval(0,3)"),
        "hydra.sweeper.max_batch_size=0",
    ],
)
def test_sweep_over_an_arm_that_is_none_or_a_seed_twice_is_refused_before_the_first_job(mistake: str) -> None:
    outcome = run("experiment=claim/max_pool", mistake, "hydra.mode=MULTIRUN")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert mistake.split("=")[0] in outcome.err
    assert not Path("outputs").exists() or not list(Path("outputs").rglob("*.*"))


@pytest.mark.parametrize("swept", ["model.optimizer.lr=0.001,0.003", "trainer.max_epochs=1,2", "data=mnist,mnist_5k"])
def test_sweep_over_more_than_arms_and_seeds_is_refused_before_the_first_job(swept: str) -> None:
    outcome = run("experiment=claim/max_pool", swept, "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert f"{swept}: a claim compares arms over seeds" in outcome.err
    assert not Path("outputs").exists() or not [*Path("outputs").rglob("results.json")]


def test_expected_measure_that_no_function_returns_is_named_with_those_there_are() -> None:
    misspelled = "task.expectations=[{measure:tset_error,arm:lenet_relu,above:0}]"
    outcome = run("experiment=claim/relu", "task.arm=lenet_relu", "seed=0", "hydra.mode=RUN", *SMALL, misspelled)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert all(name in outcome.err for name in ("tset_error", "test_error", "steps"))


SMALL = (*PLAIN, "trainer.max_epochs=1")
CLAIM = ("experiment=claim/relu", "task.arm=lenet_relu,lenet_tanh", "seed=0,1", *SMALL, "trainer.log_every_n_steps=1")


@pytest.mark.extended
def test_a_claim_ends_with_its_page_and_goes_on_where_it_was_stopped() -> None:
    said = run_well(*CLAIM).out
    (folder,) = Path("outputs/sweeps").iterdir()
    claim = json.loads((folder / "claim.json").read_text())
    assert [(run["arm"], run["seed"]) for run in claim["runs"]] == [
        *(("lenet_relu", 0), ("lenet_relu", 1), ("lenet_tanh", 0), ("lenet_tanh", 1))
    ]
    assert all(len(run["curves"]["train/accuracy"]) == 10 for run in claim["runs"])
    assert claim["verdict"] in said
    assert claim["sentence"] in (folder / "claim.md").read_text()
    assert (folder / "claim.png").stat().st_size > 10_000
    jobs = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert jobs == ["000_lenet_relu_seed-0", "001_lenet_relu_seed-1", "002_lenet_tanh_seed-0", "003_lenet_tanh_seed-1"]

    assert (
        "Changed on the command line: `task.arm=lenet_relu,lenet_tanh data=mnist_5k"
        in (folder / "claim.md").read_text()
    )
    refused = run("task=claims", f"task.add=[{folder}]")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "data=mnist_5k" in refused.err

    damaged = folder / jobs[3] / "results.json"
    whole = damaged.read_text()
    damaged.write_text(json.dumps(json.loads(whole) | {"measures": {"steps": "nan"}}))
    said = run_well(*CLAIM, f"hydra.sweep.dir={folder}").out
    assert f"{folder / jobs[3]}: left out" in said
    assert len(json.loads((folder / "claim.json").read_text())["runs"]) == 3
    damaged.write_text(whole)

    (folder / jobs[2] / "results.json").unlink()  # as a kill after its training leaves it
    before = {job: (folder / job / "results.json").stat().st_mtime_ns for job in jobs if job != jobs[2]}
    assert "3 of its 4 jobs have finished" in run_well(*CLAIM, f"hydra.sweep.dir={folder}").out
    assert {job: (folder / job / "results.json").stat().st_mtime_ns for job in before} == before
    again = json.loads((folder / "claim.json").read_text())
    found = [[run["measures"] for run in record["runs"]] for record in (claim, again)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("task.expectations=[{measure:test_error,arm:lenet_relu}]", "above"),
        ("task.expectations=[{measure:test_error,arm:lenet,above:0}]", "task.expectations.arm=lenet"),
        ("task.expectations=[{measure:test_error,arm:lenet_relu,than:x,above:0}]", "task.expectations.than=x"),
        ("task.expectations=[{measure:test_error,arm:lenet_relu,over:0}]", "task.expectations"),
    ],
)
def test_expectation_of_which_no_verdict_could_be_made_is_refused_before_training(changes: str, said: str) -> None:
    outcome = run("experiment=claim/relu", "task.arm=lenet_relu", "seed=0", "hydra.mode=RUN", *SMALL, changes)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert said in outcome.err
    assert "epoch" not in outcome.out
    assert not list(Path().rglob("results.json"))


def test_measure_that_is_not_finite_ends_the_run_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "tested_accuracy", lambda _: math.nan)
    logged = (*SMALL, "trainer.log_every_n_steps=1")
    outcome = run("experiment=claim/relu", "task.arm=lenet_relu", "seed=0", "hydra.mode=RUN", *logged)
    assert (outcome.status, outcome.err) == (2, "Error: the measure test_error is not finite: nan\n")


WARM = ("experiment=claim/warm", "task.arm=from_vgg_11", "seed=0", "hydra.mode=RUN", *SMALL)


@pytest.mark.extended
def test_arm_starts_from_the_layers_of_a_net_that_is_trained_first() -> None:
    said = run_well(*WARM, "model.width=0.05", "trainer.log_every_n_steps=1").out
    assert "taken over   features.conv1_1, features.conv2_1, features.conv3_1, features.conv3_2, classifier.1" in said
    [record] = Path("outputs").rglob("results.json")
    assert {"steps", "test_error"} <= json.loads(record.read_text())["measures"].keys()
    assert (record.parent / "first" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("trainer.enable_checkpointing=false", "trainer.enable_checkpointing=false"),
        ("task.arms.from_vgg_11=['task.start_from={depth:12}']", "depth"),
        ("task.arms.from_vgg_11=['task.start_from={deep:11}']", "deep"),
        ("task.arms.from_vgg_11=['task.start_from=[11]']", "task.start_from"),
    ],
)
def test_mistake_in_what_an_arm_starts_from_is_one_line(mistake: str, said: str) -> None:
    outcome = run(*WARM, "model.width=0.05", mistake)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert said in outcome.err


@pytest.mark.parametrize("command", ["task=claim", "experiment=claim/relu hydra.mode=RUN", "experiment=claim/rely"])
def test_claim_that_is_not_named_is_one_line(command: str) -> None:
    outcome = run(*command.split())
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert "claim" in outcome.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["task.arm=selu"], "task.arm=selu: choose one of lenet_relu"),
        (["model.activation=relu"], "model.activation: is what the arms"),
        (["task.measures=[{_target_:os.getcwd,_partial_:true}]", "task.trains=1"], "task.trains"),
    ],
)
def test_mistake_in_a_claim_is_one_line(changes: list[str], said: str) -> None:
    outcome = run("experiment=claim/relu", "task.arm=lenet_relu", "seed=0", *SMALL, *changes)
    assert outcome.status != 0
    assert said in outcome.err
    assert "Traceback" not in outcome.err
