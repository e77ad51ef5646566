"""A person's mistake ends in one line that says what to do; only a mistake of ours ends in a traceback."""

from pathlib import Path

import pytest
import torch
from command_line import PLAIN, Outcome, only_run, results_of, run

from classic_cnn.lenet import LeNet5


def assert_one_line(outcome: Outcome, *parts: str) -> None:
    """Status 2, and one line on stderr that begins with "Error:" and holds all the `parts`."""
    assert outcome.status == 2
    assert outcome.err.startswith("Error: ")
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.out
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        ("model=lennet", "model=lennet is unknown: choose one of alexnet, "),
        ("data=mnits", "data=mnits is unknown: choose one of fashion_mnist, generated, mnist, mnist_5k"),
        ("task=tets", "task=tets is unknown: choose one of "),
        ("experiment=none", "experiment=none is unknown: choose one of "),
        ("seeed=1", "seeed is not a key of the config: did you mean seed?"),
        ("modle=lenet", "modle is not a key of the config: did you mean model?"),
        ("lr=0.1", "lr is not a key of the config: did you mean model.optimizer.lr?"),
        ("model.lrr=0.1", "model.lrr is not a key of the config: did you mean model.optimizer.lr?"),
        ("trainer.max_epoch=1", "trainer.max_epoch is not a key of the config: did you mean trainer.max_epochs?"),
        ("data.bacth_size=8", "data.bacth_size is not a key of the config: did you mean data.batch_size?"),
        ("+foo=1", "foo is not a key of the config: choose among seed, ckpt_path, "),
        ("model.lr_scheduler={beta:0}", "model.lr_scheduler.beta is not a key of the config: add it with +model."),
        ("model.depth=18", "model.depth is a key of model=resnet, vgg alone"),
        ("callbacks.evaluation.count=9", "callbacks.evaluation is a key of model=cgan, dragan, ebgan, gan, mad_gan, "),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: a whole number is needed"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: a whole number is needed"),
        ("seed=1.5", "seed=1.5: a whole number is needed"),
        ("seed=true", "seed=True: a whole number is needed"),
        ("seed=-1", "-1 is not in bounds"),
        ("data.batch_size=many", "data.batch_size=many: a whole number is needed"),
        ("model.optimizer.lr=fast", "model.optimizer.lr=fast: a number is needed"),
        ("compile=maybe", "compile=maybe: true or false is needed"),
        ("model=lenet,alexnet", "To sweep over it, add --multirun"),
        ("model", "missing EQUAL"),
        ("~callbacks.figure", "callbacks.figure"),
        ("ckpt_path=none.ckpt", "ckpt_path=none.ckpt: no such file"),
        ("ckpt_path=.", "ckpt_path=.: no such file"),
        ("hydra.run.dir=/dev/null/run", "/dev/null/run: Not a directory"),
        ("hydra.run.dir=/proc/run", "/proc/run: No such file or directory"),
    ],
)
def test_mistake_is_answered_in_one_line_and_leaves_nothing_behind(mistake: str, answer: str) -> None:
    assert_one_line(run(mistake), answer)
    assert not [file for file in Path().rglob("*") if file.is_file()]


