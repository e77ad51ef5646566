"""task=summarize: a net layer by layer: shapes, parameters, operations, memory, receptive fields, and what is saved."""

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from tasks.build import build
from tasks.layer_summary import Layer, is_depthwise, kind, parameters, trace
from tasks.leaderboard import collect
from tasks.results import recorded
from tasks.train import short

COLUMNS = ("name", "kind", "output", "parameters", "macs", "bytes", "receptive_field")
WIDTH = 120  # characters that the table needs, or names would be cut off


@recorded
def summarize(cfg: DictConfig) -> dict[str, Any]:
    """Prints the layers of a net and their totals, writes both as summary.md and the layers as summary.csv."""
    model, _, _ = build(cfg)
    layers = trace(model, model.example_input_array)  # type: ignore[arg-type]
    size = {"parameters": parameters(model), "macs": sum(layer.macs for layer in layers)}
    lines = [*totals(model, layers), *savings(model, layers)]
    known, where = known_accuracy(Path(cfg.task.folder), {**cfg.choices, **size})
    lines += [f"{metric:13}{value:.4f}, reached in {short(where)}" for metric, value in known.items()]
    show(layers)
    print("\n".join(lines))
    folder = Path(HydraConfig.get().runtime.output_dir)
    with open(folder / "summary.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *map(cells, layers)])
    (folder / "summary.md").write_text(markdown(layers, lines))
    print(f"written      {short(folder)}/summary.md and summary.csv")
    return size | known


def show(layers: list[Layer]) -> None:
    table = Table(box=SIMPLE_HEAD)
    for column in COLUMNS:
        right = column in COLUMNS[3:]
        table.add_column(column.replace("_", " "), justify="right" if right else "left", no_wrap=True)
    for layer in layers:
        table.add_row(*cells_as_text(layer))
    Console(width=max(WIDTH, Console().width)).print(table)


def known_accuracy(folder: Path, net: dict[str, Any]) -> tuple[dict[str, float], str]:
    """Accuracy, and the folder, of the finished run of this net on these data that did best in validation, if any.

    It is the same net if its name, parameters and operations are.
    """
    same = ("model", "data", "parameters", "macs")
    runs = [run for run in collect(folder) if all(run.get(key) == net[key] for key in same)]
    compared = [run for run in runs if isinstance(run.get("objective"), float)]
    best = max(compared, key=lambda run: run["objective"], default={})
    metrics = [metric for metric in ("test/accuracy", "val/accuracy") if metric in best]
    return {metric: best[metric] for metric in metrics[:1]}, best.get("folder", "")


def totals(model: nn.Module, layers: list[Layer]) -> list[str]:
    """Parameters, operations and memory of the whole net, and the share of its fully connected layers."""
    linear = [layer for layer in layers if isinstance(layer.module, nn.Linear)]
    macs = sum(layer.macs for layer in layers)
    share = f"{percent(sum(layer.parameters for layer in linear), parameters(model))} of the parameters"
    return [
        f"parameters   {parameters(model):,}",
        f"MACs         {macs:,} an image",
        f"activations  {sum(layer.bytes for layer in layers) / 2**20:.2f} MiB an image (32 bits, all layers' outputs)",
        f"linear       {share}, {percent(sum(layer.macs for layer in linear), macs)} of the MACs",
    ]


def percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0.0%"


def savings(model: nn.Module, layers: list[Layer]) -> list[str]:
    """What depthwise separable convolutions and the reductions of an Inception module save, where a net has them."""
    lines = []
    done, instead = separable_macs(layers)
    if done:
        lines.append(f"separable    {saving(done, instead)} standard convolutions")
    name = next((name for name, module in model.named_modules() if type(module).__name__ == "Inception"), None)
    convolutions = [layer for layer in layers if name and layer.name.startswith(f"{name}.") and is_conv(layer.module)]
    if len(convolutions) == 6:
        c1, r3, c3, r5, c5, projection = (layer.output[0] for layer in convolutions)
        side, in_channels = convolutions[0].output[-1], convolutions[0].module.in_channels
        done, instead = inception_macs(side, int(in_channels), c1, r3, c3, r5, c5, projection)  # type: ignore[arg-type]
        lines.append(f"inception    {name}: {saving(done, instead)} the naive module")
    return lines


def saving(done: int, instead: int) -> str:
    return f"{done:,} MACs instead of {instead:,} ({instead / done:.2f} times as many) in"


def is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def separable_macs(layers: list[Layer]) -> tuple[int, int]:
    """MACs of all pairs of a depthwise and a 1x1 convolution, and of the standard convolutions in their place.

    Howard et al. 2017, section 3.1: a KxK convolution of M to N maps costs MN K^2 a pixel, a separable one M K^2 + MN.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 32, 1))
    >>> separable_macs(trace(net, torch.zeros(1, 16, 10, 10)))  # 100 pixels
    (65600, 460800)
    """
    done = instead = 0
    convolutions = [layer for layer in layers if is_conv(layer.module)]
    for depthwise, pointwise in pairwise(convolutions):
        if is_depthwise(depthwise.module) and kind(pointwise.module) == "Conv2d 1x1":
            done += depthwise.macs + pointwise.macs
            instead += pointwise.macs * depthwise.module.weight[0, 0].numel()  # type: ignore[index]
    return done, instead


def inception_macs(
    side: int, in_channels: int, c1: int, r3: int, c3: int, r5: int, c5: int, projection: int
) -> tuple[int, int]:
    """MACs of an Inception module and of the naive one (Szegedy et al. 2014, Figure 2 b and a) on side x side maps.

    Maps of the 1x1 convolution, of the 3x3 with its 1x1 reduction, of the 5x5 with its own, and of the 1x1 projection
    behind the pooling; the naive module has neither reductions nor projection.

    >>> inception_macs(28, 192, 64, 96, 128, 16, 32, 32)  # GoogLeNet's inception (3a), Table 1
    (128049152, 303464448)
    """
    reduced = in_channels * (c1 + r3 + r5 + projection) + 9 * r3 * c3 + 25 * r5 * c5
    naive = in_channels * (c1 + 9 * c3 + 25 * c5)
    return side**2 * reduced, side**2 * naive


def cells(layer: Layer) -> list[Any]:
    """A layer's row, in the order of `COLUMNS`."""
    sees = layer.field.size if layer.field else None
    shape = "x".join(map(str, layer.output))
    return [layer.name, kind(layer.module), shape, layer.parameters, layer.macs, layer.bytes, sees]


def cells_as_text(layer: Layer) -> list[str]:
    """A layer as people read it: counts with separators, nothing where there is nothing to count."""
    return [f"{cell:,}" if isinstance(cell, int) and cell else str(cell or "") for cell in cells(layer)]


def markdown(layers: list[Layer], lines: list[str]) -> str:
    """The table and the totals in Markdown.

    >>> import torch
    >>> print(markdown(trace(nn.Sequential(nn.Linear(2, 3)), torch.zeros(1, 2)), ["parameters   9"]))
    | name | kind | output | parameters | macs | bytes | receptive_field |
    |---|---|---|---|---|---|---|
    | 0 | Linear | 3 | 9 | 6 | 12 |  |
    <BLANKLINE>
    - parameters   9
    <BLANKLINE>
    """
    rows = [f"| {' | '.join(cells)} |" for cells in ([*COLUMNS], *(cells_as_text(layer) for layer in layers))]
    return "\n".join([rows[0], "|" + "---|" * len(COLUMNS), *rows[1:], "", *(f"- {line}" for line in lines), ""])
