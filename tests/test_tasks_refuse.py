"""What a task is asked for happens, or is refused in one line that leaves everything as it was."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from command_line import PLAIN, run, run_well

LENET, CGAN = "ckpt_path=published/lenet_mnist", "ckpt_path=published/cgan_mnist"
CPU = "trainer.accelerator=cpu"


def assert_refused(*arguments: str, said: str) -> None:
    """In one line that holds `said`; nothing is written, but the parents of a folder that was never made."""
    before = {path for path in Path().rglob("*") if not path.is_dir()}
    outcome = run(*arguments)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert said in outcome.err
    assert {path for path in Path().rglob("*") if not path.is_dir()} == before


REFUSED = {
    "publish with other data": (("task=publish", LENET, CPU, "data=fashion_mnist"), "data=fashion_mnist: "),
    "publish read otherwise": (("task=publish", LENET, CPU, "data.normalize=pixel_mean"), "data.normalize=pixel_mean"),
    "publish with fewer images": (("task=publish", CGAN, CPU, "callbacks.evaluation.final_count=9"), "final_count"),
    "generate of other data": (("task=generate", CGAN, CPU, "data=fashion_mnist"), "data=fashion_mnist: "),
    "small_data of more images": (("task=small_data", CPU, "data.extra_train_path=x"), "data.extra_train_path=x"),
    "small_data of n images": (("task=small_data", CPU, "data.train_images_per_class=3"), "train_images_per_class=3"),
    "small_data for a time": (("task=small_data", CPU, "trainer.max_time=00:00:00:01"), "trainer.max_time"),
    "small_data of epochs": (("task=small_data", CPU, "trainer.max_epochs=1"), "trainer.max_epochs"),
    "small_data of one batch": (("task=small_data", CPU, "trainer.limit_test_batches=1"), "limit_test_batches"),
    "small_data of a GAN": (("task=small_data", CPU, "data=mnist_5k", "model=cgan"), "CGAN is no classifier"),
    "small_data by a GAN without classes": (("task=small_data", CPU, "data=mnist_5k", "task.gan=gan"), "of a class"),
    "test of nothing": (("task=test", LENET, CPU, "trainer.limit_test_batches=0"), "trainer.limit_test_batches=0"),
    "leaderboard of a checkpoint": (("task=leaderboard", LENET), "ckpt_path"),
    "runs of an experiment": (("task=runs", "experiment=lenet_mnist"), "experiment"),
    "claims for epochs": (("task=claims", "trainer.max_epochs=5"), "trainer.max_epochs"),
    "compare and delete": (("task=runs", "task.compare=[a,b]", "task.delete=failed"), "task.delete=failed"),
    "demo of other data": (("task=demo", "data=fashion_mnist"), "data=fashion_mnist"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_task_would_not_do_is_refused(what: str) -> None:
    arguments, said = REFUSED[what]
    assert_refused(*arguments, said=said)


def test_an_empty_folder_of_a_person_stays_and_that_of_a_refused_command_does_not() -> None:
    Path("mine").mkdir()
    Path("outputs").mkdir()
    for refused in (("task=predict",), ("task=predict", LENET, "seed=-1"), ("task=test", "ckpt_path=none.ckpt")):
        os.utime("mine", (0, 0))  # it was there before the command
        assert_refused(*refused, CPU, "hydra.run.dir=mine", said="")
        assert Path("mine").is_dir()
        assert_refused(*refused, CPU, "hydra.run.dir=new", said="")
        assert not Path("new").exists()
    os.utime("mine", (0, 0))
    run("task=claims", "hydra.run.dir=mine")
    assert [*Path("mine").iterdir()] == []


@pytest.mark.parametrize(
    ("task", "product"),
    [
        (("task=generate", CGAN, "task.count=20"), "generated.csv"),
        (("task=generate", CGAN, "task.count=20", "task.format=idx"), "generated"),
        (("task=generate", CGAN, "task.count=20", "task.format=png"), "generated"),
        (("task=publish", LENET), "net"),
    ],
)
def test_a_job_that_was_killed_before_its_record_begins_again(task: tuple[str, ...], product: str) -> None:
    sweep = ("-m", *task, CPU, "seed=0", "hydra.sweep.dir=sweep")
    run_well(*sweep)
    (job,) = (path for path in Path("sweep").iterdir() if path.is_dir())
    (job / "results.json").unlink()
    run_well(*sweep)
    assert json.loads((job / "results.json").read_text())["status"] == "finished"
    assert (job / product).exists()
    if product == "generated" and "task.format=png" in task:
        (job / "results.json").unlink()
        (job / product / "notes.txt").write_text("of a person")
        outcome = run(*sweep)
        assert "notes.txt" in outcome.err + outcome.out
        assert (job / product / "notes.txt").read_text() == "of a person"


def test_a_published_net_has_the_record_of_its_own_run_alone() -> None:
    run_well("model=lenet", *PLAIN, "trainer.max_epochs=1", "hydra.run.dir=run")
    strange = {"model": {"a": [1]}, "seed": "<script>", "device": "/home/me", "epochs": "nan"}
    for number, record in enumerate(({"model": "vgg", "seed": 77, "epochs": 3}, strange)):
        Path("run/results.json").write_text(json.dumps(record))
        run_well("task=publish", "ckpt_path=run/checkpoints/best.ckpt", CPU, f"hydra.run.dir=published_{number}")
        kept = json.loads(Path(f"published_{number}/net/results.json").read_text())
        assert (kept["model"], kept["data"], kept["seed"]) == ("lenet", "mnist_5k", 0)
        assert not {"epochs", "seconds", "device"} & kept.keys()
    outcome = run_well("task=runs", "task.runs=.")
    assert "/net" not in outcome.out  # which is no run


def test_weights_that_overflow_are_refused() -> None:
    run_well("model=lenet", *PLAIN, "trainer.max_epochs=1", "hydra.run.dir=run")
    content = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    for dtype, factor in ((torch.float32, 1e30), (torch.float64, 1e300)):
        weights = {name: value.to(dtype) * factor for name, value in content["state_dict"].items()}
        torch.save(content | {"state_dict": weights}, "huge.ckpt")
        shutil.copy(Path(__file__).parents[1] / "docs" / "league_fid.png", "picture.png")
        for task in (
            *(["task=predict", "ckpt_path=huge.ckpt", "input=picture.png"], ["task=test", "ckpt_path=huge.ckpt"]),
            *(["task=ensemble", "task.checkpoints=[huge.ckpt,run/checkpoints/best.ckpt]"],),
            ["task=explain", "ckpt_path=huge.ckpt", "task.images=10"],
        ):
            outcome = run(*task, CPU)
            assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
            assert "not finite" in outcome.err


def test_a_pipe_in_the_place_of_a_record_is_not_waited_for() -> None:
    Path("sweep").mkdir()
    os.mkfifo("sweep/claim.json")
    outcome = run("task=claims", "task.add=[sweep]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "not an ordinary file" in outcome.err


@pytest.mark.parametrize("place", ["set/generated", "set/generated/MNIST", "set/generated/MNIST/raw"])
def test_a_set_that_imitates_others_is_known_by_any_of_its_folders(place: str) -> None:
    run_well("task=generate", CGAN, "task.count=20", "task.format=idx", CPU, "hydra.run.dir=set")
    extra = ("model=lenet", "data=fashion_mnist", f"data.extra_train_path={place}", CPU)
    outcome = run(*extra, "trainer.limit_train_batches=1", "trainer.max_epochs=1", "~callbacks.plots")
    assert outcome.status == 2
    assert "imitates mnist" in outcome.err
