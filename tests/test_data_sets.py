"""The data sets: what they hold, how they are split, what a batch is and in which order batches come."""

import gzip
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from batches import seen_in_a_fit
from command_line import only_run, results_of, run_well
from conftest import CONF, compose, small_run
from hydra.utils import instantiate
from kornia.augmentation import RandomCrop
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from classic_cnn.lenet import LeNet5
from datamodules.contract import ArgumentError, SampleSpec
from datamodules.formats import image_set_writer
from datamodules.generated import Generated
from datamodules.images import ImageData
from datamodules.in_memory import InMemoryDataset, Split, first_images, first_of_each_class, place
from datamodules.mnist import MNIST, FashionMNIST, MNIST5k
from datamodules.official import NAMES

OTHER_SAMPLES = {"ring", "stacked_mnist"}  # points and three channels: tests/test_gan_modes.py
NAMED = {
    "kmnist": "",
    "emnist": "emnist-balanced-",
    "qmnist": "qmnist-",
}  # found but never fetched: tests/test_folder.py
SETS = sorted(
    {file.stem for file in (CONF / "data").glob("*.yaml") if "path" not in OmegaConf.load(file)}
    - OTHER_SAMPLES
    - NAMED.keys()
)


@pytest.fixture(scope="module")
def fashion_mnist() -> ImageData:
    data = FashionMNIST()
    data.prepare_data()
    data.setup()
    return data


def splits(data: ImageData) -> tuple[Split, Split, Split]:
    assert data.train_split
    assert data.val_split
    assert data.test_split
    return data.train_split, data.val_split, data.test_split