def test_key_below_a_choice_is_answered_with_the_choices_own_key() -> None:
    outcome = run("model.optimizer=${optimizers.sgd}", "model.optimizer.lr=0.3")
    assert_one_line(outcome, "model.optimizer.lr: model.optimizer is optimizers.sgd here: write optimizers.sgd.lr=")


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        ("+trainer.x=1", "unexpected keyword argument 'x'"),
        ("data.image_size=12", "data.image_size=12: LeNet5 cannot read such images: use data.image_size=28"),
        ("data.batch_size=0", "data.batch_size=0: a whole number above 0 is needed"),
        ("data.train_images_per_class=401", "data.train_images_per_class=401: class 0 has only 400 training images"),
        ("data.normalize=full", "data.normalize=full: choose one of half, pixel_mean"),
        ("model.label_smoothing=2", "model.label_smoothing=2: a number from 0 to 1 is needed"),
        ("trainer.accelerator=gpus", "invalid accelerator name"),
        ("trainer.precision=17", "Precision 17 is invalid"),
        ("trainer.devices=1000", "trainer.devices=1000"),
        ("callbacks.checkpoint.monitor=val/acc", "ModelCheckpoint(monitor='val/acc')"),
        ("model.init_from=none.ckpt", "model.init_from=none.ckpt: no such file"),
    ],
)
def test_run_that_fails_says_why_in_one_line_and_in_its_results(mistake: str, answer: str) -> None:
    assert_one_line(run("model=lenet", *PLAIN, "trainer.max_epochs=1", mistake), answer)
    results = results_of(only_run())
    assert results["status"] == "failed"
    assert results["reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_where_there_is_none_is_answered_in_one_line() -> None:
    assert_one_line(run("data=mnist_5k", "trainer.accelerator=gpu"), "no GPU was found", "trainer.accelerator=cpu")


def test_output_below_a_file_is_answered_in_one_line() -> None:
    Path("outputs").write_text("in the way")
    outcome = run("data=mnist_5k")
    assert_one_line(outcome, "Error: outputs/lenet/mnist_5k/", ": Not a directory\n")


def test_folder_without_runs_is_answered_in_one_line() -> None:
    assert_one_line(run("task=leaderboard", "task.folder=none"), "task.folder=none: no such folder")
    Path("empty").mkdir()
    assert_one_line(run("task=leaderboard", "task.folder=empty"), "empty holds no run")


def test_file_that_is_no_checkpoint_of_ours_is_answered_in_one_line(trained: Path) -> None:
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    Path("text.ckpt").write_text("a text")
    Path("empty.ckpt").write_text("")
    Path("cut.ckpt").write_bytes(whole[:-5000])
    Path("overwritten.ckpt").write_bytes(b"\0\0\0\0" + whole[4:])
    torch.save(LeNet5(), "pickled.ckpt")
    torch.save({"weights": torch.zeros(2)}, "foreign.ckpt")
    damaged = "damaged, or not a checkpoint"
    for name in ("text", "empty", "cut", "overwritten", "pickled"):
        assert_one_line(run(f"ckpt_path={name}.ckpt"), f"ckpt_path={name}.ckpt: {damaged}")
    assert_one_line(run("ckpt_path=foreign.ckpt"), "ckpt_path=foreign.ckpt: not written by run.py")
    assert_one_line(run("task=test", "ckpt_path=text.ckpt"), f"ckpt_path=text.ckpt: {damaged}")
    assert not list(Path().rglob("results.json"))


def test_missing_checkpoint_names_those_that_are_there(trained: Path) -> None:
    folder = trained / "checkpoints"
    answer = f"no such file; there is {folder}/best.ckpt, {folder}/last.ckpt"
    assert_one_line(run("task=test", f"ckpt_path={folder}/bset.ckpt"), answer)


@pytest.mark.parametrize("task", ["train", "test", "predict"])
def test_checkpoint_of_another_architecture_is_answered_in_one_line(task: str, trained: Path) -> None:
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    before = results_of(trained)
    outcome = run(f"task={task}", "model=nin", checkpoint, "input=none.png")
    assert_one_line(outcome, "holds LeNet5, the command builds NiN: leave model= out")
    assert results_of(trained) == before


def test_checkpoint_of_another_size_of_the_net_is_answered_in_one_line(trained: Path) -> None:
    answer = "of a LeNet5 of another size"
    size = ("model.as_published=true", "data.image_size=32")
    assert_one_line(run("task=test", f"ckpt_path={trained}/checkpoints/best.ckpt", *size), answer)


def test_task_without_its_checkpoint_or_input_is_answered_in_one_line(trained: Path) -> None:
    assert_one_line(run("task=test"), "ckpt_path=outputs/.../checkpoints/best.ckpt")
    assert_one_line(run("task=predict", "input=digit.png"), "needs ckpt_path=")
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    assert_one_line(run("task=predict", checkpoint), "input=image.png")
    assert_one_line(run("task=predict", checkpoint, "input=none.png"), "input=none.png: no such file")
    Path("words.png").write_text("no picture")
    assert_one_line(run("task=predict", checkpoint, "input=words.png"), "input=words.png: not an image")


def test_resume_with_fewer_epochs_than_were_done_is_answered_in_one_line(trained: Path) -> None:
    checkpoint = f"ckpt_path={trained}/checkpoints/last.ckpt"
    for epochs in (0, 2):
        assert_one_line(run(checkpoint, f"trainer.max_epochs={epochs}"), f"has 3 epochs, trainer.max_epochs={epochs}")
    assert results_of(trained)["status"] == "finished"


def test_resume_beyond_the_end_of_a_planned_schedule_is_answered_in_one_line(trained: Path) -> None:
    checkpoint = f"ckpt_path={trained}/checkpoints/last.ckpt"
    for epochs in (4, -1):
        assert_one_line(run(checkpoint, f"trainer.max_epochs={epochs}"), "planned for 3 epochs", "model.init_from=")


def test_bug_keeps_its_traceback_and_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeNet5, "training_step", lambda *_: torch.zeros(2) @ torch.zeros(3))
    outcome = run("model=lenet", *PLAIN, "trainer.max_epochs=1")
    assert outcome.status == 1
    assert outcome.err.startswith("Traceback (most recent call last):")
    assert "RuntimeError" in outcome.err.splitlines()[-1]
    results = results_of(only_run())
    assert results["status"] == "failed"
    assert results["reason"].startswith("RuntimeError: ")


def test_traceback_of_a_mistake_is_shown_on_demand() -> None:
    outcome = run("task=test", full_error=True)
    assert outcome.status == 1
    assert "Traceback (most recent call last):" in outcome.err


def test_a_key_of_the_checkpoints_model_is_to_be_added() -> None:
    outcome = run("task=test", "ckpt_path=last.ckpt", "callbacks.evaluation.final_count=100")
    assert_one_line(outcome, "model=cgan, ", "alone: a checkpoint brings its model, write +callbacks.evaluation")
