"""task=explain: opens a trained classifier: filters, feature maps, what excites them, and which pixels decide."""

import base64
import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from lightning import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from matplotlib.figure import Figure
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from classic_cnn.explain import plots
from classic_cnn.explain.attribution import attribute, occlusion
from classic_cnn.explain.deconvnet import (
    Layer,
    Responses,
    Window,
    conv_layers,
    feature_maps,
    guided,
    is_chain,
    project,
    search,
    window_of,
)
from datamodules.user_image import read_photo
from tasks.build import build, describe
from tasks.checkpoint import load_weights
from tasks.results import recorded
from tasks.train import short

BATCH = 250  # validation images searched at once
PAGE = "explain.html"


class Picture(NamedTuple):
    """A figure of the page; its name is that of its file and of its place in TensorBoard."""

    name: str
    figure: Figure
    text: str


class Examples(NamedTuple):
    """The images that are explained: uint8 (N, 1, 28, 28), what they are called, and their classes if known."""

    images: Tensor
    names: list[str]
    labels: list[int] | None


class Opened(NamedTuple):
    """A net with all that its explanation needs."""

    model: LightningModule
    layers: list[Layer]  # the convolutions, all of them
    transform: Callable[[Tensor], Tensor]  # from stored pixels to what the net reads, on its device
    class_names: tuple[str, ...]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """From uint8 images (N, 1, 28, 28) to class probabilities (N, K) on the CPU."""
        return self.model(self.transform(images)).softmax(1).cpu()


@recorded
def explain(cfg: DictConfig) -> dict[str, Any]:
    """Explains `ckpt_path` by validation images, or by those of `input=`; writes figures and one page that holds them.

    Raises:
        ValueError: checkpoint or input is missing or cannot be used, the checkpoint is of no classifier, or a setting
            of the task is out of its range.
    """
    if cfg.ckpt_path is None:
        raise ValueError("task=explain opens a trained net: name it with ckpt_path=outputs/.../checkpoints/best.ckpt")
    check(cfg.task)
    model, data, trainer = build(cfg)
    if not is_overridden("predict_step", model):
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} classifies no images")
    load_weights(model, cfg)
    facts = describe(model, data, trainer)
    device = trainer.strategy.root_device
    model.to(device).eval()
    assert isinstance(model.example_input_array, Tensor)
    layers = conv_layers(model, model.example_input_array.to(device))
    net = Opened(model, layers, lambda images: data.transform(images.to(device)), data.class_names)  # type: ignore
    examples = examples_of(cfg, data)
    folder = Path(HydraConfig.get().runtime.output_dir)
    pictures: list[Picture] = []
    rows: list[dict[str, Any]] = []
    validation = data.val_split  # type: ignore[attr-defined]
    with Progress(transient=True) as progress, SummaryWriter(str(folder)) as board:
        for picture in figures(cfg.task, net, validation.images, validation.labels, examples, rows, progress):
            pictures.append(picture)
            picture.figure.savefig(folder / f"{picture.name}.png", dpi=110)
            board.add_figure(f"explain/{picture.name}", picture.figure)
    write_page(folder, f"{type(model).__name__} on {data.name}", f"Weights: {cfg.ckpt_path}", pictures)
    show(rows)
    print(f"written      {short(folder)}/{PAGE} and {len(pictures)} figures (.png)")
    print("dashboard    tensorboard --logdir outputs")
    files = [f"{picture.name}.png" for picture in pictures]
    return facts | {"page": str(folder / PAGE), "figures": files, "examples": rows}


def check(task: DictConfig) -> None:
    """Refuses settings that nothing can be drawn with."""
    for name, largest in {
        "images": None,
        "layers": None,
        "maps": None,
        "examples": 10,
        "square": 28,
        "stride": 28,
    }.items():
        value = task[name]
        if name in ("images", "layers") and value is None:
            continue
        if not isinstance(value, int) or value < 1 or (largest and value > largest):
            allowed = f"from 1 to {largest}" if largest else "above 0"
            raise ValueError(f"task.{name}={value}: a whole number {allowed} is needed")
    if isinstance(task.shade, str) or not 0 <= task.shade <= 1:
        raise ValueError(f"task.shade={task.shade}: a number from 0 to 1 is needed")


