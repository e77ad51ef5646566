"""Plots of a GAN: samples over time, also as an animated GIF, and at the end interpolations and nearest neighbours."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from datamodules.contract import CheckedArguments, Count, Positive
from datamodules.in_memory import InMemoryData
from gan.adversarial import GAN

STEPS = 10  # images from one latent to the other


class SamplePlots(CheckedArguments, Callback):
    """Plots the fixed samples after every epoch; at the end interpolations, nearest neighbours, real beside generated.

    The pictures of the epochs are kept in the trainer's `default_root_dir`, samples/epoch_0001.png and so on, where a
    resumed run finds them. At the end they become samples.gif.

    Args:
        frames: largest number of frames of the GIF, evenly chosen among the epochs.
        seconds: duration of the GIF.
    """

    def __init__(self, frames: Count = 100, seconds: Positive = 8.0) -> None:
        self.frames = frames
        self.seconds = seconds

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if not trainer.is_global_zero:
            return
        picture = self.picture(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        log_picture(trainer, "samples of fixed latents", picture)
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
        for name, picture in self.final_pictures(pl_module, trainer.datamodule).items():  # type: ignore[attr-defined]
            log_picture(trainer, name, picture)

    def picture(self, model: GAN, data: InMemoryData) -> Tensor:
        """The picture of an epoch, (3, H, W) in [0, 1]."""
        return grid(model.fixed_samples(), 8)

    def final_pictures(self, model: GAN, data: InMemoryData) -> dict[str, Tensor]:
        """The pictures at the end of the training, by name."""
        assert data.train_split is not None
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


def log_picture(trainer: Trainer, name: str, picture: Tensor) -> None:
    if isinstance(trainer.logger, TensorBoardLogger):
        trainer.logger.experiment.add_image(name, picture, trainer.global_step)


def grid(images: Tensor, columns: int) -> Tensor:
    """One picture (3, H, W) in [0, 1] of images (N, 1, 28, 28) or (N, 3, 28, 28) in [-1, 1]."""
    return make_grid(images.float().cpu(), nrow=columns, normalize=True, value_range=(-1, 1))


def interpolations(model: GAN, rows: int = 8) -> Tensor:
    """Images (rows * STEPS, 1, 28, 28), each row along the arc between two latents, of one class."""
    start, end = model.latents(rows), model.latents(rows)
    labels = [] if model.num_classes is None else [torch.arange(rows, device=model.device) % model.num_classes]
    columns = [model.generate(arc(start, end, alpha), *labels) for alpha in torch.linspace(0, 1, STEPS).tolist()]
    return torch.stack(columns, 1).flatten(0, 1)


def arc(start: Tensor, end: Tensor, alpha: float) -> Tensor:
    """Spherical interpolation from `start` to `end` (N, Z), which keeps the norm that Gaussian latents have.

    >>> arc(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    cosine = torch.cosine_similarity(start, end, dim=1).clamp(-0.9999, 0.9999)
    angle = cosine.acos().unsqueeze(1)
    return (torch.sin((1 - alpha) * angle) * start + torch.sin(alpha * angle) * end) / torch.sin(angle)


def nearest(images: Tensor, stored: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """The nearest of the stored images, uint8 (M, 1, 28, 28), to each channel of `images` (N, C, 28, 28)."""
    channels = images.float().cpu().flatten(0, 1).flatten(1)  # (N C, 784)
    distances = torch.cat([torch.cdist(channels, transform(part).flatten(1)) for part in stored.split(5000)], 1)
    return transform(stored[distances.argmin(1)]).view_as(images)


def animate(pictures: list[Path], path: Path, frames: int, seconds: float) -> None:
    """Writes a GIF of at most `frames` pictures, the first and the last included, with one in memory at a time."""
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
