"""A run that was stopped anywhere and goes on ends with the same weights, to the bit, as one that was never stopped."""

import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import Outcome, checkpoint_of, finish, only_run, results_of, run, run_well, start
from filelock import FileLock
from lightning.pytorch.callbacks import ModelCheckpoint
from stopping import AUGMENTED, LENET, STATUS, Moment, assert_same_end, stop, training_step

from classic_cnn.lenet import LeNet5
from datamodules.mnist import MNIST5k
from gan.vanilla import VanillaGAN
from gan.wgan import WGAN
from tasks.callbacks import StopOnSignal, TrainingClock
from tasks.messages import command
from tasks.run_records import read_run

GAN = (  # draws latents and has dropout; a generator step at every second batch, of 4 an epoch
    *("model=gan", "data=mnist_5k", "data.train_images_per_class=16", "data.batch_size=40", "trainer.accelerator=cpu"),
    *("trainer.max_epochs=3", "model.discriminator_steps=2"),
)
REDUCE_OFTEN = (*("model/lr_scheduler=plateau", "model.lr_scheduler.patience=0", "model.lr_scheduler.threshold=0.5"),)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """Gives the folder of a run with these arguments that nobody stopped."""
    folders: dict[tuple[str, ...], Path] = {}

    def folder_of(arguments: tuple[str, ...]) -> Path:
        if arguments not in folders:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(tmp_path_factory.mktemp("uninterrupted"))
                run_well(*arguments)
                folders[arguments] = only_run()
        return folders[arguments]

    return folder_of


CRITIC = (  # a generator step at the 8th of 15 batches: none in the first epoch nor in the last
    *("model=wgan", "model/network=mlp", "model.warm_up_steps=8", "data=mnist_5k", "data.train_images_per_class=4"),
    *("data.batch_size=8", "trainer.accelerator=cpu", "trainer.max_epochs=3", "~callbacks.evaluation"),
)
ACCUMULATING = (*LENET, "trainer.accumulate_grad_batches=3")
WITHIN_EPOCHS = (*LENET, "trainer.max_steps=25")
SPARSE_VALIDATION = (*LENET, "trainer.check_val_every_n_epoch=2")
PLATEAU = (*LENET, *REDUCE_OFTEN)
END_OF_EPOCH = Moment(StopOnSignal, "on_train_epoch_end", 1)
STOPS = [
    pytest.param(LENET, signal.SIGTERM, training_step(14), id="within an epoch"),
    pytest.param(WITHIN_EPOCHS, signal.SIGTERM, END_OF_EPOCH, id="with max_steps, end of an epoch"),
    pytest.param(GAN, signal.SIGINT, training_step(6, VanillaGAN), id="a GAN"),
    pytest.param(CRITIC, signal.SIGTERM, training_step(3, WGAN), id="a GAN before its generator's first step"),
    pytest.param(CRITIC, signal.SIGTERM, training_step(12, WGAN), id="a GAN after its generator's last step"),
]
MORE_STOPS = [
    pytest.param(LENET, signal.SIGINT, training_step(1), id="first batch"),
    pytest.param(LENET, signal.SIGINT, training_step(20), id="last batch of an epoch"),
    pytest.param(LENET, signal.SIGINT, Moment(ModelCheckpoint, "on_train_epoch_end", 2), id="as it saves"),
    pytest.param(LENET, signal.SIGTERM, training_step(30), id="last batch of all"),
    pytest.param(ACCUMULATING, signal.SIGINT, training_step(13), id="between two batches of a step"),
    pytest.param(WITHIN_EPOCHS, signal.SIGINT, training_step(14), id="with max_steps"),
    pytest.param(PLATEAU, signal.SIGINT, training_step(20), id="with a schedule that looks at the loss"),
    pytest.param((*LENET, "trainer.precision=bf16-true"), signal.SIGTERM, training_step(14), id="in bfloat16"),
    pytest.param((*LENET, "trainer.precision=64-true"), signal.SIGTERM, training_step(14), id="in float64"),
    pytest.param(SPARSE_VALIDATION, signal.SIGTERM, training_step(11), id="after an epoch without validation"),
]


@pytest.mark.parametrize(
    ("arguments", "number", "moment"),
    [*STOPS, *(pytest.param(*each.values, id=each.id, marks=pytest.mark.extended) for each in MORE_STOPS)],
)
def test_stopped_run_goes_on_to_the_same_weights(
    arguments: tuple[str, ...],
    number: signal.Signals,
    moment: Moment,
    uninterrupted: Callable[[tuple[str, ...]], Path],
) -> None:
    outcome = stop(arguments, moment, number)
    folder = only_run()
    last = folder.relative_to(Path.cwd()) / "checkpoints" / "last.ckpt"
    assert outcome.status == STATUS[number]
    assert outcome.out.splitlines()[-1] == f"Stopped. To resume: python run.py ckpt_path={last}"
    assert results_of(folder)["status"] == "interrupted"
    assert results_of(folder)["reason"] == f"stopped by {number.name}"
    run_well(f"ckpt_path={last}")
    assert only_run() == folder
    assert_same_end(folder, uninterrupted(arguments))