def official(data: ImageData, name: str) -> np.ndarray:
    """An IDX file's numbers, read by nothing of ours."""
    path = Path(data.source.removesuffix(", checksums verified"), name)
    content = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16 if "images" in name else 8)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_full_set_is_split_as_the_official_files_are(name: str, request: pytest.FixtureRequest) -> None:
    data: ImageData = request.getfixturevalue(name)
    train, val, test = splits(data)
    assert [len(split.labels) for split in (train, val, test)] == [55_000, 5_000, 10_000]
    for split in (train, val, test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (len(split.labels), 1, 28, 28)
        assert split.labels.dtype == torch.int64
    images, labels = official(data, NAMES[0]).reshape(60_000, 1, 28, 28), official(data, NAMES[1])
    assert np.array_equal(torch.cat([train.images, val.images]).numpy(), images)  # so validation is the last 5,000
    assert np.array_equal(torch.cat([train.labels, val.labels]).numpy(), labels)
    assert np.array_equal(test.images.numpy().ravel(), official(data, NAMES[2]))
    assert np.array_equal(test.labels.numpy(), official(data, NAMES[3]))


@pytest.mark.parametrize(
    ("name", "mean", "deviation", "class_counts"),
    [
        # images of each digit: LeCun's files have 5,923 zeros to train, 980 to test, and so on
        (
            "mnist",
            *(0.1307, 0.3081),
            [
                [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
                [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            ],
        ),
        ("fashion_mnist", 0.2860, 0.3530, [[6000] * 10, [1000] * 10]),
    ],
)
def test_full_set_has_the_known_statistics(
    name: str, mean: float, deviation: float, class_counts: list[list[int]], request: pytest.FixtureRequest
) -> None:
    data: ImageData = request.getfixturevalue(name)
    train, val, test = splits(data)
    pixels = torch.cat([train.images, val.images]).float() / 255
    assert pixels.mean().item() == pytest.approx(mean, abs=5e-5)
    assert pixels.std().item() == pytest.approx(deviation, abs=5e-5)
    counts = [torch.cat([train.labels, val.labels]).bincount(), test.labels.bincount()]
    assert [count.tolist() for count in counts] == class_counts
    assert data.spec == SampleSpec(1, 28, len(data.class_names)) == SampleSpec(1, 28, 10)


def test_mnist_5k_holds_the_first_500_training_digits_of_each_class(mnist_5k: ImageData, mnist: ImageData) -> None:
    assert mnist_5k.train_split
    assert mnist_5k.val_split
    assert mnist_5k.test_split is None
    assert mnist_5k.train_split.labels.bincount().tolist() == [400] * 10
    assert mnist_5k.val_split.labels.bincount().tolist() == [100] * 10
    train, _, _ = splits(mnist)
    for digit in range(10):
        ours = [split.images[split.labels == digit] for split in (mnist_5k.train_split, mnist_5k.val_split)]
        assert torch.equal(torch.cat(ours), train.images[train.labels == digit][:500])


def test_mnist_5k_with_another_checksum_is_refused() -> None:
    class Other(MNIST5k):
        sha256 = "0" * 64

    with pytest.raises(ValueError, match=r"mnist_5k\.csv\.gz is damaged"):
        Other().setup()


@pytest.mark.parametrize("name", SETS)
def test_split_does_not_move_with_the_seed(name: str) -> None:
    _, first, _ = small_run(f"data={name}", "seed=1")
    _, second, _ = small_run(f"data={name}", "seed=2")
    assert (first.seed, second.seed) == (1, 2)
    for split in ("train_split", "val_split", "test_split"):
        a, b = getattr(first, split), getattr(second, split)
        assert (a is None and b is None) or all(map(torch.equal, a, b))


@pytest.mark.parametrize("name", SETS)
def test_start_of_a_run_says_what_was_read(name: str) -> None:
    _, data, _ = small_run(f"data={name}")
    line = data.describe()
    assert line.startswith(data.name)
    assert data.source in line
    assert "20 train / 10 validation" in line
    assert ("verified" in line) == (hasattr(data, "files") or hasattr(data, "sha256"))
    assert ("10,000 test" in line) == (data.test_split is not None)
    assert "\n" not in line


@pytest.mark.parametrize("name", SETS)
def test_a_batch_is_float_images_from_minus_one_to_one_and_integer_labels(name: str) -> None:
    data, batches = seen_in_a_fit(f"data={name}", "data.train_images_per_class=2")
    assert [len(labels) for _, labels in batches.train[0]] == [8, 8, 4]
    for images, labels in (*batches.train[0], *batches.val):
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.shape == (len(labels), 1, 28, 28)
        assert images.min() == -1
        assert images.max() <= 1
    assert data.train_split
    stored = {(image.numpy().tobytes(), int(label)) for image, label in zip(*data.train_split, strict=True)}
    assert len(stored) == 20
    back = ((batches.images(0) + 1) * 127.5).round().byte()
    assert {(i.numpy().tobytes(), int(label)) for i, label in zip(back, batches.labels(0), strict=True)} == stored


def test_order_depends_on_seed_and_epoch_only() -> None:
    _, first = seen_in_a_fit("seed=1")
    _, other = seen_in_a_fit("seed=1", "model=nin", "data.batch_size=5")
    _, other_seed = seen_in_a_fit("seed=2")
    for epoch in (0, 1):
        assert torch.equal(first.images(epoch), other.images(epoch))
        assert torch.equal(first.labels(epoch), other.labels(epoch))
        assert not torch.equal(first.images(epoch), other_seed.images(epoch))
    assert not torch.equal(first.images(0), first.images(1))


def test_pixel_mean_centres_each_pixel_on_its_mean_over_the_training_images() -> None:
    _, data, _ = small_run("data.normalize=pixel_mean")
    assert data.train_split
    assert data.val_split
    train = data.transform(data.train_split.images)
    assert train.mean(0).abs().max() < 1e-6
    assert -2 <= train.min() < train.max() <= 2
    assert data.transform(data.val_split.images).mean(0).abs().max() > 0.1
    shift = train - (data.train_split.images.float() / 127.5 - 1)
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))


@pytest.mark.parametrize("size", [14, 28, 40])
@pytest.mark.parametrize("normalize", ["half", "pixel_mean"])
def test_an_augmentation_may_change_the_size(size: int, normalize: Literal["half", "pixel_mean"]) -> None:
    data = MNIST(image_size=size, normalize=normalize, augment={"cut": RandomCrop((20, 20))}, train_images=20)
    data.prepare_data()
    data.setup("fit")
    assert data.train_split
    images = data.transform(data.train_split.images, augment=True)
    assert images.shape == (20, 1, size, size)
    assert images.abs().max() <= 2
    if normalize == "pixel_mean":
        assert data.transform(data.train_split.images).mean(0).abs().max() < 1e-6


@pytest.mark.parametrize("limit", ["trainer.max_epochs=2", "trainer.max_steps=2"])
def test_a_train_loader_has_all_images_where_no_fit_is_at_work(limit: str) -> None:
    model, data, trainer = small_run("model=lenet", "model/lr_scheduler=none", "~callbacks.plots", limit)
    trainer.fit(model, datamodule=data)
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 20


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ({"train_images": 5000}, "train_images"),
        ({"extra_train_path": "none.csv"}, "none.csv"),
        ({"num_folds": 900}, "num_folds"),
    ],
)
def test_a_set_that_was_refused_is_refused_again(mistake: dict[str, Any], said: str) -> None:
    data = MNIST5k(**mistake)
    for _ in range(2):
        with pytest.raises(ValueError, match=said):
            data.setup()
        assert data.train_split is None


