"""task=predict: how a trained classifier classifies your own images."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from classic_cnn.classifier import ImageClassifier
from datamodules.bounded import READ_ERRORS, reason
from datamodules.found_set import visible_entries
from datamodules.picture_folders import ENDINGS
from tasks.checkpoint import check_finite, load_trained
from tasks.folders import short
from tasks.plots import save_plot
from tasks.results import atomic_writer
from tasks.tables import Column, Table, one_line

TOP = 3  # classes named for each image
MAX_DRAWN = 30  # images in the picture, each of which takes a third of a second
MAX_LISTED = 50  # images in the table on the console
PIXELS_AT_ONCE = 1000 * 28 * 28  # in a batch
MAX_INPUTS = 10_000  # files in a folder


class Prediction(NamedTuple):
    name: str
    probability: float


def predict(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Classifies the images of `cfg.input`; prints a table, writes predictions.csv and predictions.png.

    Raises:
        ValueError: checkpoint or input is missing or cannot be used, or the checkpoint holds no classifier.
    """
    paths = input_paths(cfg)
    if not paths:
        raise ValueError("task=predict needs images: input=image.png, input=[a.png,b.png] or input=FOLDER")
    model, data, _, facts = load_trained(cfg, folder, ImageClassifier, reads_data=False)
    images = read_images(paths, data)  # (N, C, H, W)
    with torch.no_grad():
        parts = [
            model.predict_step((data.transform(part.to(model.device)), None), 0).cpu() for part in batches(images, data)
        ]
    probabilities = torch.cat(parts)
    check_finite(probabilities, f"ckpt_path={cfg.ckpt_path}")
    top = probabilities.topk(min(TOP, probabilities.shape[1]))
    predictions = [
        [Prediction(data.class_names[index], probability) for probability, index in zip(*row, strict=True)]
        for row in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]
    rows = [make_row(path, row) for path, row in zip(paths, predictions, strict=True)]
    with atomic_writer(folder / "predictions.csv") as file:
        file.write(Table(map(Column, rows[0]), rows).to_csv())
    names = [Path(path).name for path in paths[:MAX_DRAWN]]
    save_plot(draw(images, names, predictions), folder / "predictions.png")
    Table(SHOWN, rows[:MAX_LISTED]).print()
    if len(rows) > MAX_LISTED:
        print(f"... and {len(rows) - MAX_LISTED:,} more")
    print(f"written      {one_line(short(folder))}/predictions.csv and predictions.png")
    return facts | {"predictions": {path: row[0]._asdict() for path, row in zip(paths, predictions, strict=True)}}


def input_paths(cfg: DictConfig) -> list[str]:
    """The files that `input=` names: one, a list, or none; of a folder all pictures in it, sorted by name.

    Raises:
        ValueError: a folder holds no picture, or too many.
    """
    given = cfg.input
    named = [] if given is None else [str(path) for path in (given if isinstance(given, ListConfig) else [given])]
    return [path for name in named for path in (pictures_in(name) if Path(name).is_dir() else [name])]


def pictures_in(folder: str) -> list[str]:
    """The pictures that lie directly in a folder.

    Raises:
        ValueError: there is none, or there are more than `MAX_INPUTS`.
    """
    try:
        entries = visible_entries(Path(folder), MAX_INPUTS)
        files = [file for file in entries if file.suffix.lower() in ENDINGS and not file.is_dir()]
    except READ_ERRORS as error:
        raise ValueError(f"input={folder}: {reason(error)}") from error
    if not files:
        raise ValueError(f"input={folder}: no picture lies in this folder ({', '.join(sorted(ENDINGS))})")
    return [str(file) for file in files]


def read_images(paths: Sequence[str], data: Any) -> Tensor:
    """Image files as the data set `data` stores its images: uint8 (N, C, H, W).

    Raises:
        ValueError: one of them cannot be used.
    """
    try:
        return torch.stack([data.read_user_image(path) for path in paths])
    except ValueError as error:
        raise ValueError(f"input={error}") from error


def batches(images: Tensor, data: Any) -> tuple[Tensor, ...]:
    """Parts of images (N, C, H, W), for a net as many pixels as 1,000 digits have, and of one image at least."""
    return images.split(max(1, PIXELS_AT_ONCE // math.prod(data.sample_shape)))


def make_row(path: str, predictions: Sequence[Prediction]) -> dict[str, Any]:
    row: dict[str, Any] = {"file": path}
    for number, prediction in enumerate(predictions, start=1):
        row |= {f"class_{number}": prediction.name, f"probability_{number}": prediction.probability}
    return row


def runners_up(row: Any) -> str:
    numbers = [number for number in range(2, TOP + 1) if f"class_{number}" in row]
    return ", ".join(f"{row[f'class_{number}']} {row[f'probability_{number}']:.1%}" for number in numbers)


SHOWN = (
    Column("file"),
    Column("class_1", "class"),
    Column("probability_1", "probability", lambda row: f"{row['probability_1']:.1%}"),
    Column("others", "then", runners_up),
)


def draw(images: Tensor, names: Sequence[str], predictions: Sequence[Sequence[Prediction]]) -> Figure:
    """Each image (C, H, W) as the net reads it, with its file's name and its most probable classes."""
    figure = Figure(figsize=(5.5, 1.9 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 2, squeeze=False)
    for (left, right), image, name, row in zip(panels, images, names, predictions, strict=False):
        left.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
        left.axis("off")
        right.set_title(shorten(one_line(name)), fontsize=9, loc="left", parse_math=False)
        right.barh([prediction.name for prediction in row], [prediction.probability for prediction in row])
        right.set(xlim=(0, 1), xlabel="probability")
        right.invert_yaxis()
    return figure


def shorten(name: str, most: int = 40) -> str:
    """A name of at most so many characters, with its beginning and its end.

    >>> shorten("photograph_of_a_seven_on_lined_paper_number_12.png", 20)
    'photograp…ber_12.png'
    """
    half = most // 2
    return name if len(name) <= most else f"{name[: most - half - 1]}…{name[-half:]}"