def examples_of(cfg: DictConfig, data: Any) -> Examples:
    """The images of `input=`, otherwise the first validation image of each of the first classes."""
    if cfg.input is not None:
        paths = list(cfg.input) if isinstance(cfg.input, ListConfig) else [cfg.input]
        images = torch.stack([read_photo(path, data.centred_digits) for path in paths])
        return Examples(images, [Path(path).name for path in paths], None)
    images, labels = data.val_split
    first = [int(torch.nonzero(labels == label)[0]) for label in range(min(cfg.task.examples, len(data.class_names)))]
    return Examples(images[first], [f"validation {index}" for index in first], labels[first].tolist())


def figures(
    task: DictConfig,
    net: Opened,
    images: Tensor,
    labels: Tensor,
    examples: Examples,
    rows: list[dict[str, Any]],
    progress: Progress,
) -> Iterator[Picture]:
    """Draws one figure after the other, and adds to `rows` what came out for each example."""
    shown = spread(net.layers, task.layers or len(net.layers))
    if shown:
        if isinstance(shown[0].convolution, nn.Conv2d):
            yield Picture("filters", plots.filters_figure(shown[0].convolution.weight), FILTERS)
        maps = [layer[0] for layer in feature_maps(net.model, shown, net.transform(examples.images[:1]))]
        names = [layer.name for layer in shown]
        picture = plots.feature_maps_figure(examples.images[0], names, maps, task.maps)
        yield Picture("feature_maps", picture, f"What {examples.names[0]} leaves in each layer. {FEATURE_MAPS}")
        generator = torch.Generator().manual_seed(0)  # sets of one class after another are not cut off at some class
        chosen = torch.randperm(len(labels), generator=generator)[: task.images].sort().values
        parts = chosen.split(BATCH)
        batches = (net.transform(images[part]) for part in progress.track(parts, description="strongest responses"))
        found = list(zip(shown, search(net.model, shown, batches), strict=True))
        for number, (layer, responses) in enumerate(progress.track(found, description="projections"), start=1):
            yield excitation(task, net, layer, responses, images[chosen], labels[chosen], number)
    probabilities = net.predict(examples.images)
    classes = probabilities.argmax(1) if examples.labels is None else torch.tensor(examples.labels)
    square = (task.square, task.stride, task.shade)
    tracked = progress.track(examples.images, description="occlusion")
    sweeps = [occlusion(net.predict, image, *square) for image in tracked]
    titles = []
    for name, label, row, sweep in zip(examples.names, classes.tolist(), probabilities, sweeps, strict=True):
        best = net.class_names[int(row.argmax())]
        true = "" if examples.labels is None else f"{net.class_names[label]}, "
        titles.append(f"{true}read as {best} ({row.max():.0%})")
        least = float(sweep[..., label].min())
        rows.append({"example": name, "class": net.class_names[label], "read_as": best})
        rows[-1] |= {"probability": float(row[label]), "lowest_when_occluded": least}
    drawn = plots.occlusion_figure(examples.images, titles, classes, sweeps, net.class_names, task.square)
    yield Picture("occlusion", drawn, OCCLUSION.format(side=task.square))
    read = net.transform(examples.images)
    last = net.layers[-1] if net.layers else None
    attributions = attribute(net.model, last, read, classes.to(read.device))
    yield Picture("attributions", plots.attributions_figure(read, titles, attributions), ATTRIBUTIONS)


def spread(layers: list[Layer], count: int) -> list[Layer]:
    """At most `count` of the layers, evenly from the first to the last.

    >>> [layer.name for layer in spread([Layer(str(n), nn.ReLU(), nn.ReLU()) for n in range(9)], 3)]
    ['0', '4', '8']
    """
    if len(layers) <= count:
        return layers
    return [layers[round(n * (len(layers) - 1) / max(1, count - 1))] for n in range(count)]


