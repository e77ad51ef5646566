"""Image data sets: uint8 images in memory, and whole batches scaled, augmented and resized on the training device."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.transforms import v2
from typing_extensions import TypedDict

from datamodules.bounded import MAX_PIXELS
from datamodules.contract import ArgumentError, Count, Index, LocalPath, SampleSpec, Side
from datamodules.in_memory import InMemoryData, Split, divide, first_images, first_of_each_class
from datamodules.labelled_set import check_imitates, read_labelled
from datamodules.user_image import read_user_image

DEFAULT_ROOT = "data"
Transform = Callable[[Tensor], Tensor]


class ImageSettings(TypedDict, total=False):
    """The arguments of `ImageData`, for subclasses with arguments of their own."""

    root: LocalPath | None
    batch_size: Count
    image_size: Side
    augment: Mapping[str, Transform | None]
    normalize: Literal["half", "pixel_mean"]
    num_folds: Annotated[int, Field(ge=2)] | None
    fold: Index
    train_images: Count | None
    train_images_per_class: Count | None
    extra_train_path: LocalPath | None
    seed: Index


class ImageData(InMemoryData):
    """Batches of images, float32 (N, C, S, S) in [-1, 1], and labels, int64 (N,). A data set overrides `read`.

    Args:
        root: folder where the data set's files are looked for; by default the environment variable DATA_ROOT's, or
            `data`.
        batch_size: images per training step and process.
        image_size: S, the side in pixels that the net reads, up to 1,024; 28 leaves the images as they are.
        augment: transforms of a float batch (N, C, H, W) in [0, 1] by name, for training only, applied in their
            order; None switches one off.
        normalize: "half" maps [0, 1] to [-1, 1]; "pixel_mean" scales alike but centers each pixel on its mean over
            the training images (Krizhevsky et al. 2012, section 2), so that values lie in [-2, 2].
        num_folds: k of a cross-validation: training and validation images are divided into k parts of equal size with
            equal shares of each class, always the same ones, and there are no test images; None = the set's own split.
        fold: the part that is for validation, from 0; the others are for training.
        train_images: use only the first n training images.
        train_images_per_class: use only the first n training images of each class.
        extra_train_path: a labelled set (CSV, IDX or PNG) whose images are added to these.
        seed: seeds the order of the images, a new one every epoch, and what is drawn in a training step.

    Raises:
        ValueError: an argument is out of its range, or a transform comes from torchvision.
    """

    class_names: tuple[str, ...] = tuple("0123456789")
    in_channels: int = 1
    domain: str = ""  # what the images show, as the config of the original set is called: "mnist", "fashion_mnist"
    centred_digits: bool = False  # drawn as MNIST's digits are: 20x20 pixels around their centre of mass

    def __init__(
        self,
        root: LocalPath | None = None,
        batch_size: Count = 128,
        image_size: Side = 28,
        augment: Mapping[str, Transform | None] = {},
        normalize: Literal["half", "pixel_mean"] = "half",
        num_folds: Annotated[int, Field(ge=2)] | None = None,
        fold: Index = 0,
        train_images: Count | None = None,
        train_images_per_class: Count | None = None,
        extra_train_path: LocalPath | None = None,
        seed: Index = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        self.root = root or os.environ.get("DATA_ROOT") or DEFAULT_ROOT
        self.image_size = image_size
        self.augment = {name: transform for name, transform in augment.items() if transform is not None}
        for name, transform in self.augment.items():
            check_per_sample(name, transform)
        self.normalize = normalize
        if fold >= (num_folds or 1):
            reason = (
                f"should be less than num_folds={num_folds}" if num_folds else "needs num_folds, the number of folds"
            )
            raise ArgumentError("fold", fold, reason)
        self.num_folds, self.fold = num_folds, fold
        self.train_images = train_images
        self.train_images_per_class = train_images_per_class
        self.extra_train_path = extra_train_path
        self.extra_count = 0  # images from there
        self.classes = 0  # of which the whole training set has images
        self.source = ""  # where the files were found
        self.mean: Tensor | None = torch.tensor(0.5) if normalize == "half" else None  # None until `setup` knows it
        self.resize = v2.Resize([image_size, image_size], antialias=True)

    @property
    def spec(self) -> SampleSpec:
        """What a net has to know of the images.

        >>> ImageData(image_size=32).spec
        SampleSpec(in_channels=1, image_size=32, num_classes=10)
        """
        return SampleSpec(self.in_channels, self.image_size, len(self.class_names))

    @property
    def transform_waits(self) -> bool:
        """Whether `transform` depends on the training images, which have to be read before it."""
        return self.mean is None

    def state_dict(self) -> dict[str, Any]:
        """What `transform` has taken from the training images: a net goes on reading what it has learned to read."""
        return {"mean": self.mean.cpu()} if self.normalize == "pixel_mean" and self.mean is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Raises:
            ValueError: it holds no mean of such images.
        """
        if self.normalize != "pixel_mean":
            return
        mean = state_dict.get("mean") if isinstance(state_dict, Mapping) else None
        if not (isinstance(mean, Tensor) and mean.is_floating_point() and mean.dim() == 3 and mean.numel()):
            raise ValueError("the mean of the training images is not one of pixels")
        if len(mean) != self.in_channels or not 0 <= mean.min() <= mean.max() <= 1:
            raise ValueError(f"the mean of the training images is not one of {self.in_channels} channels in [0, 1]")
        self.mean = self.to_size(mean.float())

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.image_size, self.image_size)

    def setup(self, stage: str | None = None) -> None:
        if self.train_split is not None:
            return
        try:
            self.read()
            self.choose()
        except BaseException as error:
            self.train_split = self.val_split = self.test_split = None  # the next call is to be refused as well
            if isinstance(error, ArgumentError):
                raise ValueError(f"data.{error.name}={error.value or 'null'}: {error.reason}") from error
            raise

    def choose(self) -> None:
        """Of what was read, the images that the arguments ask for."""
        assert self.train_split is not None
        if self.num_folds is not None:
            splits = [split for split in (self.train_split, self.val_split) if split is not None]
            images, labels = (torch.cat(parts) for parts in zip(*splits, strict=True))
            self.train_split, self.val_split = divide(Split(images, labels), self.num_folds, self.fold)
            self.test_split = None
        labels_of_all = self.train_split.labels
        self.classes = len(labels_of_all.unique())
        if self.train_images is not None:
            self.train_split = first_images(self.train_split, self.train_images)
        if self.train_images_per_class is not None:
            self.train_split = first_of_each_class(self.train_split, self.train_images_per_class)
        if self.extra_train_path is not None:
            check_imitates(self.extra_train_path, self.domain)
            original = self.train_split
            images, labels = read_labelled(self.extra_train_path, int(labels_of_all.max()) + 1, self.class_names)
            if images.shape[1:] != original.images.shape[1:]:
                shape = "x".join(map(str, original.images.shape[1:]))
                reason = f"holds gray images of 28x28 pixels, those of {self.name} are {shape}"
                raise ArgumentError("extra_train_path", self.extra_train_path, reason)
            self.extra_count = len(labels)
            self.train_split = Split(torch.cat([original.images, images]), torch.cat([original.labels, labels]))
        if self.mean is None:
            mean = self.to_size(self.train_split.images.float().mean(0) / 255)
            self.mean = mean.expand(self.in_channels, -1, -1).contiguous()  # (C, S, S)

    @property
    def own_train_split(self) -> Split:
        """The training images without those of `extra_train_path`."""
        assert self.train_split is not None, "setup() comes first"
        images, labels = self.train_split
        own = len(labels) - self.extra_count
        return Split(images[:own], labels[:own])

    def describe(self) -> str:
        if self.train_split is None:
            return f"{self.name}, not read"
        splits = {"train": self.train_split, "validation": self.val_split, "test": self.test_split}
        sizes = " / ".join(f"{len(split.labels):,} {name}" for name, split in splits.items() if split)
        extra = (
            f"; {self.extra_count:,} of the training images from {self.extra_train_path}" if self.extra_count else ""
        )
        if missing := self.classes - len(self.train_split.labels.unique()):
            extra += f"; {missing} of its {self.classes} classes without a training image"
        fold = f"; fold {self.fold} of {self.num_folds} validates" if self.num_folds is not None else ""
        return f"{self.name}: {sizes} images from {self.source}{extra}{fold}"

    def transform(self, images: Tensor, augment: bool = False) -> Tensor:
        """From stored pixels, uint8 (N, C, H, W), to what a net reads: float32 (N, C, S, S).

        Raises:
            TypeError: these are no stored pixels.
            ValueError: the mean of the training images is not known yet.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images are stored as torch.uint8, from 0 to 255, got {images.dtype}")
        if self.mean is None:
            raise ValueError("normalize=pixel_mean takes the mean of the training images: setup() comes first")
        pixels = images.float() / 255  # (N, C, H, W) in [0, 1]: 0 is the background, so augmentations pad with it
        if augment:
            for transform in self.augment.values():
                pixels = transform(pixels)
        self.mean = self.mean.to(pixels.device)
        return (self.to_size(pixels) - self.mean) * 2

    def to_size(self, pixels: Tensor) -> Tensor:
        """(..., H, W) -> (..., S, S), also where an augmentation has cut a part out."""
        return pixels if pixels.shape[-2:] == self.sample_shape[-2:] else self.resize(pixels)

    def read_user_image(self, source: str | Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> Tensor:
        """A person's own picture, made to look like the stored images: uint8 (C, H, W).

        Args:
            source: the file, or its content in an open one.
            max_pixels: of the picture; checked before it is decoded.

        Raises:
            ValueError: it cannot be read or shows nothing. The message starts with the path, if there is one.
        """
        return read_user_image(source, self.centred_digits, max_pixels)


def check_per_sample(name: str, transform: Any) -> None:
    """Refuses transforms that draw one set of parameters for a whole batch, as torchvision's do, or mix its images.

    >>> check_per_sample("turn", v2.RandomRotation(10))
    Traceback (most recent call last):
    ValueError: augment.turn would transform all images of a batch alike: use kornia.augmentation.RandomRotation
    """
    for module in transform.modules() if isinstance(transform, nn.Module) else [transform]:
        if type(module).__module__.startswith("torchvision.transforms"):
            raise ValueError(
                f"augment.{name} would transform all images of a batch alike: "
                f"use kornia.augmentation.{type(module).__name__}"
            )
        if getattr(module, "same_on_batch", False):
            raise ValueError(f"augment.{name}.same_on_batch would transform all images of a batch alike: leave it out")
        if any(cls.__name__ == "MixAugmentationBaseV2" for cls in type(module).__mro__):
            raise ValueError(f"augment.{name} mixes the images of a batch, and would leave their labels as they are")
        for probability in ("p", "p_batch"):
            if not 0 <= (value := getattr(module, probability, 0.0)) <= 1:
                raise ValueError(f"augment.{name}.{probability}={value}: a probability is from 0 to 1")
