"""Plots of a GAN: samples over time, also as an animated GIF, and at the end interpolations and nearest neighbours."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
TITLES = {  # of the pictures at the end, in TensorBoard
    "interpolations": "interpolations between latents",
    "nearest_neighbours": "each with the nearest training image on its right",
    "real_and_generated": "real on the left, generated on the right",
}


class SamplePlots(CheckedArguments, Callback):
    """Plots the fixed samples over time; at the end interpolations, nearest neighbours, real beside generated.

    The pictures are kept in the trainer's `default_root_dir`: samples/step_0000050.png and so on, where a resumed run
    finds them, become samples.gif; the plots of the end are interpolations.png and so on. TensorBoard shows the samples
    after each epoch.

    Args:
        frames: largest number of frames of the GIF, at even intervals of a run that has a budget of epochs or steps;
            of any other, one per epoch.
        seconds: duration of the GIF.
    """

    def __init__(self, frames: Count = 60, seconds: Positive = 8.0) -> None:
        self.frames = frames
        self.seconds = seconds
        self.interval = 0  # batches from one frame to the next; 0 = an epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs, steps = trainer.max_epochs, trainer.max_steps
        batches = [epochs * trainer.num_training_batches] if epochs not in (None, -1) else []
        batches += [steps * getattr(pl_module, "discriminator_steps", 1)] if steps != -1 else []
        self.interval = max(1, math.ceil(min(batches) / self.frames)) if batches else 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        done = trainer.fit_loop.total_batch_idx + 1
        if self.interval and done % self.interval == 0 and trainer.is_global_zero:
            self._draw_frame(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            log_picture(trainer, "over time", self._draw_frame(trainer, pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GAN)
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        if frames := sorted((folder / "samples").glob("step_*.png")):
            animate(frames, folder / "samples.gif", self.frames, self.seconds)
        for name, picture in self.final_pictures(pl_module, trainer.datamodule).items():  # type: ignore[attr-defined]
            save_picture(picture, folder / f"{name}.png")
            log_picture(trainer, TITLES[name], picture)

    def _draw_frame(self, trainer: Trainer, model: LightningModule) -> Tensor:
        assert isinstance(model, GAN)
        picture = self.picture(model, trainer.datamodule)  # type: ignore[attr-defined]
        save_picture(picture, Path(trainer.default_root_dir) / "samples" / f"step_{trainer.global_step:07d}.png")
        return picture

    def picture(self, model: GAN, data: InMemoryData) -> Tensor:
        """A frame, (3, H, W) in [0, 1]."""
        return grid(model.fixed_samples(), 8)

    def final_pictures(self, model: GAN, data: InMemoryData) -> dict[str, Tensor]:
        """The pictures at the end of the training, by the names of their files."""
        assert data.train_split is not None
        fake = model.sample(64)
        near = nearest(fake[:16], data.train_split.images, data.transform)
        pairs = torch.stack([fake[:16].cpu(), near], 1).flatten(0, 1)
        real = data.examples(64)
        left, right = grid(real, 8), grid(fake[: len(real)], 8)
        return {
            "interpolations": grid(interpolations(model), STEPS),
            "nearest_neighbours": grid(pairs, 8),
            "real_and_generated": torch.cat([left, torch.ones(3, left.shape[1], 8), right], 2),
        }


def log_picture(trainer: Trainer, name: str, picture: Tensor) -> None:
    """Hands a picture (3, H, W) in [0, 1] to every logger that shows pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(f"samples/{name}", picture, trainer.global_step)
        elif hasattr(logger, "log_image"):  # as Weights & Biases has it
            logger.log_image(f"samples/{name}", [picture], trainer.global_step)


def save_picture(picture: Tensor, path: Path) -> None:
    """Writes a picture (3, H, W) in [0, 1] as a PNG that takes its place when it is whole; a gray one in gray."""
    path.parent.mkdir(exist_ok=True)
    is_gray = torch.equal(picture[0], picture[1]) and torch.equal(picture[0], picture[2])
    with whole(path) as new:
        to_pil_image(picture[:1] if is_gray else picture).save(new, "PNG")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The place of a file that takes its own when it is whole; named as `tasks.results.is_temporary` knows it."""
    new = path.with_name(f".{path.name}.{os.getpid()}-0")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


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

    with Image.open(chosen[0]) as first, whole(path) as new:
        duration = round(1000 * seconds / count)  # milliseconds a frame
        first.save(new, "GIF", save_all=True, append_images=others(), duration=duration, loop=0)
