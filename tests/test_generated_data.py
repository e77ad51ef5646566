"""data=generated and data.extra_train_path: training on sets out of files, and what such a set imitates."""

import json
from pathlib import Path

import pytest
import torch
from command_line import only_run, results_of, run, run_well

from datamodules.folder import Folder
from datamodules.formats import WRITERS, image_set_writer
from datamodules.generated import Generated
from datamodules.images import ImageData
from datamodules.in_memory import Split
from datamodules.mnist import MNIST, FashionMNIST, MNIST5k


@pytest.fixture(scope="module")
def digits(mnist_5k: ImageData) -> Split:
    data = mnist_5k
    assert data.train_split
    order = torch.randperm(4_000, generator=torch.Generator().manual_seed(1))
    return Split(data.train_split.images[order], data.train_split.labels[order])


def save(split: Split, path: str | Path, form: str = "csv") -> Split:
    with image_set_writer(Path(path), form, len(split.labels)) as writer:
        writer.write(split.images[:, 0].numpy(), split.labels.byte().numpy())
    return split


def part(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


def equal(first: Split | None, second: Split | None) -> bool:
    assert first
    assert second
    return all(map(torch.equal, first, second))


def read(data: ImageData) -> ImageData:
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("form", WRITERS)
def test_training_images_are_the_files_and_the_others_the_real_sets(form: str, digits: Split) -> None:
    saved = save(part(digits, 200), "set", form)
    data, real = read(Generated("set")), read(MNIST())
    assert equal(data.train_split, saved)
    assert equal(data.val_split, real.val_split)
    assert equal(data.test_split, real.test_split)
    assert "200 train / 5,000 validation / 10,000 test" in data.describe()
    assert "from set (train)" in data.describe()


@pytest.mark.parametrize("form", WRITERS)
def test_labels_that_are_added_to_classes_named_by_numbers_are_these_numbers(form: str, digits: Split) -> None:
    chosen = Split(*(part[(digits.labels > 0) & (digits.labels < 4)] for part in digits))
    save(part(chosen, 60), "own", "png")
    added = save(Split(*(part[chosen.labels < 3][:20] for part in chosen)), "extra", form)
    data = read(Folder("own", extra_train_path="extra"))
    assert data.class_names == ("1", "2", "3")
    assert data.train_split
    assert sorted(data.train_split.labels[-20:].tolist()) == sorted((added.labels - 1).tolist())
    save(part(digits, 20), "others", form)
    with pytest.raises(ValueError, match=r"others.*has the label 0: the classes are 1, 2, 3"):
        read(Folder("own", extra_train_path="others"))


def test_the_real_set_can_be_fashion_mnist(digits: Split) -> None:
    save(part(digits, 20), "set.csv")
    data, real = read(Generated("set.csv", "fashion_mnist")), read(FashionMNIST())
    assert equal(data.test_split, real.test_split)
    assert data.class_names == FashionMNIST.class_names
    assert not data.centred_digits


def test_extension_comes_after_the_limit(digits: Split) -> None:
    saved = save(part(digits, 30), "set.csv")
    alone, data = (
        read(MNIST5k(train_images_per_class=2)),
        read(MNIST5k(train_images_per_class=2, extra_train_path="set.csv")),
    )
    assert alone.train_split
    assert data.train_split
    assert equal(Split(*(parts[:20] for parts in data.train_split)), alone.train_split)
    assert equal(Split(*(parts[20:] for parts in data.train_split)), saved)
    assert equal(data.val_split, alone.val_split)
    assert "50 train" in data.describe()
    assert "30 of the training images from set.csv" in data.describe()
    assert "from set.csv" not in alone.describe()


def test_pixel_mean_is_of_all_training_images(digits: Split) -> None:
    save(part(digits, 30), "set.csv")
    data = read(MNIST5k(train_images_per_class=2, extra_train_path="set.csv", normalize="pixel_mean"))
    assert data.train_split
    assert data.mean is not None
    assert torch.allclose(data.mean, data.train_split.images.float().mean(0) / 255)


@pytest.mark.extended
def test_a_classifier_trains_on_a_set_and_is_tested_on_real_images(digits: Split) -> None:
    save(digits, "set.csv")
    budget = ("trainer.max_epochs=2", "data.batch_size=50", "trainer.accelerator=cpu", "~callbacks.plots")
    outcome = run_well("model=lenet", "data=generated", "data.path=set.csv", *budget)
    assert "4,000 train / 5,000 validation / 10,000 test" in " ".join(outcome.out.split())
    folder = only_run()
    results = results_of(folder)
    assert results["test/accuracy"] > 0.9
    checkpoint = f"ckpt_path={folder / 'checkpoints' / 'best.ckpt'}"
    run_well("task=test", checkpoint, "data.path=set.csv", "~callbacks.plots")
    (tested,) = {path.parent.resolve() for path in Path("outputs").rglob("results.json")} - {folder}
    assert results_of(tested)["test/accuracy"] == results["test/accuracy"]
    assert "data.path" in run("task=test", checkpoint).err  # no path is followed out of a checkpoint


def test_a_real_set_is_extended_on_the_command_line(digits: Split) -> None:
    save(part(digits, 100), "set", "idx")
    budget = ("data.train_images_per_class=10", "trainer.max_epochs=1", "trainer.accelerator=cpu", "~callbacks.plots")
    outcome = run_well("model=lenet", "data=mnist_5k", "data.extra_train_path=set", *budget)
    assert "200 train" in outcome.out
    assert "100 of the training images from set" in outcome.out


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("data=generated",), "data.path=null: is needed"),
        (("data=generated", "data.path=nowhere"), "nowhere: no such file or folder"),
        (("data=generated", "data.path=x", "data.real=mnist_5k"), "data.real=mnist_5k: should be"),
        (("data=mnist_5k", "data.extra_train_path=nowhere"), "nowhere: no such file or folder"),
        (("data=mnist_5k", "data.train_images=99999"), "data.train_images=99999: should be at most 4000"),
        (("data=mnist_5k", "data.train_images_per_class=999"), "data.train_images_per_class=999: should be at most"),
    ],
)
def test_a_mistake_ends_in_one_line(overrides: tuple[str, ...], says: str) -> None:
    outcome = run(*overrides, "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1


def record(path: str, content: object) -> None:
    Path(path).write_text(json.dumps(content))


@pytest.mark.parametrize("form", WRITERS)
def test_a_set_that_imitates_another_one_is_refused(form: str, digits: Split) -> None:
    path = "generated.csv" if form == "csv" else "generated"
    save(part(digits, 20), path, form)
    record("generated.json", {"imitates": "fashion_mnist"})
    for data in (Generated(path), MNIST5k(extra_train_path=path), MNIST(extra_train_path=path)):
        with pytest.raises(ValueError, match=f"^{path} imitates fashion_mnist"):
            read(data)
    read(Generated(path, "fashion_mnist"))


@pytest.mark.parametrize("content", [{"imitates": "mnist"}, {"imitates": "mnist_5k"}, {"format": "csv"}, [3], "mnist"])
def test_a_set_that_imitates_the_same_one_or_does_not_say_is_read(content: object, digits: Split) -> None:
    save(part(digits, 20), "generated.csv")
    record("generated.json", content)
    read(Generated("generated.csv"))
    read(MNIST5k(extra_train_path="generated.csv"))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b" " * 2_000_000, b"1" * 9_999])
def test_a_damaged_record_is_named(content: bytes, digits: Split) -> None:
    save(part(digits, 20), "generated.csv")
    Path("generated.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^generated\.json, the record of generated\.csv, cannot be read: "
    ) as refusal:
        read(Generated("generated.csv"))
    assert "\n" not in str(refusal.value)


def test_the_description_says_which_images_are_real(digits: Split) -> None:
    save(part(digits, 20), "set.csv")
    assert "real ones for validation and test" in read(Generated("set.csv")).describe()