@pytest.mark.parametrize(
    ("make", "name"), [(MNIST, "batch_size"), (FashionMNIST, "batch_size"), (LeNet5, "bitmap_output")]
)
def test_a_wrong_argument_is_named_where_it_is_given_by_its_place(make: Any, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{name} "):
        make("modern", 0)


@pytest.mark.parametrize(("size", "expected"), [(14, 1000), (28, 1000), (56, 250), (224, 40)])
def test_batches_of_an_evaluation_have_no_more_pixels_than_a_thousand_small_images(size: int, expected: int) -> None:
    data = MNIST5k(image_size=size, batch_size=40)
    data.prepare_data()
    data.setup()
    assert data.val_dataloader().batch_size == expected


@pytest.mark.parametrize("size", [14, 32, 56])
def test_image_size_resizes_smoothly(size: int) -> None:
    _, data, _ = small_run("model=resnet", f"data.image_size={size}")
    assert data.train_split
    stored = data.train_split.images
    images = data.transform(stored)
    assert images.shape == (20, 1, size, size)
    small = [
        Image.fromarray(image[0].numpy()).convert("F").resize((size, size), Image.Resampling.BILINEAR)
        for image in stored
    ]
    expected = torch.from_numpy(np.stack([np.asarray(image) for image in small])).unsqueeze(1) / 127.5 - 1
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)


def test_train_images_per_class_takes_the_first_images_of_each_class() -> None:
    _, data, _ = small_run("data.train_images_per_class=3")
    _, whole, _ = small_run("data.train_images_per_class=null")
    assert data.train_split
    assert whole.train_split
    assert data.train_split.labels.bincount().tolist() == [3] * 10
    for label in range(10):
        first = whole.train_split.images[whole.train_split.labels == label][:3]
        assert torch.equal(data.train_split.images[data.train_split.labels == label], first)
    with pytest.raises(ValueError, match=r"train_images_per_class.* 400, class 0"):
        first_of_each_class(whole.train_split, 401)


def test_train_images_takes_the_first_images() -> None:
    _, data, _ = small_run("data.train_images=7", "data.train_images_per_class=null")
    _, whole, _ = small_run("data.train_images_per_class=null")
    assert data.train_split
    assert whole.train_split
    assert torch.equal(data.train_split.images, whole.train_split.images[:7])
    assert torch.equal(data.train_split.labels, whole.train_split.labels[:7])
    with pytest.raises(ArgumentError, match=r"train_images .*4000.* 4001"):
        first_images(whole.train_split, 4001)


WRONG: dict[str, list[Any]] = {
    **{
        name: [0, -1, 2.5, True, "3", [4]]
        for name in ("batch_size", "image_size", "train_images", "train_images_per_class")
    },
    "normalize": ["zscore", None, 1],
    "augment": [None, "crop", {"crop": 3}, [nn.Identity()]],
    "root": [3, "", ["x"]],
    "extra_train_path": [3, ""],
    "seed": [-1, 0.5, None, True],
}


