"""data=generated and data.extend_with: sets out of files to train on, and files that are refused."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import only_run, results_of, run, run_well
from PIL import Image
from torch import Tensor

from datamodules.formats import HEADER, RAW, WRITERS, read_labelled, written
from datamodules.generated import Generated
from datamodules.images import ImageData, Split
from datamodules.mnist import MNIST, FashionMNIST, MNIST5k

ROOT = os.environ["DATA_ROOT"]


@pytest.fixture(scope="module")
def digits() -> Split:
    data = MNIST5k()
    data.setup()
    assert data.train_split
    order = torch.randperm(4_000, generator=torch.Generator().manual_seed(1))
    return Split(data.train_split.images[order], data.train_split.labels[order])


def save(split: Split, path: str | Path, form: str = "csv") -> Split:
    with written(Path(path), form, len(split.labels)) as writer:
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
    data, real = read(Generated("set", root=ROOT)), read(MNIST(ROOT))
    assert equal(data.train_split, saved)
    assert equal(data.val_split, real.val_split)
    assert equal(data.test_split, real.test_split)
    assert "200 train / 5,000 validation / 10,000 test" in data.describe()
    assert "training images from set" in data.describe()


def test_the_real_set_can_be_fashion_mnist(digits: Split) -> None:
    save(part(digits, 20), "set.csv")
    data, real = read(Generated("set.csv", "fashion_mnist", root=ROOT)), read(FashionMNIST(ROOT))
    assert equal(data.test_split, real.test_split)
    assert data.class_names == FashionMNIST.class_names
    assert not data.centred_digits


def test_extension_comes_after_the_limit(digits: Split) -> None:
    saved = save(part(digits, 30), "set.csv")
    alone, data = read(MNIST5k(limit_train=2)), read(MNIST5k(limit_train=2, extend_with="set.csv"))
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
    data = read(MNIST5k(limit_train=2, extend_with="set.csv", normalize="pixel_mean"))
    assert data.train_split
    assert torch.allclose(data.mean, data.train_split.images.float().mean(0) / 255)


def test_a_classifier_trains_on_a_set_and_is_tested_on_real_images(digits: Split) -> None:
    save(digits, "set.csv")
    budget = ("trainer.max_epochs=2", "data.batch_size=50", "trainer.accelerator=cpu", "~callbacks.plots")
    outcome = run_well("model=lenet", "data=generated", "data.path=set.csv", *budget)
    assert "4,000 train / 5,000 validation / 10,000 test" in outcome.out
    folder = only_run()
    results = results_of(folder)
    assert results["test/accuracy"] > 0.9
    run_well("task=test", f"ckpt_path={folder / 'checkpoints' / 'best.ckpt'}", "~callbacks.plots")
    (tested,) = {path.parent.resolve() for path in Path("outputs").rglob("results.json")} - {folder}
    assert results_of(tested)["test/accuracy"] == results["test/accuracy"]


def test_a_real_set_is_extended_on_the_command_line(digits: Split) -> None:
    save(part(digits, 100), "set", "idx")
    budget = ("data.train_images_per_class=10", "trainer.max_epochs=1", "trainer.accelerator=cpu", "~callbacks.plots")
    outcome = run_well("model=lenet", "data=mnist_5k", "data.extend_with=set", *budget)
    assert "200 train" in outcome.out
    assert "100 of the training images from set" in outcome.out


def test_idx_is_found_where_it_may_lie_and_may_be_compressed(digits: Split) -> None:
    saved = save(part(digits, 10), "set", "idx")
    for file in (Path("set") / RAW).glob("train-*"):
        Path(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    for place in ("set", Path("set", RAW), "set/MNIST", "."):
        images, labels = read_labelled(place)
        assert equal(Split(images, labels), saved)


def bad_csv(text: str) -> str:
    Path("bad.csv").write_text(text)
    return "bad.csv"


def bad_idx(images: Tensor, labels: Tensor, cut: int = 0) -> str:
    folder = Path("bad")
    folder.mkdir()
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        header = bytes([0, 0, 8, array.dim()]) + np.array(array.shape, ">u4").tobytes()
        content = header + array.byte().numpy().tobytes()
        (folder / name).write_bytes(content[: len(content) - cut])
    return "bad"


def bad_png(image: Image.Image | bytes) -> str:
    folder = Path("bad", "0")
    folder.mkdir(parents=True)
    if isinstance(image, bytes):
        (folder / "0.png").write_bytes(image)
    else:
        image.save(folder / "0.png")
    return "bad"


LINE = ",".join(["0"] * 784)
WRONG = {
    "no such file or folder": lambda: "nowhere.csv",
    "not a CSV with the header label,pixel0": lambda: bad_csv(f"1,{LINE}\n"),
    "not a CSV with": lambda: bad_csv("\x89PNG\r\n"),
    "holds no image": lambda: bad_csv(f"{HEADER}\n"),
    "has 784 columns: a label and 784 pixels": lambda: bad_csv(f"{HEADER}\n{LINE}\n"),
    "the number of columns changed": lambda: bad_csv(f"{HEADER}\n1,{LINE}\n1,{LINE},1\n"),
    "could not convert string '256'": lambda: bad_csv(f"{HEADER}\n1,{LINE[:-1]}256\n"),
    "has the label 10: they go from 0 to 9": lambda: bad_csv(f"{HEADER}\n10,{LINE}\n"),
    "train-images-idx3-ubyte is damaged": lambda: bad_idx(torch.zeros(2, 28, 28), torch.zeros(2), cut=1),
    "holds 2x28x28 images and 3 labels": lambda: bad_idx(torch.zeros(2, 28, 28), torch.zeros(3)),
    "holds 2x20x20 images and 2 labels": lambda: bad_idx(torch.zeros(2, 20, 20), torch.zeros(2)),
    "0/0.png is not a gray image of 28x28": lambda: bad_png(Image.new("L", (27, 28))),
    "gray image of 28x28 pixels": lambda: bad_png(Image.new("RGB", (28, 28))),
    "0/0.png is no image": lambda: bad_png(b"text"),
    "neither IDX files nor PNGs in a folder a class": lambda: ".",
}


@pytest.mark.parametrize("says", WRONG)
def test_a_file_that_is_no_set_is_refused(says: str) -> None:
    path = WRONG[says]()
    with pytest.raises(ValueError, match=r"^data\.extend_with=") as refusal:
        read(MNIST5k(extend_with=path))
    assert str(refusal.value).startswith(f"data.extend_with={path}: ")
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("data=generated",), "data.path=null: name the set to train on"),
        (("data=generated", "data.path=nowhere"), "data.path=nowhere: no such file or folder"),
        (("data=generated", "data.path=x", "data.real=mnist_5k"), "data.real=mnist_5k: choose one of mnist, fashion"),
        (("data=mnist_5k", "data.extend_with=nowhere"), "data.extend_with=nowhere: no such file or folder"),
    ],
)
def test_a_mistake_ends_in_one_line(overrides: tuple[str, ...], says: str) -> None:
    outcome = run(*overrides, "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
