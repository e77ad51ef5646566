"""What a run leaves behind, and what its checkpoint is good for: test, predict, and the config that travels with it."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import PLAIN, assert_one_line, checkpoint_of, only_run, results_of, run, run_well
from conftest import compose, small_run
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tasks.board import compared_values
from tasks.callbacks import TrainingClock
from tasks.folders import new_folder
from tasks.run_task import record_task
from tasks.train import train


@pytest.fixture(scope="module")
def board(trained: Path) -> EventAccumulator:
    events = EventAccumulator(str(trained), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    events.Reload()
    return events


def test_run_leaves_its_config_checkpoints_events_and_results_in_a_folder_of_its_own(trained: Path) -> None:
    assert trained.parts[-4:-1] == ("outputs", "lenet", "mnist_5k")
    files = {str(file.relative_to(trained)) for file in trained.rglob("*") if file.is_file()}
    assert files >= {".hydra/config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "results.json"}
    assert any(file.startswith("events.out.tfevents") for file in files)
    assert OmegaConf.load(trained / ".hydra" / "config.yaml").data.batch_size == 50


def test_results_say_what_was_run_and_what_came_out(trained: Path) -> None:
    results = results_of(trained)
    expected = {
        **{"status": "finished", "task": "train", "model": "lenet", "data": "mnist_5k", "experiment": None},
        **{"parameters": 61706, "macs": 416520, "seed": 0, "precision": "32-true", "epochs": 3},
        **{"device": "cpu, 1 thread", "folder": str(trained)},
        **{f"{name}_checkpoint": str(trained / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")},
    }
    assert {key: results[key] for key in expected} == expected
    assert 0.85 < results["val/accuracy"] <= 1
    assert 0 < results["val/loss"] < 0.6
    assert results["images_per_second"] == pytest.approx(3 * 4000 / results["seconds"], rel=1e-3)
    assert "test/accuracy" not in results  # these digits are all from the training set


def test_validation_metrics_are_those_of_the_checkpoint_that_is_tested() -> None:
    """At this rate the net gets worse after its best epoch, and test images would be looked at after the last."""
    rising = ("model/optimizer=sgd", "model.optimizer.lr=0.3", "model/lr_scheduler=none", "trainer.max_epochs=4")
    few = ("data=mnist", "data.train_images=500", "trainer.limit_val_batches=4", "trainer.limit_test_batches=1")
    out = run_well("model=lenet", *few, *rising, "trainer/logger=csv", "trainer.accelerator=cpu").out
    folder = only_run()
    results, [curve] = results_of(folder), folder.glob("csv_0/metrics.csv")
    epochs = [row for row in csv.DictReader(curve.read_text().splitlines()) if row["val/loss"]]
    best = max(epochs, key=lambda row: float(row["val/accuracy"]))
    assert int(best["epoch"]) + 1 == results["best_epoch"] < 4
    for name in ("val/accuracy", "val/loss"):
        assert results[name] == pytest.approx(float(best[name]), rel=1e-5)
    assert f"best epoch   {results['best_epoch']} of 4" in out


def test_a_run_of_short_epochs_has_a_point_of_its_curves_for_each() -> None:
    run_well("model=lenet", *PLAIN, "trainer.max_epochs=2", "trainer/logger=csv")  # 10 batches an epoch
    [curve] = only_run().glob("csv_0/metrics.csv")
    steps = [row["step"] for row in csv.DictReader(curve.read_text().splitlines()) if row["train/loss"]]
    assert steps == ["9", "19"]


@pytest.mark.parametrize("budget", [("trainer.max_steps=7",), ("trainer.accumulate_grad_batches=4",)])
def test_a_run_of_few_steps_has_a_point_of_its_curves(budget: tuple[str, ...]) -> None:
    run_well("model=lenet", *PLAIN, *budget, "trainer.max_epochs=1", "trainer/logger=csv")
    [curve] = only_run().glob("csv_0/metrics.csv")
    assert [row for row in csv.DictReader(curve.read_text().splitlines()) if row["train/loss"]]


def test_objective_of_a_run_is_the_validation_accuracy_of_its_best_checkpoint(trained: Path) -> None:
    results = results_of(trained)
    states = [state for name, state in checkpoint_of(trained)["callbacks"].items() if "ModelCheckpoint" in name]
    assert results["objective"] == results["val/accuracy"]
    assert results["objective"] == pytest.approx(states[0]["best_model_score"].item())
    cfg = compose("model=lenet", *PLAIN, "trainer.max_epochs=1")
    assert record_task(cfg, train, Path.cwd()) == pytest.approx(results_of(Path.cwd())["val/accuracy"])


def test_curves_of_training_and_validation_are_on_the_board(board: EventAccumulator) -> None:
    steps = {name: [event.step for event in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert {name.split("/")[0] for name in steps} == {"train", "val"}  # groups that come before all others
    assert steps["train/loss"] == steps["train/accuracy"] == steps["train/lr-Adam"] == list(range(15, 240, 16))
    assert steps["val/loss"] == steps["val/accuracy"] == [79, 159, 239]
    losses = [event.value for event in board.Scalars("train/loss")]
    assert losses[0] > 2 * losses[-1] > 0


def test_pictures_of_a_run_are_on_the_board(board: EventAccumulator) -> None:
    assert set(board.Tags()["images"]) == {
        "train/what the net reads",
        "val/confusion matrix",
        "val/worst mistakes",
    }
    for tag in board.Tags()["images"]:
        (picture,) = board.Images(tag)
        assert min(picture.width, picture.height) > 100


def test_graph_and_precision_recall_curves_are_on_the_board(board: EventAccumulator) -> None:
    operations = {node.op for node in board.Graph().node}
    assert "aten::_convolution" in operations
    curves = [tag for tag in board.Tags()["tensors"] if "precision and recall" in tag]
    assert curves == [f"val/precision and recall of {digit}" for digit in range(10)]


def test_features_of_the_first_images_are_in_the_projector(trained: Path) -> None:
    assert "tensor_path" in (trained / "projector_config.pbtxt").read_text()
    (points,) = trained.rglob("tensors.tsv")
    rows = [line.split("\t") for line in points.read_text().splitlines()]
    assert {len(row) for row in rows} == {84}  # F6
    labels = (points.parent / "metadata.tsv").read_text().split()
    assert labels == [str(digit) for digit in range(10) for _ in range(100)]


def test_config_is_on_the_board_and_hyperparameters_come_with_final_metrics(
    board: EventAccumulator, trained: Path
) -> None:
    (text,) = board.Tensors("config/text_summary")
    assert "batch_size: 50" in text.tensor_proto.string_val[0].decode()
    start = HParamsPluginData.FromString(board.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    values = start.session_start_info.hparams
    assert set(values) == {"model", "data", "optimizer", "lr", "batch_size", "epochs", "seed"}
    assert (values["model"].string_value, values["batch_size"].number_value) == ("lenet", 50)
    assert (values["optimizer"].string_value, values["lr"].number_value > 0) == ("Adam", True)
    (results,) = board.Tensors("results/text_summary")
    assert "| val/accuracy |" in results.tensor_proto.string_val[0].decode()
    assert board.Scalars("val/accuracy")[-1].value == pytest.approx(results_of(trained)["val/accuracy"], abs=1e-5)


def test_columns_of_hyperparameters_have_plain_names_and_those_that_differ_in_a_sweep_come_first() -> None:
    overrides = ("model=cgan", "model/network=dcgan", "model.network.width=0.25", "data=mnist_5k", "seed=3")
    quiet = ("~callbacks.plots", "trainer.accelerator=cpu", "callbacks.evaluation.count=50")
    values, first = compared_values(compose(*overrides, *quiet), {"data=mnist_5k", "model.network.width=0.25"})
    expected: dict[str, Any] = {"model": "cgan", "data": "mnist_5k", "optimizer": "Adam", "lr": 2e-4, "seed": 3}
    assert values == expected | {"batch_size": 128, "epochs": 10, "network": "dcgan", "width": 0.25}
    assert first == {"model", "network", "seed"}


def test_run_goes_to_the_folder_that_the_command_names_and_never_among_files() -> None:
    named = "hydra.run.dir=outputs/mine"
    run_well("experiment=debug", named)
    assert only_run() == Path("outputs", "mine").absolute()
    last = Path("outputs", "mine", "checkpoints", "last.ckpt")
    before = last.read_bytes()
    for again in (
        ("experiment=debug", named),
        (f"ckpt_path={last}", "hydra.run.dir=outputs/other"),
    ):
        outcome = run(*again)
        assert outcome.status == 2
        assert outcome.err.startswith(f"Error: {again[1]}: ")
        assert outcome.err.count("\n") == 1
    assert last.read_bytes() == before
    assert only_run() == Path("outputs", "mine").absolute()
    run_well(f"ckpt_path={last}", "trainer.max_epochs=2", named)
    assert only_run() == Path("outputs", "mine").absolute()


@pytest.mark.parametrize(
    "arguments", [("hydra.run.dir='a$HOME'",), ("-m", "seed=0,1", "hydra.sweep.dir='a$HOME'"), ("name=b",)], ids=str
)
def test_folder_whose_name_a_logger_would_change_is_refused(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if arguments == ("name=b",):
        Path("$HOME").mkdir()
        monkeypatch.chdir("$HOME")
    outcome = run(*arguments, "experiment=debug")
    assert outcome.status == 2
    assert "in place of $" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not [path for path in Path.cwd().rglob("*") if path.is_file()]


def test_run_has_the_current_folder_if_it_is_named_and_empty() -> None:
    here = (*PLAIN, "experiment=debug", "hydra.run.dir=.")
    run_well(*here)
    assert results_of(Path())["status"] == "finished"
    before = set(Path().rglob("*"))
    assert_one_line(run(*here), "hydra.run.dir=.: there are files already")
    assert set(Path().rglob("*")) == before


def test_runs_of_the_same_second_get_folders_of_their_own() -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(Path("outputs", "lenet")), range(40)))
    assert len(set(folders)) == 40


def test_second_run_overwrites_nothing_of_the_first() -> None:
    run_well("model=lenet", *PLAIN, "trainer.max_epochs=1")
    first = only_run()
    before = {file: file.read_bytes() for file in first.rglob("*") if file.is_file()}
    run_well("model=lenet", *PLAIN, "trainer.max_epochs=1")
    assert {file: file.read_bytes() for file in first.rglob("*") if file.is_file()} == before
    assert len(list(Path("outputs/lenet/mnist_5k").iterdir())) == 2


def test_test_gives_the_accuracy_that_training_gave_without_repeating_model_and_data(trained: Path) -> None:
    run_well("task=test", f"ckpt_path={trained}/checkpoints/best.ckpt", "~callbacks.plots")
    tested = only_run()
    assert tested.parts[-4:-1] == ("outputs", "lenet", "mnist_5k")
    results = results_of(tested)
    assert results["task"] == "test"
    assert {key: results[key] for key in ("val/accuracy", "val/loss", "model", "data", "parameters")} == {
        key: results_of(trained)[key] for key in ("val/accuracy", "val/loss", "model", "data", "parameters")
    }
    assert results_of(trained)["task"] == "train"  # nothing changed there


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a run whose settings are not the defaults."""
    changed = ("model.optimizer.lr=0.0123", "trainer.log_every_n_steps=3", "data/augment=crop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("unusual"))
        run_well("model=lenet", *PLAIN, "trainer.max_epochs=1", *changed)
        return only_run() / "checkpoints" / "last.ckpt"


def test_settings_of_a_run_travel_with_its_checkpoint(unusual: Path) -> None:
    cfg = compose("task=test", f"ckpt_path={unusual}")
    assert cfg.model.optimizer.lr == 0.0123
    assert cfg.trainer.log_every_n_steps == 3
    assert cfg.data._target_ == "datamodules.mnist.MNIST5k"
    assert cfg.data.augment == compose("data/augment=crop").data.augment
    assert "plots" not in cfg.callbacks
    assert cfg.task == compose("task=test").task


def test_what_the_command_line_changes_wins_over_the_checkpoint(unusual: Path) -> None:
    changes = ("trainer.log_every_n_steps=7", "data=fashion_mnist", "data.batch_size=11", "~callbacks.learning_rate")
    more = ("trainer.benchmark=true", "data/augment=crop_flip")
    cfg = compose("task=test", f"ckpt_path={unusual}", *changes, *more)
    assert len(cfg.data.augment) == 2
    assert cfg.trainer.log_every_n_steps == 7
    assert cfg.trainer.benchmark
    assert cfg.trainer.max_epochs == 1  # as before
    assert cfg.model.optimizer.lr == 0.0123
    assert (cfg.data._target_, cfg.data.batch_size) == ("datamodules.mnist.FashionMNIST", 11)
    assert (cfg.choices.model, cfg.choices.data) == ("lenet", "fashion_mnist")
    assert "learning_rate" not in cfg.callbacks


def test_folder_of_a_later_run_holds_the_config_that_was_run(unusual: Path) -> None:
    run_well("task=test", f"ckpt_path={unusual}", "data.batch_size=11")
    config = OmegaConf.load(only_run() / ".hydra" / "config.yaml")
    assert (config.model.optimizer.lr, config.data.batch_size) == (0.0123, 11)


class Passes(Callback):
    """A second for each training batch, and a thousand for each of validation."""

    def __init__(self, now: list[float]) -> None:
        self.now = now

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.now[0] += 1

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.now[0] += 1000


def test_seconds_of_training_are_without_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, trainer = small_run("model=lenet", "~callbacks.plots", "trainer.max_epochs=2")
    now, clock = [1.0], TrainingClock()
    fake = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0])
    monkeypatch.setattr("tasks.callbacks.time", fake)
    trainer.callbacks[:0] = [clock, Passes(now)]  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert (clock.seconds, clock.cpu_seconds, clock.images, clock.epochs) == (6, 6, 40, 2)
