"""What a GAN shows: samples over time, also as an animated GIF, and at the end what they lie between and next to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from gan.adversarial import GAN

STEPS = 10  # images from one latent to another


class GANFigures(Callback):
    """Draws the images of the fixed latents after every epoch; at the end interpolations, neighbours, real and fake.

    The pictures of the epochs are kept in the run's folder, samples/epoch_0001.png and so on, where a resumed run finds
    them. At the end they become samples.gif, read one after the other.

    Args:
        frames: of the GIF at most, evenly chosen among the epochs.
        seconds: that the GIF takes.

    Raises:
        ValueError: `frames` is below 2 or `seconds` not above 0.
    """

    def __init__(self, frames: int = 100, seconds: float = 8.0) -> None:
        if frames < 2:
            raise ValueError(f"callbacks.figures.frames={frames}: a whole number above 1 is needed")
        if not seconds > 0:
            raise ValueError(f"callbacks.figures.seconds={seconds}: a number above 0 is needed")
        self.frames = frames
        self.seconds = seconds

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if not trainer.is_global_zero:
            return
        picture = self.picture(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        show(trainer, "samples of fixed latents", picture)
        folder = Path(trainer.default_root_dir) / "samples"
        folder.mkdir(exist_ok=True)
        gray = torch.equal(picture[0], picture[1]) and torch.equal(picture[0], picture[2])
        to_pil_image(picture[:1] if gray else picture).save(folder / f"epoch_{trainer.current_epoch + 1:04d}.png")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        if pictures := sorted((folder / "samples").glob("epoch_*.png")):
            animate(pictures, folder / "samples.gif", self.frames, self.seconds)
        for name, picture in self.last_pictures(pl_module, trainer.datamodule).items():  # type: ignore[attr-defined]
            show(trainer, name, picture)

    def picture(self, model: GAN, data: Any) -> Tensor:
        """What is drawn after an epoch, (3, H, W) in [0, 1]."""
        return grid(model.images_of_fixed_latents(), 8)

    def last_pictures(self, model: GAN, data: Any) -> dict[str, Tensor]:
        """What is drawn at the end, by name."""
        fake = model.sample(64)
        near = nearest(fake[:16], data.train_split.images, data.transform)
        pairs = torch.stack([fake[:16].cpu(), near], 1).flatten(0, 1)
        real = data.examples(64)
        left, right = grid(real, 8), grid(fake[: len(real)], 8)
        return {
            "interpolations between latents": grid(interpolations(model), STEPS),
            "samples, each with the nearest training image on its right": grid(pairs, 8),
            "real on the left, fake on the right": torch.cat([left, torch.ones(3, left.shape[1], 8), right], 2),
        }


def show(trainer: Trainer, name: str, picture: Tensor) -> None:
    if isinstance(trainer.logger, TensorBoardLogger):
        trainer.logger.experiment.add_image(name, picture, trainer.global_step)


def grid(images: Tensor, columns: int) -> Tensor:
    """One picture (3, H, W) in [0, 1] of images (N, 1, 28, 28) or (N, 3, 28, 28) in [-1, 1]."""
    return make_grid(images.float().cpu(), nrow=columns, normalize=True, value_range=(-1, 1))


def interpolations(model: GAN, rows: int = 8) -> Tensor:
    """Images (rows * STEPS, 1, 28, 28), each row on the arc between two latents, of one class."""
    start, end = model.latents(rows), model.latents(rows)
    labels = [] if model.num_classes is None else [torch.arange(rows, device=model.device) % model.num_classes]
    shares = torch.linspace(0, 1, STEPS).tolist()
    columns = [model.images_of(arc(start, end, share), *labels) for share in shares]
    return torch.stack(columns, 1).flatten(0, 1)


def arc(start: Tensor, end: Tensor, share: float) -> Tensor:
    """A point of the great circle from `start` to `end` (N, Z), where Gaussian latents lie as densely as at its ends.

    >>> arc(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    cosine = torch.cosine_similarity(start, end, dim=1).clamp(-0.9999, 0.9999)
    angle = cosine.acos().unsqueeze(1)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


def nearest(images: Tensor, stored: Tensor, transform: Any) -> Tensor:
    """Of the stored images, uint8 (M, 1, 28, 28), the nearest to each channel of `images` (N, C, 28, 28)."""
    channels = images.float().cpu().flatten(0, 1).flatten(1)  # (N C, 784)
    distances = torch.cat([torch.cdist(channels, transform(part).flatten(1)) for part in stored.split(5000)], 1)
    return transform(stored[distances.argmin(1)]).view_as(images)


def animate(pictures: list[Path], path: Path, frames: int, seconds: float) -> None:
    """A GIF of at most `frames` of the pictures, the first and the last among them; only one at a time is in memory."""
    count = min(frames, len(pictures))
    chosen = [pictures[round(n * (len(pictures) - 1) / max(1, count - 1))] for n in range(count)]

    def others() -> Iterator[Image.Image]:
        for picture in chosen[1:]:
            with Image.open(picture) as image:
                yield image

    with Image.open(chosen[0]) as first:
        new = path.with_suffix(".part")
        duration = round(1000 * seconds / count)  # milliseconds a frame
        first.save(new, "GIF", save_all=True, append_images=others(), duration=duration, loop=0)
        new.replace(path)
