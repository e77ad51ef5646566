"""Real images that are altered in known ways, to try the scores of generated images on."""

from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.images import ImageData
from gan.scores.ladder import blur, shift


class Scene(NamedTuple):
    """Real images of one data set in three sets without an image in common, and what else an alteration needs.

    Images are (N, 1, 28, 28) in [-1, 1].

    Attributes:
        reference: what scores compare with.
        source: what takes the place of generated images, and is altered.
        source_labels: the classes of these.
        spare: further images; they replace those of dropped classes, and the first of them are what is copied.
        spare_labels: the classes of these.
        foreign: images of another data set.
        classes: all classes, in the order in which they are dropped or collapse.
        noise: images of uniform noise.
    """

    reference: Tensor
    source: Tensor
    source_labels: Tensor
    spare: Tensor
    spare_labels: Tensor
    foreign: Tensor
    classes: Tensor
    noise: Tensor

    @property
    def copied(self) -> Tensor:
        """The images that a generator would have memorized, as many as the reference."""
        return self.spare[: len(self.reference)]


def held_out_images(data: ImageData) -> tuple[Tensor, Tensor]:
    """The validation and test images of a set that has been read, in [-1, 1], and their labels."""
    splits = [split for split in (data.val_split, data.test_split) if split is not None]
    images = torch.cat([split.images for split in splits])
    return data.transform(images), torch.cat([split.labels for split in splits])


def draw_scene(images: Tensor, labels: Tensor, foreign: Tensor, count: int, generator: torch.Generator) -> Scene:
    """Divides images at random into sets of `count`; the rest is spare.

    Args:
        images, labels: (N, 1, 28, 28) and (N,), N several times `count`.
        foreign: of another data set, at least `count`.
        count: images of each set.
        generator: draws.
    """
    order = torch.randperm(len(images), generator=generator)
    reference, source, spare = order.split([count, count, len(order) - 2 * count])
    return Scene(
        reference=images[reference],
        source=images[source],
        source_labels=labels[source],
        spare=images[spare],
        spare_labels=labels[spare],
        foreign=foreign[torch.randperm(len(foreign), generator=generator)[:count]],
        classes=torch.randperm(int(labels.max()) + 1, generator=generator),
        noise=2 * torch.rand(count, *images.shape[1:], generator=generator) - 1,
    )


def drop_classes(scene: Scene, count: float) -> Tensor:
    """The images of some classes replaced by other images of the classes that are left.

    Raises:
        ValueError: there are too few of these.
    """
    dropped = scene.classes[: int(count)]
    gone = torch.isin(scene.source_labels, dropped)
    left = scene.spare[~torch.isin(scene.spare_labels, dropped)]
    if len(left) < int(gone.sum()):
        raise ValueError(f"{int(gone.sum())} images of the classes left are needed, there are {len(left)}")
    images = scene.source.clone()
    images[gone] = left[: int(gone.sum())]
    return images


def collapse_classes(scene: Scene, count: float) -> Tensor:
    """The images of some classes all replaced by one of them, the nearest to their mean."""
    images = scene.source.clone()
    for label in scene.classes[: int(count)]:
        members = scene.source_labels == label
        images[members] = central_image(scene.source[members])
    return images


def central_image(images: Tensor) -> Tensor:
    """The image (1, H, W) nearest to the mean of images (N, 1, H, W).

    >>> central_image(torch.tensor([0.0, 4.0, 5.0]).view(3, 1, 1, 1)).item()
    4.0
    """
    return images[(images - images.mean(0)).flatten(1).norm(dim=1).argmin()]


def mix_in_noise(scene: Scene, share: float) -> Tensor:
    """A share of the images replaced by uniform noise."""
    return replace_share(scene.source, scene.noise, share)


def mix_in_foreign(scene: Scene, share: float) -> Tensor:
    """A share of the images replaced by images of another data set."""
    return replace_share(scene.source, scene.foreign, share)


def copy_images(scene: Scene, share: float) -> Tensor:
    """A share of the images replaced by copies of `Scene.copied`."""
    return replace_share(scene.source, scene.copied, share)


def replace_share(images: Tensor, others: Tensor, share: float) -> Tensor:
    """The first so many of the images replaced by the first of the others; their order was random.

    >>> replace_share(torch.zeros(4), torch.ones(4), 0.5).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    count = round(share * len(images))
    return torch.cat([others[:count], images[count:]])


def shift_images(scene: Scene, pixels: float) -> Tensor:
    """The images shifted to the right."""
    return shift(scene.source, int(pixels))


def blur_images(scene: Scene, times: float) -> Tensor:
    """Each pixel replaced by the mean of 3x3 pixels, several times."""
    images = scene.source
    for _ in range(int(times)):
        images = blur(images)
    return images
