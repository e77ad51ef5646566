"""task=explain: opens a trained classifier: filters, feature maps, what excites them, and which pixels decide."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from classic_cnn.classifier import ImageClassifier
from classic_cnn.explain import plots
from classic_cnn.explain.attribution import attribute, has_relu
from classic_cnn.explain.deconvnet import ConvLayer, conv_layers, feature_maps, strongest_responses
from classic_cnn.explain.occlusion import occlusion
from datamodules.contract import Count, Share
from tasks.checkpoint import check_finite, load_trained
from tasks.config import ConfigError
from tasks.explain_excitation import ExplainedNet, excitation
from tasks.explain_page import (
    ATTRIBUTIONS,
    FEATURE_MAPS,
    FILTERS,
    GUIDED_RULE,
    NO_RELU,
    OCCLUSION,
    PAGE,
    Picture,
    write_page,
)
from tasks.folders import dashboard, short
from tasks.plots import save_plot
from tasks.predict import input_paths, read_images
from tasks.results import evenly_spaced
from tasks.tables import Column, Table, one_line

MAX_EXPLAINED = 10  # images, each of which is a row of a picture
BATCH = 250  # validation images searched at once

Side = Annotated[int, Field(ge=1, le=28)]


class Settings(NamedTuple):
    """The options of the task."""

    images: int | None
    layers: int | None
    maps: int
    examples: int
    square: int
    stride: int
    shade: float


class Examples(NamedTuple):
    """The images that are explained: uint8 (N, C, H, W), what they are called, and their classes if known."""

    images: Tensor
    names: list[str]
    labels: list[int] | None


def explain(
    cfg: DictConfig,
    folder: Path,
    images: Count | None,
    layers: Count | None,
    maps: Count,
    examples: Annotated[int, Field(ge=1, le=10)],
    square: Side,
    stride: Side,
    shade: Share,
) -> dict[str, Any]:
    """Explains the classifier of `cfg.ckpt_path`; writes plots and one page that holds them.

    Args:
        cfg: the config of the run; its `input` names images to explain in place of validation images.
        folder: the run's own.
        images: validation images among which the strongest responses are looked for; None = all.
        layers: convolutions that are shown, evenly from the first to the last; None = all.
        maps: feature maps shown of each.
        examples: validation images, one of each of the first classes.
        square: side of the occluding square, in pixels of a 28x28 image; of a larger one as many times more.
        stride: pixels from one of its positions to the next, likewise.
        shade: of the square, 0 = background, 1 = ink.

    Raises:
        ValueError: checkpoint or input is missing or cannot be used, or the checkpoint holds no classifier.
    """
    settings = Settings(images, layers, maps, examples, square, stride, shade)
    model, data, _, facts = load_trained(cfg, folder, ImageClassifier)
    chosen = choose_examples(cfg, data, examples)
    convolutions = conv_layers(model, model.example_input_array.to(model.device))
    with torch.no_grad():
        check_finite(model(data.transform(chosen.images.to(model.device))), f"ckpt_path={cfg.ckpt_path}")
    net = ExplainedNet(model, convolutions, lambda stored: data.transform(stored.to(model.device)), data.class_names)
    pictures: list[Picture] = []
    rows: list[dict[str, Any]] = []
    with Progress(transient=True) as progress, SummaryWriter(str(folder)) as board:
        for picture in draw(settings, net, data.val_split, chosen, rows, progress):
            pictures.append(picture)
            save_plot(picture.figure, folder / f"{picture.name}.png", dpi=110)
            board.add_figure(f"explain/{picture.name}", picture.figure)
    write_page(folder, f"{type(model).__name__} on {data.name}", f"Weights: {cfg.ckpt_path}", pictures)
    Table(SHOWN, rows).print(min_width=80)
    print(f"written      {one_line(short(folder))}/{PAGE} and {len(pictures)} plots (.png)")
    print(one_line(f"dashboard    {dashboard(folder)}"))
    files = [f"{picture.name}.png" for picture in pictures]
    return facts | {"page": str(folder / PAGE), "plots": files, "examples": rows}


def percent(key: str) -> Callable[[Any], str]:
    return lambda row: f"{row[key]:.1%}"


SHOWN = (
    *(Column("example"), Column("class"), Column("predicted")),
    Column("probability", "class probability", percent("probability")),
    Column("lowest_when_occluded", text=percent("lowest_when_occluded")),
)


def choose_examples(cfg: DictConfig, data: Any, count: int) -> Examples:
    """The images of `cfg.input`, otherwise the first validation image of each of the first classes.

    Raises:
        ValueError: an image cannot be used.
    """
    if paths := input_paths(cfg):
        if len(paths) > MAX_EXPLAINED:
            raise ConfigError(
                "input", f"names {len(paths):,} images, and at most {MAX_EXPLAINED} are explained at once"
            )
        return Examples(read_images(paths, data), [Path(path).name for path in paths], None)
    images, labels = data.val_split
    present = labels.unique().tolist()  # a class may be without validation images
    first = [int(torch.nonzero(labels == label)[0]) for label in present[:count]]
    return Examples(images[first], [f"validation {index}" for index in first], labels[first].tolist())


def draw(
    settings: Settings,
    net: ExplainedNet,
    validation: Any,
    examples: Examples,
    rows: list[dict[str, Any]],
    progress: Progress,
) -> Iterator[Picture]:
    """Draws one plot after the other, and adds each example's results to `rows`."""
    shown = evenly_spaced(net.layers, settings.layers or len(net.layers))
    if shown:
        if isinstance(shown[0].convolution, nn.Conv2d):
            yield Picture("filters", "First-layer filters", plots.filters_figure(shown[0].convolution.weight), FILTERS)
        yield draw_feature_maps(settings, net, shown, examples)
        yield from draw_excitation(settings, net, shown, validation, progress)
    probabilities = net.predict(examples.images)
    classes = probabilities.argmax(1) if examples.labels is None else torch.tensor(examples.labels)
    tracked = progress.track(examples.images, description="occlusion")
    square, stride = (pixels(side, examples.images) for side in (settings.square, settings.stride))
    sweeps = [occlusion(net.predict, image, square, stride, settings.shade) for image in tracked]
    titles = describe_examples(net, examples, classes, probabilities, sweeps, rows)
    figure = plots.occlusion_figure(examples.images, titles, classes, sweeps, net.class_names, square)
    text = OCCLUSION.format(side=square)
    yield Picture("occlusion", "Occlusion: which parts of the image decide", figure, text)
    inputs = net.transform(examples.images)
    attributions = attribute(net.model, inputs, classes.to(inputs.device))
    name, text = ("guided backpropagation", GUIDED_RULE) if has_relu(net.model) else ("gradient", NO_RELU)
    figure = plots.attributions_figure(inputs, titles, attributions, name)
    yield Picture("attributions", "Attributions: which pixels decide", figure, ATTRIBUTIONS.format(second=text))


