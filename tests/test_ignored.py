"""What a command asks for happens or is refused: keys that a task would ignore, settings that would undo each other."""

import shlex
import signal
from pathlib import Path

import pytest
from command_line import PLAIN, SMALL, assert_one_line, checkpoint_of, only_run, results_of, run, run_well
from conftest import CONF
from stopping import Moment, stop
from test_generated_data import save

from datamodules.in_memory import Split
from datamodules.mnist import MNIST5k
from tasks.callbacks import TrainingClock
from tasks.run_records import USED_BY

LIGHTNING = "lightning.pytorch.callbacks"
VALUES = {"compile": "true", "init_from": "published/lenet_mnist", "input": "digit.png"}
TASKS = sorted(file.stem for file in (CONF / "task").glob("*.yaml") if file.stem != "claim")
SECOND_EPOCH = Moment(TrainingClock, "on_train_epoch_start", 2)
TINY = ("model=lenet", *PLAIN, "model/lr_scheduler=none")


@pytest.mark.parametrize(
    ("key", "task"), [(key, task) for key in USED_BY for task in TASKS if task not in USED_BY[key]]
)
def test_key_that_a_task_does_not_use_is_refused(key: str, task: str) -> None:
    assert_one_line(run(f"task={task}", f"{key}={VALUES[key]}"), f"{key}=", f"task={task}", *USED_BY[key])
    assert not [file for file in Path().rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (
            ("callbacks.checkpoint.save_top_k=3",),
            ("callbacks.checkpoint.save_top_k=3", "callbacks.checkpoint.filename"),
        ),
        (("callbacks.checkpoint.save_top_k=-1",), ("callbacks.checkpoint.save_top_k=-1",)),
        (("callbacks.last.save_top_k=-1",), ("callbacks.last.save_top_k=-1",)),
        (("callbacks.checkpoint.monitor=val/loss",), ("callbacks.checkpoint.mode=max", "lower", "mode=min")),
        (("callbacks.checkpoint.mode=min",), ("callbacks.checkpoint.mode=min", "higher", "mode=max")),
        (
            ("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/loss"),
            ("callbacks.early_stopping.mode=max", "mode=min"),
        ),
        (("trainer.max_epochs=-1", "trainer.max_time=00:00:00:03"), ("model.lr_scheduler", "trainer.max_epochs")),
        (("trainer.max_epochs=-1",), ("model.lr_scheduler",)),
        (("trainer.val_check_interval=0",), ("trainer.val_check_interval=0",)),
        (("model=gan", "model/lr_scheduler=one_cycle"), ("model.lr_scheduler", "after every epoch")),
        (("task=find_lr", "trainer.fast_dev_run=true"), ("trainer.fast_dev_run", "task.steps")),
        (("task=find_lr", "trainer.max_time=00:00:00:01"), ("trainer.max_time", "task.steps")),
        (("task=find_lr", "ckpt_path=published/lenet_mnist"), ("ckpt_path", "init_from")),
        (("task=benchmark", "trainer.fast_dev_run=true"), ("trainer.fast_dev_run", "task.steps")),
        (("trainer.max_time=00:00:00:00",), ("trainer.max_time", "nothing to train")),
        (("model/lr_scheduler=plateau", "trainer.limit_val_batches=0"), ("model.lr_scheduler", "limit_val_batches=0")),
        ((f"callbacks.a={{_target_:{LIGHTNING}.StochasticWeightAveraging,swa_lrs:0.1}}",), ("callbacks.a", "ema")),
        (
            (f"callbacks.a={{_target_:{LIGHTNING}.GradientAccumulationScheduler,scheduling:{{0:2,1:4}}}}",),
            ("model.lr_scheduler", "trainer.accumulate_grad_batches"),
        ),
        (
            (f"callbacks.a={{_target_:{LIGHTNING}.GradientAccumulationScheduler,scheduling:{{0:2}}}}",),
            ("lr_scheduler",),
        ),
        (("model=gan", "trainer.accumulate_grad_batches=2"), ("accumulate_grad_batches=2",)),
        (("model=gan", "trainer.gradient_clip_val=1.0"), ("gradient_clip_val=1.0",)),
        (("model.num_classes=5",), ("model.num_classes=5", "10 classes")),
        (("model.in_channels=3",), ("model.in_channels=3", "have 1")),
        (("model.image_size=32",), ("model.image_size=32", "28 pixels")),
        (("~data.train_images_per_class", "~data.batch_size", "data=ring"), ("no images", "LeNet5")),
        (
            ("task=publish", "ckpt_path=published/lenet_mnist", "trainer.limit_test_batches=2"),
            ("limit_test_batches=2",),
        ),
        (("task=publish", "ckpt_path=published/lenet_mnist", "trainer.limit_test_batches=0.5"), ("=0.5", "all images")),
        (("seed=0,1", "hydra.sweep.subdir=x", "-m"), ("hydra.sweep.subdir", "leave it out")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_settings_that_undo_what_was_asked_for_are_refused(settings: tuple[str, ...], parts: tuple[str, ...]) -> None:
    model = () if settings[0].startswith("model=") else ("model=lenet",)
    assert_one_line(run(*model, *PLAIN, *settings), *parts)
    assert not [file for file in Path().rglob("*") if file.is_file()]


def test_best_of_a_loss_is_the_lowest_and_several_checkpoints_have_names() -> None:
    names = ("callbacks.checkpoint.filename='{epoch}'", "callbacks.checkpoint.auto_insert_metric_name=false")
    monitor = ("callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min")
    run_well(*TINY, "trainer.max_epochs=3", "callbacks.checkpoint.save_top_k=2", *monitor, *names)
    folder = only_run()
    kept = {file.name for file in (folder / "checkpoints").glob("*.ckpt")}
    assert len(kept) == 3
    assert "last.ckpt" in kept
    callbacks = checkpoint_of(folder)["callbacks"]
    [scores] = [state["best_k_models"] for name, state in callbacks.items() if "val/loss" in name]
    assert Path(min(scores, key=scores.get)) == Path(results_of(folder)["best_checkpoint"])
    assert {Path(path).name for path in scores} == kept - {"last.ckpt"}


def test_resume_that_a_library_refuses_changes_nothing() -> None:
    run_well(*TINY, "trainer.max_epochs=1")
    folder = only_run()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}
    changes = ("callbacks=device_stats", "trainer/logger=none", "trainer.max_epochs=2")
    assert_one_line(run(f"ckpt_path={folder}/checkpoints/last.ckpt", *changes), "DeviceStatsMonitor")
    after = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}
    assert after == before