@pytest.mark.parametrize(("argument", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_an_argument_of_a_wrong_type_or_range_is_refused(argument: str, value: Any) -> None:
    for cls in (MNIST5k, FashionMNIST, Generated):
        with pytest.raises(ArgumentError) as refusal:
            cls(**{argument: value} | ({"path": "x"} if cls is Generated else {}))
        assert refusal.value.name.split(".")[0] == argument


def test_arguments_are_remembered() -> None:
    assert MNIST5k(batch_size=3, augment={}).arguments == {"batch_size": 3, "augment": {}}
    assert Generated("x", batch_size=3).arguments == {"path": "x", "batch_size": 3}


def test_the_root_is_the_environments_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MNIST("there").root == "there"
    assert MNIST().root == os.environ["DATA_ROOT"]
    monkeypatch.delenv("DATA_ROOT")
    assert MNIST().root == "data"


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "data").glob("*.yaml")))
def test_every_data_set_says_the_shape_of_its_samples_before_it_is_read(name: str) -> None:
    classes = 47 if name == "emnist" else 10
    with image_set_writer(Path("set"), "idx", 3 * classes) as writer:
        writer.write(np.zeros((3 * classes, 28, 28), np.uint8), np.arange(3 * classes, dtype=np.uint8) % classes)
    place = [f"data.path={Path.cwd()}/set"] if "path" in OmegaConf.load(CONF / "data" / f"{name}.yaml") else []
    if name in NAMED:
        place = ["data.root=."]
        Path("set/MNIST/raw").rename(name)
        for file in Path(name).iterdir():
            file.rename(file.with_name(f"{NAMED[name]}{file.name}"))
    data = instantiate(compose(f"data={name}", *place).data)
    shape, spec = data.sample_shape, data.spec
    data.prepare_data()
    data.setup()
    assert data.examples(3).shape == (3, *shape)
    assert data.spec == spec
    if spec is not None:
        assert shape == (spec.in_channels, spec.image_size, spec.image_size)


def test_set_lies_on_the_device_that_trains_where_there_is_room(mnist_5k: ImageData) -> None:
    assert mnist_5k.train_split
    size = sum(samples.nbytes for samples in mnist_5k.train_split)
    meta = torch.device("meta")  # stands for a GPU
    placed = place(mnist_5k.train_split, meta, room=size)
    images, labels = InMemoryDataset(placed).__getitems__([3999, 0])
    assert (images.device, labels.device, images.shape) == (meta, meta, (2, 1, 28, 28))
    assert place(mnist_5k.train_split, meta, room=size - 1) is mnist_5k.train_split


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("data", ["mnist_5k", "stacked_mnist", "ring"])
def test_run_reads_batches_that_are_on_the_gpu(data: str) -> None:
    models = {"mnist_5k": ["model=lenet"], "stacked_mnist": ["model=gan", "model/network=stacked"]}
    choice = models.get(data, ["model=gan", "model/network=points"])
    run_well(*choice, f"data={data}", "trainer.accelerator=gpu", "trainer.max_steps=2", "~callbacks.plots")
    assert results_of(only_run())["status"] == "finished"


def test_a_whole_batch_is_gathered_at_once(mnist_5k: ImageData) -> None:
    assert mnist_5k.train_split
    data = InMemoryDataset(mnist_5k.train_split)
    indices = [3999, 0, 7, 7]
    images, labels = data.__getitems__(indices)
    singles = [data[index] for index in indices]
    assert len(data) == 4000
    assert torch.equal(images, torch.stack([image for image, _ in singles]))
    assert torch.equal(labels, torch.stack([label for _, label in singles]))


def test_examples_of_a_set_that_is_sorted_by_class_are_of_all_classes(mnist_5k: ImageData) -> None:
    assert mnist_5k.train_split
    images, labels = mnist_5k.train_split
    for label, example in enumerate(mnist_5k.examples(10)):
        of_class = mnist_5k.transform(images[labels == label])
        assert (of_class == example).flatten(1).all(1).any()