def test_last_checkpoint_is_of_the_end_where_only_a_critic_learned(
    uninterrupted: Callable[[tuple[str, ...]], Path],
) -> None:
    for name in "last", "best":
        progress = checkpoint_of(uninterrupted(CRITIC), name)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        assert progress["total"]["completed"] == 15


def test_run_in_whose_rest_only_a_critic_learned_has_trained() -> None:
    stop(CRITIC, training_step(12, WGAN), signal.SIGTERM)
    assert "nothing was left" not in run_well(f"ckpt_path={only_run()}/checkpoints/last.ckpt").out


@pytest.mark.extended
def test_run_stopped_during_validation_still_picks_the_best_epoch(
    uninterrupted: Callable[[tuple[str, ...]], Path],
) -> None:
    arguments = (*LENET, "data=mnist")  # 5 batches of validation images
    stop(arguments, Moment(LeNet5, "validation_step", 12), signal.SIGTERM)
    run_well(f"ckpt_path={only_run()}/checkpoints/last.ckpt")
    assert_same_end(only_run(), uninterrupted(arguments))


@pytest.mark.parametrize("arguments", [LENET, WITHIN_EPOCHS], ids=["to max_epochs", "to max_steps"])
def test_run_stopped_at_once_goes_on_from_the_last_epoch(
    arguments: tuple[str, ...], uninterrupted: Callable[[tuple[str, ...]], Path]
) -> None:
    outcome = stop(arguments, training_step(23), signal.SIGINT, signal.SIGINT)
    assert outcome.status == 130
    assert results_of(only_run())["reason"] == "stopped by SIGINT"
    assert checkpoint_of(only_run())["epoch"] == 1
    run_well(f"ckpt_path={only_run()}/checkpoints/last.ckpt")
    assert_same_end(only_run(), uninterrupted(arguments))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_stopped_while_it_is_tested_says_so(number: signal.Signals, trained: Path) -> None:
    arguments = ("task=test", f"ckpt_path={trained}/checkpoints/best.ckpt", "data=mnist", "~callbacks.plots")
    outcome = stop(arguments, Moment(LeNet5, "test_step", 2), number)
    assert outcome.status == STATUS[number]
    assert results_of(only_run())["reason"] == f"stopped by {number.name}"


def test_run_goes_on_in_a_folder_that_was_moved(uninterrupted: Callable[[tuple[str, ...]], Path]) -> None:
    stop(LENET, training_step(24), signal.SIGTERM)
    old = only_run()
    moved = old.rename(Path("moved").resolve())
    run_well("ckpt_path=moved/checkpoints/last.ckpt")
    assert not old.exists()
    assert_same_end(moved, uninterrupted(LENET))
    assert results_of(moved)["best_checkpoint"] == str(moved / "checkpoints" / "best.ckpt")


def test_finished_run_keeps_its_results_when_it_is_asked_to_go_on(
    uninterrupted: Callable[[tuple[str, ...]], Path],
) -> None:
    folder = uninterrupted(LENET)
    before = results_of(folder)
    assert "nothing was left" in run_well(f"ckpt_path={folder}/checkpoints/last.ckpt").out
    assert {**results_of(folder), "started": before["started"], "overrides": before["overrides"]} == before


PROCESS = (
    *("model=lenet", "data=mnist_5k", "data.train_images_per_class=100", "data.batch_size=8", "trainer.max_epochs=8"),
    *("trainer.accelerator=cpu", "~callbacks.plots", *AUGMENTED),
)


class Stage(NamedTuple):
    """How a process ended that got a signal, and what it left."""

    number: signal.Signals
    outcome: Outcome
    status: str
    global_step: int


def signalled(place: Path, number: signal.Signals, *arguments: str) -> Stage:
    """A process that gets a signal within the epoch after the first one that it finished."""

    def written() -> list[int]:
        return [file.stat().st_mtime_ns for file in place.rglob("last.ckpt")]

    before, deadline = written(), time.monotonic() + 120
    process = start(*arguments, place=place)
    while written() == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(number)
    outcome, folder = finish(process), only_run(place)
    return Stage(number, outcome, read_run(folder)["status"], checkpoint_of(folder)["global_step"])


def command_in(outcome: Outcome) -> list[str]:
    """What a stopped run says how to go on, as arguments of run.py."""
    advice, _, command = outcome.out.splitlines()[-1].partition("python run.py ")
    assert advice == "Stopped. To resume: "
    return shlex.split(command)