def test_run_with_an_extra_set_is_resumed_with_it_or_not_at_all() -> None:
    digits = MNIST5k()
    digits.setup()
    assert digits.train_split is not None
    save(Split(*(part[:100] for part in digits.train_split)), "set", "idx")
    run_well(*TINY, "data.extra_train_path=set", "trainer.max_epochs=1")
    last = f"ckpt_path={only_run()}/checkpoints/last.ckpt"
    assert_one_line(run(last, "trainer.max_epochs=2"), "500", "400", "data.extra_train_path")
    assert results_of(only_run())["epochs"] == 1
    run_well(last, "data.extra_train_path=set", "trainer.max_epochs=2")
    assert results_of(only_run())["epochs"] == 2
    assert checkpoint_of(only_run())["training_set"]["images"] == 500


def test_command_that_resumes_a_run_has_the_paths_of_its_data() -> None:
    digits = MNIST5k()
    digits.setup()
    assert digits.train_split is not None
    save(Split(*(part[::10] for part in digits.train_split)), "set.csv")
    own = ("model=lenet", "data=folder", "data.path=set.csv", "trainer.accelerator=cpu", "~callbacks.plots")
    stopped = stop((*own, "trainer.max_epochs=3", "model/lr_scheduler=none"), SECOND_EPOCH, signal.SIGTERM)
    assert stopped.status == 128 + signal.SIGTERM
    _, _, command = stopped.out.rstrip("\n").rpartition("python run.py ")
    assert "data.path=set.csv" in command
    run_well(*shlex.split(command))
    assert results_of(only_run())["epochs"] == 3


