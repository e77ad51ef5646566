"""task=predict: what a trained classifier makes of a person's own images."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.utilities.model_helpers import is_overridden
from matplotlib.figure import Figure
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.user_image import read_photo
from tasks.checkpoint import load_weights
from tasks.results import recorded
from tasks.train import short

BEST = 3  # classes named for each image


class Prediction(NamedTuple):
    name: str
    probability: float


@recorded
def predict(cfg: DictConfig) -> dict[str, Any]:
    """Classifies the images of `input=`; prints a table, writes predictions.csv and predictions.png.

    Raises:
        ValueError: checkpoint or input is missing, cannot be used, or the checkpoint is of no classifier.
    """
    if cfg.ckpt_path is None or cfg.input is None:
        raise ValueError("task=predict needs ckpt_path=outputs/.../checkpoints/best.ckpt and input=image.png")
    paths = list(cfg.input) if isinstance(cfg.input, ListConfig) else [cfg.input]
    model, datamodule = instantiate(cfg.model), instantiate(cfg.data)
    if not is_overridden("predict_step", model):
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} classifies no images")
    load_weights(model, cfg)
    images = torch.stack([read_photo(path, datamodule.centred_digits) for path in paths])  # (N, 1, 28, 28)
    datamodule.prepare_data()
    datamodule.setup("predict")
    model.eval()
    with torch.no_grad():
        probabilities = model.predict_step((datamodule.transform(images), None), 0).cpu()
    folder = Path(HydraConfig.get().runtime.output_dir)
    best = probabilities.topk(BEST)
    predictions = [
        [Prediction(datamodule.class_names[i], probability) for probability, i in zip(*row, strict=True)]
        for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    draw(images, predictions).savefig(folder / "predictions.png", dpi=120)
    with open(folder / "predictions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *(f"{what}_{n}" for n in range(1, BEST + 1) for what in ("class", "probability"))])
        for path, row in zip(paths, predictions, strict=True):
            writer.writerow([path, *(cell for prediction in row for cell in prediction)])
    table = Table("file", "class", "probability", "then")
    for path, (first, *others) in zip(paths, predictions, strict=True):
        then = ", ".join(f"{name} {probability:.1%}" for name, probability in others)
        table.add_row(str(path), first.name, f"{first.probability:.1%}", then)
    Console().print(table)
    print(f"written      {short(folder)}/predictions.csv and predictions.png")
    files = {str(path): row[0]._asdict() for path, row in zip(paths, predictions, strict=True)}
    return {"predictions": files}


def draw(images: Tensor, predictions: list[list[Prediction]]) -> Figure:
    """Each image as the net reads it, with its most probable classes."""
    figure = Figure(figsize=(5.5, 1.9 * len(images)), layout="constrained")
    panels = figure.subplots(len(images), 2, squeeze=False)
    for (left, right), image, row in zip(panels, images, predictions, strict=True):
        left.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255)
        left.axis("off")
        right.barh([prediction.name for prediction in row], [prediction.probability for prediction in row])
        right.set(xlim=(0, 1), xlabel="probability")
        right.invert_yaxis()
    return figure