def pixels(side: int, images: Tensor) -> int:
    """A length that is given in pixels of a 28x28 image, in those of larger images (N, C, H, W).

    >>> pixels(8, torch.zeros(1, 1, 28, 28)), pixels(8, torch.zeros(1, 3, 224, 224)), pixels(1, torch.zeros(1, 1, 8, 8))
    (8, 64, 1)
    """
    return max(1, round(side * images.shape[-1] / 28)) if images.shape[-1] > 28 else side


def draw_feature_maps(settings: Settings, net: ExplainedNet, layers: list[ConvLayer], examples: Examples) -> Picture:
    maps = [layer[0] for layer in feature_maps(net.model, layers, net.transform(examples.images[:1]))]
    figure = plots.feature_maps_figure(examples.images[0], [layer.name for layer in layers], maps, settings.maps)
    title = "Feature maps, from the first to the last convolution"
    return Picture("feature_maps", title, figure, FEATURE_MAPS.format(example=examples.names[0]))


def draw_excitation(
    settings: Settings, net: ExplainedNet, layers: list[ConvLayer], validation: Any, progress: Progress
) -> Iterator[Picture]:
    """For each layer, the validation images that excite its feature maps most."""
    images, labels = validation
    generator = torch.Generator().manual_seed(0)  # sets that are sorted by class are not cut off at some class
    chosen = torch.randperm(len(labels), generator=generator)[: settings.images].sort().values
    parts = chosen.split(BATCH)
    batches = (net.transform(images[part]) for part in progress.track(parts, description="strongest responses"))
    found = list(zip(layers, strongest_responses(net.model, layers, batches), strict=True))
    for number, (layer, responses) in enumerate(progress.track(found, description="projections"), start=1):
        yield excitation(settings.maps, net, layer, responses, images[chosen], labels[chosen], number)


def describe_examples(
    net: ExplainedNet,
    examples: Examples,
    classes: Tensor,
    probabilities: Tensor,
    sweeps: list[Tensor],
    rows: list[dict[str, Any]],
) -> list[str]:
    """Adds a row for each example; returns their titles."""
    titles = []
    for name, label, row, sweep in zip(examples.names, classes.tolist(), probabilities, sweeps, strict=True):
        best = net.class_names[int(row.argmax())]
        true = "" if examples.labels is None else f"{net.class_names[label]}, "
        titles.append(f"{true}predicted {best} ({row.max():.0%})")
        rows.append({"example": name, "class": net.class_names[label], "predicted": best})
        rows[-1] |= {"probability": float(row[label]), "lowest_when_occluded": float(sweep[..., label].min())}
    return titles