@pytest.mark.extended
def test_process_that_is_stopped_resumed_and_killed_ends_with_the_same_weights(
    tmp_path: Path, uninterrupted: Callable[[tuple[str, ...]], Path]
) -> None:
    first = signalled(tmp_path, signal.SIGINT, *PROCESS)
    second = signalled(tmp_path, signal.SIGTERM, *command_in(first.outcome))
    done = [first, second, signalled(tmp_path, signal.SIGKILL, *command_in(second.outcome))]
    for stage in done[:2]:
        assert (stage.outcome.status, stage.outcome.err) == (STATUS[stage.number], "")
        assert stage.status == "interrupted"
    assert (done[2].outcome.status, done[2].status) == (-signal.SIGKILL, "killed")
    steps = [0, *(stage.global_step for stage in done)]
    assert steps == sorted(set(steps))
    assert steps[-1] < 8 * 125
    run_well(*command_in(done[1].outcome))
    assert_same_end(only_run(), uninterrupted(PROCESS))


@pytest.mark.extended
def test_run_that_goes_on_and_is_killed_is_no_longer_the_finished_one(
    tmp_path: Path, uninterrupted: Callable[[tuple[str, ...]], Path]
) -> None:
    folder = shutil.copytree(uninterrupted(PLATEAU), tmp_path / "run")
    arguments = (f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.max_epochs=60")
    process = start(*arguments, place=tmp_path)
    before, deadline = results_of(folder), time.monotonic() + 120
    while (folder / "results.json").exists() and process.poll() is None and time.monotonic() < deadline:
        assert results_of(folder) == before
        time.sleep(0.02)
    process.kill()
    assert finish(process).status == -signal.SIGKILL
    assert read_run(folder)["status"] == "killed"


@pytest.mark.extended
@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
def test_stopped_run_whose_reader_was_stopped_too_keeps_what_it_has(sweep: tuple[str, ...], tmp_path: Path) -> None:
    """Ctrl-C in `python run.py ... | tee log` ends tee as well, at once."""
    process = start(*sweep, *PROCESS, place=tmp_path)
    assert process.stdout is not None
    deadline = time.monotonic() + 120
    while not [*tmp_path.rglob("last.ckpt")] and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    with process.stderr:
        assert (process.stderr.read(), process.wait(timeout=120)) == ("", STATUS[signal.SIGINT])
    folder = only_run(tmp_path)
    assert results_of(folder)["reason"] == "stopped by SIGINT"
    run_well(f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.max_epochs=8")


def test_the_last_checkpoint_is_of_the_last_epoch_also_where_that_was_not_the_best() -> None:
    run_well(*LENET, "model.optimizer.lr=0", "model/lr_scheduler=none")  # no epoch is better than the first
    epochs = {name: checkpoint_of(only_run(), name)["epoch"] for name in ("best", "last")}
    assert epochs == {"best": 0, "last": 2}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_stopped_at_its_start_says_that_there_is_nothing_to_resume(number: signal.Signals) -> None:
    outcome = stop(LENET, Moment(MNIST5k, "read", 1), number)
    assert outcome.status == STATUS[number]
    assert "nothing to resume" in outcome.out.splitlines()[-1]
    assert results_of(only_run())["reason"] == f"stopped by {number.name}"


FINAL = {
    "the final test": Moment(LeNet5, "on_validation_start", 4),
    "the final metrics": Moment(TrainingClock, "cost", 1),
}


@pytest.mark.extended
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", FINAL.values(), ids=FINAL)
def test_run_stopped_after_training_resumes_with_what_is_missing(
    moment: Moment, number: signal.Signals, uninterrupted: Callable[[tuple[str, ...]], Path]
) -> None:
    outcome = stop(LENET, moment, number)
    folder = only_run()
    assert outcome.status == STATUS[number]
    assert results_of(folder)["status"] == "interrupted"
    trained = (folder / "checkpoints" / "last.ckpt").read_bytes()
    run_well(*command_in(outcome))
    assert_same_end(folder, uninterrupted(LENET))
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == trained  # nothing was trained again


def test_command_to_resume_is_quoted_for_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "my runs (1) = 试"
    place.mkdir()
    monkeypatch.chdir(place)
    outcome = stop(LENET, training_step(14), signal.SIGTERM)
    moved = only_run().rename(place / "a run = 1")
    monkeypatch.chdir(tmp_path)
    last = moved / "checkpoints" / "last.ckpt"
    assert outcome.status == 143
    text = command(f"ckpt_path={last}").removeprefix("python run.py ")
    run_well(*shlex.split(text))
    assert results_of(moved)["status"] == "finished"


def test_second_process_is_refused_while_one_writes_into_a_run(trained: Path) -> None:
    before = {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()}
    with FileLock(trained / ".lock"):
        outcome = run(f"ckpt_path={trained}/checkpoints/last.ckpt")
    assert outcome.status == 2
    assert str(trained) in outcome.err
    assert {file: file.read_bytes() for file in trained.rglob("*") if file.is_file()} == before