def excitation(
    task: DictConfig, net: Opened, layer: Layer, responses: Responses, images: Tensor, labels: Tensor, number: int
) -> Picture:
    """The strongest feature maps of a layer, each with its nine images and their projections to pixels."""
    maps, top = responses.strongest(task.maps)  # (M,), (M, 9)
    chain = features_up_to(net.model, layer)
    window = Window(size=images.shape[-1] ** 2) if chain is None else window_of(chain)  # without a chain: all of it
    projections, patches = [], []
    for feature, indices in zip(maps.tolist(), top, strict=True):
        read = net.transform(images[indices])
        wanted = torch.full((len(indices),), feature, device=read.device)
        back = guided(net.model, layer, read, wanted) if chain is None else project(chain, read, wanted)
        places = responses.places[indices, feature]
        width = feature_width(net, layer, read[:1])
        rows, columns = places // width, places % width
        projections.append(window.cut(back.mean(1, keepdim=True).cpu(), rows, columns, 0.0))
        patches.append(window.cut(read[:, :1].cpu(), rows, columns, -1.0))
    classes = [[net.class_names[label] for label in labels[indices].tolist()] for indices in top]
    seen = window.size if chain is not None and window.size < read.shape[-1] else None
    title = f"convolution {number}: {layer.name}" + (f", windows of {seen}x{seen} pixels" if seen else ", whole images")
    drawn = plots.excitation_figure(title, maps, projections, patches, classes)
    text = (GUIDED if chain is None else DECONVNET).format(layer=html.escape(layer.name), images=len(images))
    return Picture(f"excites_{number:02}_{layer.name}", drawn, text)


def feature_width(net: Opened, layer: Layer, image: Tensor) -> int:
    return feature_maps(net.model, [layer], image)[0].shape[-1]


def features_up_to(model: nn.Module, layer: Layer) -> nn.Sequential | None:
    """The chain of modules from the pixels to the output of a layer; None where the net has branches."""
    features = getattr(model, "features", None)
    if not is_chain(features):
        return None
    assert isinstance(features, nn.Sequential)
    return features[: list(features).index(layer.output) + 1]


def show(rows: list[dict[str, Any]]) -> None:
    """The terminal's part: how sure the net is of each example, with and without the square at its worst place."""
    table = Table("example", "class", "read as", "probability", "lowest when occluded")
    for row in rows:
        shares = (f"{row[key]:.1%}" for key in ("probability", "lowest_when_occluded"))
        table.add_row(row["example"], row["class"], row["read_as"], *shares)
    Console().print(table)


def write_page(folder: Path, title: str, source: str, pictures: list[Picture]) -> None:
    """One file that needs no other: the figures that lie in the folder are written into it."""
    parts = []
    for name, _, text in pictures:
        encoded = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        heading = html.escape(name.replace("_", " "))
        image = f'<img alt="{heading}" src="data:image/png;base64,{encoded}">'
        parts.append(f"<section><h2>{heading}</h2><p>{text}</p>{image}</section>")
    head = f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    body = f"<h1>{html.escape(title)}</h1><p>{html.escape(source)}</p>{''.join(parts)}"
    page = f'<!doctype html><html lang="en"><meta charset="utf-8">{head}<body>{body}</body></html>\n'
    (folder / PAGE).write_text(page)


STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "img{max-width:100%;border:1px solid #ddd}h2{margin-top:2em;text-transform:capitalize}"
)
FILTERS = "The weights of the first convolution, all on one scale. Edges and bars show as neighbouring black and white."
FEATURE_MAPS = "Of each layer the maps that respond most, each on a scale of its own."
DECONVNET = (
    "{layer}: the feature maps that respond most among {images} validation images. Left, the nine strongest responses "
    "projected to pixels by a deconvnet (Zeiler and Fergus 2013), gray where nothing counts; right, what the net saw "
    "there. Above, the class that most of the nine belong to."
)
GUIDED = (
    "{layer}: the feature maps that respond most among {images} validation images. Left, the nine strongest responses "
    "by guided backpropagation, as this net is no plain chain of layers; right, the images. Above, the class that most "
    "of the nine belong to."
)
OCCLUSION = (
    "A square of {side}x{side} pixels (in its size at the upper left) covers one position after another. Each pixel of "
    "the maps stands for the square with its middle there; white lines are the outline of the image."
)
ATTRIBUTIONS = (
    "Saliency is the size of the gradient of the class's score; guided backpropagation passes back positive gradients "
    "alone, red raises the score and blue lowers it; Grad-CAM weights the maps of the last convolution."
)