def test_finished_run_that_trains_on_and_is_stopped_no_longer_says_finished() -> None:
    run_well(*TINY, "trainer.max_epochs=1")
    folder = only_run()
    last = f"ckpt_path={folder}/checkpoints/last.ckpt"
    refused = run(last, "trainer.max_epochs=3", "model.optimizer.lr=0.5")
    assert refused.status == 2
    assert results_of(folder)["status"] == "finished"
    assert stop((last, "trainer.max_epochs=3"), SECOND_EPOCH, signal.SIGTERM).status == 128 + signal.SIGTERM
    assert checkpoint_of(folder)["epoch"] == 2
    assert results_of(folder)["status"] == "interrupted"
    run_well(last, "trainer.max_epochs=3")
    assert (results_of(folder)["status"], results_of(folder)["epochs"]) == ("finished", 3)


def test_another_data_set_is_read_as_the_net_has_learned_to() -> None:
    run_well(*TINY, "data.normalize=pixel_mean", "trainer.max_epochs=1")
    best = f"ckpt_path={only_run()}/checkpoints/best.ckpt"
    for given, wanted in (((), "pixel_mean"), (("data.normalize=half",), "half")):
        before = {*Path("outputs").rglob("config.yaml")}
        run_well("task=test", best, "data=mnist_5k", *given)
        [config] = {*Path("outputs").rglob("config.yaml")} - before
        assert f"normalize: {wanted}" in config.read_text()


def test_a_claim_that_keeps_no_net_is_refused() -> None:
    claim = ("experiment=claim/max_pool", "task.arm=max", "seed=0", "hydra.mode=RUN", "trainer.accelerator=cpu")
    for key, value in (("enable_checkpointing", "false"), ("fast_dev_run", "true")):
        assert_one_line(run(*claim, f"trainer.{key}={value}"), f"trainer.{key}", "checkpoint")
    assert_one_line(run(*claim, "~callbacks.checkpoint", "~callbacks.last"), "callbacks.checkpoint")
    assert not [file for file in Path().rglob("*") if file.is_file()]


def test_range_test_starts_from_given_weights() -> None:
    run_well(*TINY, "trainer.max_epochs=1")
    start = f"init_from={only_run()}/checkpoints/best.ckpt"
    out = run_well("task=find_lr", "task.steps=40", "model=lenet", *SMALL, start).out
    assert "taken over   features.0" in out
    assert start in out.partition("to train")[2]


def test_at_most_ten_pictures_are_explained() -> None:
    digits = MNIST5k()
    digits.setup()
    assert digits.val_split is not None
    save(Split(*(part[:11] for part in digits.val_split)), "set", "png")
    pictures = ",".join(map(str, sorted(Path("set").rglob("*.png"))))
    outcome = run("task=explain", "ckpt_path=published/lenet_mnist", f"input=[{pictures}]")
    assert_one_line(outcome, "input", "11", "10")


def test_options_of_hydra_go_with_a_checkpoint() -> None:
    out = run_well("task=summarize", "ckpt_path=published/lenet_mnist", "--cfg", "job", "--resolve").out
    assert "_target_: classic_cnn.lenet.LeNet5" in out


def test_command_that_leaves_a_callback_out_still_has_the_choices_of_its_checkpoint() -> None:
    run_well(*TINY[:-1], "model/lr_scheduler=none", "trainer.max_epochs=1")
    folder = only_run()
    run_well(f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.max_epochs=2", "~callbacks.learning_rate")
    assert results_of(folder)["epochs"] == 2


@pytest.mark.parametrize("part", ["model", "data", "trainer", "task"])
def test_whole_part_is_no_function(part: str) -> None:
    assert_one_line(run("model=lenet", *PLAIN, f"{part}._partial_=true"), f"{part}._partial_")
