"""What a trained net is used for, whatever limits its run had; uses of nets, sets and records that are refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PLAIN, only_run, results_of, run, run_well
from PIL import Image

from datamodules.generated import Generated
from datamodules.mnist import MNIST5k
from datamodules.ring import Ring
from gan.scores.evaluation import GANEvaluation
from gan.vanilla import VanillaGAN
from tasks.checkpoint import load
from tasks.generate import choose_classes

BRIEF = ("trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "~callbacks.plots")


def checkpoint_of(*overrides: str) -> Path:
    run_well(*overrides, *BRIEF)
    return only_run() / "checkpoints" / "last.ckpt"


def of_task(task: str) -> dict[str, Any]:
    (record,) = (path for path in Path().rglob("results.json") if results_of(path.parent)["task"] == task)
    return results_of(record.parent)


@pytest.mark.parametrize("limit", ["trainer.limit_test_batches=0", "trainer.limit_test_batches=1"])
def test_the_test_of_a_net_reads_all_images_whatever_its_run_did(limit: str) -> None:
    path = checkpoint_of("model=lenet", "data=mnist", limit)
    run_well("task=test", f"ckpt_path={path}", "trainer.accelerator=cpu", "~callbacks.plots")
    accuracy = of_task("test")["test/accuracy"] * 10_000
    assert accuracy == pytest.approx(round(accuracy), abs=0.01)
    assert accuracy == pytest.approx(correct_images(path), abs=0.01)


@pytest.mark.parametrize(("data", "said"), [("fashion_mnist", True), ("mnist", False), ("emnist", False)])
def test_a_net_of_other_classes_says_so(data: str, said: bool, tmp_path: Path) -> None:
    path = checkpoint_of("model=lenet", "data=mnist", "trainer.limit_test_batches=1")
    Image.linear_gradient("L").save(tmp_path / "image.png")
    split = ("data.split=digits",) if data == "emnist" else ()
    outcome = run_well("task=predict", f"ckpt_path={path}", f"data={data}", *split, f"input={tmp_path / 'image.png'}")
    assert ("0, 1, 2, ... were learned; the answers are read as T-shirt, trouser, pullover" in outcome.out) == said


def correct_images(path: Path) -> int:
    parts: tuple[Any, Any] = load(path)
    net, data = parts
    data.setup("test")
    with torch.no_grad():
        batches = zip(data.test_split.images.split(1000), data.test_split.labels.split(1000), strict=True)
        return sum(int((net(data.transform(images)).argmax(1) == labels).sum()) for images, labels in batches)


def test_a_net_of_stacked_digits_is_tested_and_otherwise_refused() -> None:
    path = checkpoint_of("model=lenet", "data=stacked_mnist", "trainer.limit_test_batches=2")
    uses = (
        ("task=predict", "input=."),
        ("task=explain",),
        ("task=export", "task.format=torch"),
        ("task=ensemble", f"task.checkpoints=[{path},{path.with_name('best.ckpt')}]"),
    )
    for task, *options in uses:
        named = () if task == "task=ensemble" else (f"ckpt_path={path}",)
        outcome = run(task, *named, *options, "trainer.accelerator=cpu")
        assert (outcome.status, outcome.err.count("\n")) == (2, 1), task


def test_an_ensemble_of_part_of_the_images_is_refused() -> None:
    for option in ("trainer.limit_predict_batches=1", "trainer.limit_predict_batches=0.5", "trainer.fast_dev_run=true"):
        outcome = run("task=ensemble", "task.checkpoints=[a,b]", option)
        assert outcome.status == 2
        assert option.split("=")[0] in outcome.err
        assert outcome.err.count("\n") == 1


def test_a_rate_is_looked_for_over_the_whole_range() -> None:
    run_well("task=find_lr", "task.steps=30", "model=lenet", "data.train_images_per_class=30", *PLAIN)
    (table,) = Path().rglob("find_lr.csv")
    last = float(table.read_text().splitlines()[-1].split(",")[0])
    assert last > 0.1


@pytest.mark.parametrize("task", ["leaderboard", "runs", "claims", "records"])
@pytest.mark.parametrize("option", ["model=vgg", "data=fashion_mnist", "seed=3", "model.width=2"])
def test_what_a_list_would_not_look_at_is_refused(task: str, option: str) -> None:
    outcome = run(f"task={task}", "model=vgg", option) if "." in option else run(f"task={task}", option)
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert f"says nothing to task={task}" in outcome.err


def test_two_callbacks_do_not_write_one_file() -> None:
    outcome = run("model=lenet", "callbacks.checkpoint.filename=last", *PLAIN)
    assert outcome.status == 2
    assert "last.ckpt" in outcome.err
    assert not list(Path().rglob("*.ckpt"))


@pytest.mark.parametrize("name", ["gan", "cgan", "wgan_gp"])
def test_a_gan_of_images_in_another_range_is_refused(name: str) -> None:
    outcome = run(f"model={name}", "data.normalize=pixel_mean", *PLAIN)
    assert outcome.status == 2
    assert "use data.normalize=half" in outcome.err


def test_labels_that_a_format_has_no_room_for_are_refused() -> None:
    net = VanillaGAN()
    net.num_classes = 300
    for form in ("csv", "idx"):
        with pytest.raises(ValueError, match="no room for labels above 255"):
            choose_classes(net, form, None)
        assert choose_classes(net, form, 255) == [255]
    assert choose_classes(net, "png", None) == list(range(300))


def test_gan_train_is_refused_where_its_net_has_too_few_classes() -> None:
    data = MNIST5k()
    data.class_names = tuple(map(str, range(12)))
    net = VanillaGAN()
    net.num_classes = 12
    with pytest.raises(ValueError, match="gan_train_count must be 0"):
        GANEvaluation().check(net, data)
    GANEvaluation(gan_train_count=0).check(net, data)


def test_a_data_set_says_which_classes_it_lost() -> None:
    data = MNIST5k(train_images=400)  # which are sorted by class
    data.setup()
    assert "9 of its 10 classes without a training image" in " ".join(data.describe().split())


def test_generated_images_are_not_divided_into_folds() -> None:
    with pytest.raises(ValueError, match="num_folds"):
        Generated("set.csv", num_folds=5)


@pytest.mark.parametrize("argument", ["modes", "epoch_size"])
def test_a_ring_that_would_fill_the_memory_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        Ring(**{argument: 10**13})


def test_a_net_that_was_trained_on_generated_images_is_used_without_them() -> None:
    header = "label," + ",".join(f"pixel{number}" for number in range(784))
    rows = [",".join([str(number % 10), *["0"] * 783, str(number)]) for number in range(20)]
    Path("set.csv").write_text("\n".join([header, *rows]) + "\n")
    path = checkpoint_of("model=lenet", "data=generated", "data.path=set.csv", "trainer.limit_test_batches=1")
    Path("set.csv").unlink()
    picture = Image.new("L", (28, 28))
    picture.paste(200, (12, 4, 16, 24))
    picture.save("one.png")
    run_well("task=predict", f"ckpt_path={path}", "input=one.png", "trainer.accelerator=cpu")
    outcome = run("task=test", f"ckpt_path={path}", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert "data.path=null: is needed" in outcome.err


def test_the_mean_that_a_net_has_learned_to_see_travels_with_it() -> None:
    path = checkpoint_of("model=lenet", "data=mnist_5k", "data.normalize=pixel_mean", "data.train_images=900")
    accuracy = results_of(only_run())["val/accuracy"]
    _, data = load(path)
    assert isinstance(data, MNIST5k)
    before = data.transform(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))  # no image has been read
    data.setup()
    assert torch.equal(data.transform(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)), before)
    run_well("task=publish", f"ckpt_path={path}", "trainer.accelerator=cpu")
    (published,) = Path("outputs").rglob("net")
    for used in (path, published):
        for change in ("data.train_images=50", "data.train_images=null"):
            run_well("task=test", f"ckpt_path={used}", "trainer.accelerator=cpu", change, "name=again")
            (tested,) = (file.parent for file in Path("outputs").rglob("results.json") if "again" in file.parent.name)
            assert results_of(tested)["val/accuracy"] == accuracy
            shutil.rmtree(tested)


MEANS: dict[str, Any] = {
    "no tensor": 0.5,
    "of another rank": torch.zeros(28, 28),
    "of other channels": torch.zeros(3, 28, 28),
    "of integers": torch.zeros(1, 28, 28, dtype=torch.long),
    "of nothing": torch.zeros(1, 0, 0),
    "below 0": torch.full((1, 28, 28), -0.1),
    "above 1": torch.full((1, 28, 28), 1.5),
    "not a number": torch.full((1, 28, 28), float("nan")),
}


@pytest.mark.parametrize("mean", MEANS)
def test_a_mean_that_is_none_of_such_images_is_refused(mean: str) -> None:
    data = MNIST5k(normalize="pixel_mean")
    with pytest.raises(ValueError, match="mean of the training images"):
        data.load_state_dict({"mean": MEANS[mean]})
    with pytest.raises(ValueError, match="mean of the training images"):
        data.load_state_dict(MEANS[mean])  # a checkpoint may hold anything there
    with pytest.raises(ValueError, match=r"setup\(\) comes first"):
        data.transform(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


def test_images_that_have_been_scaled_already_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        MNIST5k().transform(torch.zeros(1, 1, 28, 28))
