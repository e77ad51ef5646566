"""Augmentation: for training only, drawn for each image, chosen by data/augment=NAME."""

import kornia.augmentation
import numpy as np
import pytest
import torch
from batches import seen_in_a_fit
from conftest import CONF, compose
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import RandomApply, v2

from datamodules.augment import RandomCrop
from datamodules.contract import ArgumentError
from datamodules.images import ImageData
from datamodules.in_memory import Split

AUGMENTATIONS = sorted(file.stem for file in (CONF / "data" / "augment").glob("*.yaml"))

FEW = {"none": 1, "flip": 2}  # all that can become of an image


def one_digit_only(data: ImageData) -> None:
    assert data.train_split
    images, labels = data.train_split
    data.train_split = data.val_split = Split(images[:1].repeat(20, 1, 1, 1), labels[:1].repeat(20))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_for_training_only_and_differs_from_image_to_image(name: str) -> None:
    data, batches = seen_in_a_fit(f"data/augment={name}", change=one_digit_only)
    assert data.val_split
    plain = data.val_split.images.float() / 127.5 - 1
    for images, _ in batches.val:
        torch.testing.assert_close(images, plain)
    different = {image.numpy().tobytes() for epoch in (0, 1) for image in batches.images(epoch)}
    few = FEW.get(name)
    assert len(different) == few if few else len(different) > 15  # of 40, in six batches
    for images, _ in batches.train[0]:
        assert images.dtype == torch.float32
        assert images.shape[1:] == (1, 28, 28)
        assert -1 <= images.min() < images.max() <= 1 + 1e-6
        assert name == "none" or len(images.unique(dim=0)) > 1


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (kornia.augmentation.RandomAffine(5, same_on_batch=True), "all images of a batch alike"),
        (kornia.augmentation.RandomMixUpV2(), "leave their labels"),
        (kornia.augmentation.RandomHorizontalFlip(p=1.5), r"turn\.p=1\.5"),
        (kornia.augmentation.RandomHorizontalFlip(p=-1.0), r"turn\.p=-1"),
        (nn.Sequential(kornia.augmentation.RandomAffine(5, same_on_batch=True)), "all images of a batch alike"),
    ],
)
def test_an_augmentation_that_is_none_of_single_images_is_refused(transform: nn.Module, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImageData(augment={"turn": transform})


@pytest.mark.parametrize("padding", [0, 28, 1000, 10**9])
def test_a_crop_with_no_sensible_padding_is_refused(padding: int) -> None:
    with pytest.raises(ValueError, match="padding"):
        RandomCrop(padding)(torch.zeros(2, 1, 28, 28))


def windows(image: Tensor, padding: int) -> list[Tensor]:
    """Every window of the old size of an image (C, H, W) with `padding` pixels of background around it."""
    padded = F.pad(image, (padding,) * 4)
    _, height, width = image.shape
    places = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
    return [padded[:, row : row + height, column : column + width] for row, column in places]


@pytest.mark.parametrize(("padding", "shape"), [(1, (400, 1, 28, 28)), (2, (400, 3, 9, 7))])
def test_random_crop_cuts_one_of_the_windows_for_each_image_and_each_as_often(
    padding: int, shape: tuple[int, ...]
) -> None:
    images = torch.rand(shape)
    crops = RandomCrop(padding)(images)
    assert crops.shape == shape
    found = [
        [torch.equal(crop, window) for window in windows(image, padding)].index(True)
        for image, crop in zip(images, crops, strict=True)
    ]
    count = (2 * padding + 1) ** 2
    often = np.bincount(found, minlength=count)
    expected = len(images) / count
    assert ((often - expected) ** 2 / expected).sum() < 3 * count  # chi squared; its mean is count - 1


def test_random_crop_without_padding_is_refused() -> None:
    with pytest.raises(ArgumentError):
        RandomCrop(0)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_augmentation_draws_for_each_image_and_keeps_pixels_in_range(name: str) -> None:
    data = ImageData(augment=instantiate(compose(f"data/augment={name}").data.augment))
    shirt = torch.zeros(1, 28, 28, dtype=torch.uint8)
    shirt[:, 5:24, 8:17] = 200
    shirt[:, 7:10, 9:11] = 255
    images = data.transform(shirt.repeat(64, 1, 1, 1), augment=True)
    assert images.shape == (64, 1, 28, 28)
    assert images.min() >= -1
    assert images.max() <= 1
    fewest = {"flip": 2, "crop": 17}.get(name, 26)  # more than the 25 places of a window alone
    assert len(images.unique(dim=0)) >= fewest


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomRotation(10),
        v2.Compose([nn.Identity()]),
        nn.Sequential(nn.Identity(), v2.RandomHorizontalFlip()),
        RandomApply([nn.Identity()]),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_a_transform_that_would_treat_a_batch_as_one_image_is_refused(transform: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"augment\.turn .*kornia"):
        ImageData(augment={"turn": transform})


def test_a_transform_is_switched_off_by_null_and_changed_by_its_name() -> None:
    cfg = compose("data/augment=crop_flip", "data.augment.flip=null", "data.augment.crop.padding=1")
    data = instantiate(cfg.data)
    assert list(data.augment) == ["crop"]
    assert data.augment["crop"].padding == 1
    cfg = compose("+data.augment.turn._target_=kornia.augmentation.RandomRotation", "+data.augment.turn.degrees=5")
    assert list(instantiate(cfg.data).augment) == ["turn"]


def test_any_function_of_a_batch_can_be_an_augmentation() -> None:
    data = ImageData(augment={"halve": lambda images: images / 2})
    white = torch.full((2, 1, 28, 28), 255, dtype=torch.uint8)
    assert data.transform(white, augment=True).unique().tolist() == [0]
    assert data.transform(white).unique().tolist() == [1]


def test_what_is_drawn_in_training_depends_on_the_seed() -> None:
    """All images are one digit, so that crops differ by what is drawn alone, not by their order."""
    first, again, other = (
        seen_in_a_fit("data/augment=crop", f"seed={seed}", change=one_digit_only)[1].images(0) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
