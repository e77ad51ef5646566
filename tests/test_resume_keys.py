"""Each key, changed on a run that is resumed, is applied or refused in one line before anything is written."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PLAIN, Outcome, checkpoint_of, only_run, results_of, run, run_well
from hydra.utils import instantiate
from omegaconf import OmegaConf
from test_config import leaves

from run import compose
from tasks.overrides import CONF
from tasks.resume import FIXED_CALLBACKS, FIXED_TRAINER_KEYS, changes, is_planned

BUDGET = ("trainer.max_epochs", "trainer.max_steps")


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that max_steps ended within its second epoch; its learning rate is constant."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("half_done"))
        run_well("model=lenet", *PLAIN, "trainer.max_epochs=3", "trainer.max_steps=15", "model/lr_scheduler=none")
        return only_run()


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}


def another(value: Any) -> Any:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    return value


def test_every_key_of_the_config_may_change_or_may_not(half_done: Path) -> None:
    saved = checkpoint_of(half_done)["config"]
    fixed_parts: set[str] = set()
    free_parts: set[str] = set()
    for path in leaves(saved):
        if path[0] in ("choices", "overrides") or "_target_" in path:
            continue
        now = OmegaConf.create(saved)
        value: Any = saved
        for key in path:
            value = value[key]
        OmegaConf.update(now, ".".join(path), another(value) if another(value) != value else "else", merge=False)
        found = [key for key, *_ in changes(saved, OmegaConf.to_container(now))]  # type: ignore[arg-type]
        key = ".".join(path)
        is_fixed = path[0] in ("model", "data", "seed")
        is_fixed |= path[0] == "trainer" and path[1] in FIXED_TRAINER_KEYS
        is_fixed |= path[0] == "callbacks" and path[1] in FIXED_CALLBACKS
        assert found == ([key] if is_fixed else []), key
        (fixed_parts if is_fixed else free_parts).add(path[0])
    assert fixed_parts == {"model", "data", "seed", "trainer", "callbacks"}
    assert free_parts == {"trainer", "callbacks", "compile", "name", "tags", "description"}


REFUSED = (
    "model.optimizer.lr=1e-6",
    "model/optimizer=sgd",
    "model.label_smoothing=0.1",
    "model=alexnet",
    "data.batch_size=20",
    "data=fashion_mnist",
    "data/augment=crop",
    "data.train_images_per_class=30",
    "seed=1",
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=1.0",
    "trainer.precision=bf16-mixed",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=0.5",
    "callbacks.checkpoint.every_n_epochs=2",
    "~callbacks.checkpoint",
    "trainer.max_epochs=0",
    "trainer.max_steps=7",
    "init_from=none.ckpt",
    "trainer.devices=2",
    "callbacks.swa={_target_:lightning.pytorch.callbacks.StochasticWeightAveraging,swa_lrs:0.1}",
    "callbacks.mine={_target_:lightning.pytorch.callbacks.GradientAccumulationScheduler,scheduling:{0:2}}",
    "callbacks.mine={_target_:tasks.weight_ema.WeightEMA}",
    "~model",
    "~data",
    "~callbacks",
)


@pytest.mark.extended
@pytest.mark.parametrize("change", REFUSED)
def test_change_that_would_compute_something_else_is_refused_before_anything_is_written(
    change: str, half_done: Path
) -> None:
    before = snapshot(half_done)
    outcome = run(f"ckpt_path={half_done}/checkpoints/last.ckpt", change)
    assert_refused(outcome, change.lstrip("~").split("=")[0].replace("/", "."))
    assert snapshot(half_done) == before
    assert not Path("outputs").exists()


Content = dict[str, Any]


def optimizer(content: Content) -> Content:
    state: Content = content["optimizer_states"][0]
    return state


def with_rate(rate: object) -> Callable[[Content], Any]:
    return lambda content: optimizer(content)["param_groups"][0].update(lr=rate)


def with_value(key: str, value: object) -> Callable[[Content], Any]:
    return lambda content: content.update({key: value})


ODD_RATES: tuple[object, ...] = (-1.0, float("nan"), float("inf"), "x", None)
ODD_COUNTS: tuple[object, ...] = (-1, 10**30, "x", None, 0.5)
DAMAGES: dict[str, Callable[[Content], Any]] = {
    "optimizer_states: none": lambda content: content["optimizer_states"].clear(),
    "optimizer_states: two": lambda content: content["optimizer_states"].append(optimizer(content)),
    "optimizer_states: empty": lambda content: optimizer(content).clear(),
    "optimizer_states: no moments": lambda content: optimizer(content)["state"].clear(),
    "optimizer_states: one without": lambda content: optimizer(content)["state"][0].clear(),
    "optimizer_states: no groups": lambda content: optimizer(content)["param_groups"].clear(),
    "optimizer_states: a text": lambda content: content.update(optimizer_states=["x"]),
    **{f"optimizer_states: rate {rate}": with_rate(rate) for rate in ODD_RATES},
    "callbacks: none": lambda content: content["callbacks"].clear(),
    **{f"{key}: {value}": with_value(key, value) for key in ("epoch", "global_step") for value in ODD_COUNTS},
    "training_clock: a text": with_value("training_clock", "${x"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_checkpoint_that_lacks_what_a_run_goes_on_with_is_refused_before_anything_is_written(
    name: str, half_done: Path
) -> None:
    folder = Path(shutil.copytree(half_done, "outputs/run")).resolve()
    content = checkpoint_of(folder)
    DAMAGES[name](content)
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    before = snapshot(folder)
    outcome = run(f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.max_steps=20")
    assert_refused(outcome, name.partition(":")[0])
    assert "init_from=" in outcome.err
    assert snapshot(folder) == before


def assert_refused(outcome: Outcome, key: str) -> None:
    assert outcome.status == 2, outcome.err
    assert outcome.err.count("\n") == 1
    assert key in outcome.err


ACCEPTED = (
    "trainer.max_steps=20",
    "trainer.log_every_n_steps=5",
    "callbacks.learning_rate.logging_interval=step",
    "~callbacks.learning_rate",
    "trainer/logger=csv",
    "trainer.max_time=00:01:00:00",
    "trainer.enable_model_summary=true",
)


@pytest.mark.extended
@pytest.mark.parametrize("change", ACCEPTED)
def test_change_of_the_budget_or_of_what_is_watched_is_applied(change: str, half_done: Path) -> None:
    folder = Path(shutil.copytree(half_done, "outputs/run")).resolve()
    run_well(f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.max_steps=18", change)
    assert only_run() == folder
    assert results_of(folder)["status"] == "finished"
    assert checkpoint_of(folder)["global_step"] == (20 if change == "trainer.max_steps=20" else 18)


@pytest.mark.extended
@pytest.mark.parametrize("budget", ["trainer.max_steps=15", "trainer.max_time=00:00:00:01"])
def test_run_that_its_budget_ended_goes_on_with_a_larger_one(budget: str) -> None:
    run_well("model=lenet", *PLAIN, "trainer.max_epochs=40", budget, "model/lr_scheduler=none")
    folder = only_run()
    steps = checkpoint_of(folder)["global_step"]
    run_well(f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.max_time=null", f"trainer.max_steps={steps + 12}")
    assert checkpoint_of(folder)["global_step"] == steps + 12


@pytest.mark.extended
def test_command_that_trains_longer_with_a_new_schedule_runs_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "my runs (1) = 试"
    place.mkdir()
    monkeypatch.chdir(place)
    run_well(
        "model=lenet", *PLAIN, "trainer.max_epochs=1", "name=first", "description='a, b'", "experiment=lenet_mnist"
    )
    first = only_run().rename(place / "a run = 1")
    outcome = run(f"ckpt_path='{first}/checkpoints/last.ckpt'", "trainer.max_epochs=2")
    assert_refused(outcome, "trainer.max_epochs")
    _, _, printed = outcome.err.rstrip("\n").partition("python run.py ")
    run_well(*shlex.split(printed))
    results = results_of(only_run("outputs"))
    assert results["init_from"] == f"{first}/checkpoints/last.ckpt"
    assert (results["epochs"], results["experiment"], results["model"]) == (2, "lenet_mnist", "lenet")
    settings = [OmegaConf.load(folder / ".hydra" / "config.yaml") for folder in (first, only_run("outputs"))]
    assert settings[0].model == settings[1].model
    assert settings[0].data == settings[1].data


SCHEDULES = sorted(file.stem for file in (CONF / "model" / "lr_scheduler").glob("*.yaml"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_is_planned_if_a_longer_run_has_other_rates(name: str) -> None:
    rates, states = [], []
    for epochs in (2, 12):
        cfg = compose(
            "model=lenet", "model/optimizer=sgd", f"model/lr_scheduler={name}", f"trainer.max_epochs={epochs}"
        )
        schedule = None if cfg.model.lr_scheduler is None else instantiate(cfg.model.lr_scheduler)
        optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), cfg.model.optimizer.lr)
        planned = {"total_steps": 5 * epochs} if name.startswith("one_cycle") else {}
        scheduler = schedule and schedule(optimizer, **planned)
        followed = []
        for _ in range(2):
            optimizer.step()
            if scheduler:
                scheduler.step(*((1.0,) if name == "plateau" else ()))
            followed.append(optimizer.param_groups[0]["lr"])
        rates.append(followed)
        states.append(scheduler.state_dict() if scheduler else {})
    assert is_planned(states[0], 2) == (rates[0] != rates[1])


def test_planned_schedule_of_another_length_names_the_command_of_a_new_run(trained: Path) -> None:
    checkpoint = f"ckpt_path={trained}/checkpoints/last.ckpt"
    for epochs in (4, -1):
        outcome = run(checkpoint, f"trainer.max_epochs={epochs}")
        assert_refused(outcome, "trainer.max_epochs")
        assert f"init_from={trained}/checkpoints/last.ckpt" in outcome.err


def test_keys_that_decide_what_is_computed_are_fixed() -> None:
    """Written out here, for the other tests take the lists of `tasks.resume` for true."""
    assert {*FIXED_TRAINER_KEYS} >= {
        *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
        *("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval"),
        *("check_val_every_n_epoch", "use_distributed_sampler", "barebones", "enable_checkpointing", "fast_dev_run"),
        *("devices", "num_nodes"),
    }
    assert {*FIXED_CALLBACKS} >= {"checkpoint", "last", "ema", "early_stopping"}
