"""task=summarize: a net layer by layer: shapes, parameters, operations, memory, receptive fields, and what is saved."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from datamodules.contract import LocalPath
from tasks.build import build
from tasks.folders import short
from tasks.layer_summary import Layer, is_depthwise, kind, parameters, trace
from tasks.metrics import best_of
from tasks.results import atomic_writer
from tasks.run_records import collect
from tasks.tables import Column, Table, count, escape_markdown, one_line

COLUMNS = (
    *(Column("name"), Column("kind"), Column("output")),
    *(Column(key, text=count(key), right=True) for key in ("parameters", "macs", "bytes", "receptive_field")),
)


def summarize(cfg: DictConfig, folder: Path, runs: LocalPath) -> dict[str, Any]:
    """Prints the layers of a net and their totals, writes both as summary.md and the layers as summary.csv.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        runs: a folder in which finished runs may tell the accuracy of this net.

    Raises:
        ValueError: the net cannot be built.
    """
    model, _, _ = build(cfg, folder)
    layers = trace(model, model.example_input_array)  # type: ignore[arg-type]
    size = {"parameters": parameters(model), "macs": sum(layer.macs for layer in layers)}
    lines = [*totals(model, layers), *savings(model, layers)]
    known, where = known_accuracy(Path(runs), {**cfg.choices, **size})
    lines += [f"{metric:13}{value:.4f}, reached in {short(where)}" for metric, value in known.items()]
    table = Table(COLUMNS, map(make_row, layers))
    table.print()
    print("\n".join(map(one_line, lines)))
    with atomic_writer(folder / "summary.csv") as file:
        file.write(table.to_csv())
    with atomic_writer(folder / "summary.md") as file:
        file.write("\n".join([table.to_markdown(), "", *(f"- {escape_markdown(line)}" for line in lines), ""]))
    print(f"written      {one_line(short(folder))}/summary.md and summary.csv")
    return size | known


def known_accuracy(folder: Path, net: dict[str, Any]) -> tuple[dict[str, float], str]:
    """Accuracy and folder of the best finished run, by validation, of the same net on the same data; empty if none.

    It is the same net if its name, parameters and operations are the same.
    """
    same = ("model", "data", "parameters", "macs")
    runs = [run for run in collect(folder) if all(run.get(key) == net[key] for key in same)]
    compared = [run for run in runs if run["status"] == "finished" and run.get("objective") is not None]
    best = best_of(compared) if compared else {}
    metrics = [metric for metric in ("test/accuracy", "val/accuracy") if metric in best]
    return {metric: best[metric] for metric in metrics[:1]}, best.get("folder", "")


def totals(model: nn.Module, layers: list[Layer]) -> list[str]:
    """Parameters, operations and memory of the whole net, and the share of its fully connected layers."""
    linear = [layer for layer in layers if isinstance(layer.module, nn.Linear)]
    macs = sum(layer.macs for layer in layers)
    share = f"{percent(sum(layer.parameters for layer in linear), parameters(model))} of the parameters"
    return [
        f"parameters   {parameters(model):,}",
        f"MACs         {macs:,} per image",
        f"activations  {sum(layer.bytes for layer in layers) / 2**20:.2f} MiB per image (float32, all layers' outputs)",
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

    Howard et al. 2017, section 3.1: a KxK convolution from M to N channels costs MN K^2 per pixel, a separable one
    M K^2 + MN.

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

    The arguments are the channels of the 1x1 convolution (c1), of the 3x3 with its 1x1 reduction (r3, c3), of the 5x5
    with its own (r5, c5), and of the 1x1 projection after the pooling; the naive module has no reductions and no
    projection.

    >>> inception_macs(28, 192, 64, 96, 128, 16, 32, 32)  # GoogLeNet's inception (3a), Table 1
    (128049152, 303464448)
    """
    reduced = in_channels * (c1 + r3 + r5 + projection) + 9 * r3 * c3 + 25 * r5 * c5
    naive = in_channels * (c1 + 9 * c3 + 25 * c5)
    return side**2 * reduced, side**2 * naive


def make_row(layer: Layer) -> dict[str, Any]:
    """A layer under `COLUMNS`.

    >>> import torch
    >>> print(Table(COLUMNS, map(make_row, trace(nn.Sequential(nn.Linear(2, 3)), torch.zeros(1, 2)))).to_markdown())
    | name | kind | output | parameters | macs | bytes | receptive field |
    |---|---|---|---:|---:|---:|---:|
    | 0 | Linear | 3 | 9 | 6 | 12 |  |
    """
    return {
        "name": layer.name,
        "kind": kind(layer.module),
        "output": "x".join(map(str, layer.output)),
        "parameters": layer.parameters,
        "macs": layer.macs,
        "bytes": layer.bytes,
        "receptive_field": layer.field.size if layer.field else None,
    }
