"""Plots that explain a net: filters, feature maps, what excites them, and which pixels decide."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor
from torchvision.utils import make_grid

from classic_cnn.explain.attribution import Attributions

LABEL = {"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.6, "linewidth": 0}  # behind white letters
LEGIBLE = 0.01  # of a map, what a class has at least to be written there
OTHER = "0.6"  # gray, of classes that have no colour
GAP_SHADE = 0.35  # between tiles, of [0, 1]: neither ink nor background


def tiles(images: Tensor, columns: int, gap: float) -> Any:
    """Images (N, C, H, W) in rows of `columns` with gaps of one pixel: (height, width), in colours (..., 3)."""
    grid = make_grid(images.float().cpu(), nrow=columns, padding=1, pad_value=gap)
    return as_picture(grid if images.shape[1] == 3 else grid[:1])


def as_picture(image: Tensor) -> Any:
    """What matplotlib draws of an image (C, H, W): colours (H, W, 3) if it has three channels, or the first one."""
    return (image.permute(1, 2, 0) if len(image) == 3 else image[0]).cpu().numpy()


def normalize_each(images: Tensor, signed: bool) -> Tensor:
    """Scales each image (N, C, H, W) to [0, 1] by its own range; a signed one so that 0 becomes 0.5."""
    flat = images.flatten(1)
    if signed:
        largest = flat.abs().amax(1).clamp_min(1e-12)
        return images / (2 * largest.view(-1, 1, 1, 1)) + 0.5
    low, high = flat.amin(1).view(-1, 1, 1, 1), flat.amax(1).view(-1, 1, 1, 1)
    return (images - low) / (high - low).clamp_min(1e-12)


def filters_figure(weight: Tensor) -> Figure:
    """The filters of the first convolution, (N, C, k, k), all on one scale: black below zero, white above.

    Those of colour images are drawn in colours, of which gray is zero.
    """
    filters = weight.detach().float()
    in_colour = filters.shape[1] == 3
    filters = filters if in_colour else filters.mean(1, keepdim=True)
    columns = min(12, len(filters))
    rows = -(-len(filters) // columns)
    figure = Figure(figsize=(0.85 * columns + 1.2, 0.85 * rows + 0.7), layout="constrained")
    largest = float(filters.abs().max())
    axes = figure.subplots()
    if in_colour:
        axes.imshow(tiles(filters / max(2 * largest, 1e-12) + 0.5, columns, 1.0))
    else:
        picture = axes.imshow(tiles(filters, columns, float("nan")), cmap="gray", vmin=-largest, vmax=largest)
        figure.colorbar(picture, ax=axes, shrink=0.8)
    axes.axis("off")
    side = weight.shape[-1]
    axes.set_title(f"{len(filters)} filters of {side}x{side} pixels", fontsize=10)
    return figure


def feature_maps_figure(image: Tensor, names: Sequence[str], layers: Sequence[Tensor], count: int) -> Figure:
    """An image (C, S, S) and below it one row per layer: those of its feature maps (C, H, W) that respond most."""
    columns = max(1, min(count, max(len(layer) for layer in layers)))
    figure = Figure(figsize=(1.15 * columns, 1.4 * (len(layers) + 1)), layout="constrained")
    panels = figure.subplots(len(layers) + 1, columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    panels[0, 0].imshow(image.permute(1, 2, 0).cpu().numpy(), cmap="gray")
    panels[0, 0].set_title("input", fontsize=8, loc="left")
    for row, name, layer in zip(panels[1:], names, layers, strict=True):
        strongest = layer.flatten(1).amax(1).topk(min(columns, len(layer))).indices.tolist()
        for axes, number in zip(row, strongest, strict=False):
            axes.imshow(layer[number].float().cpu().numpy(), cmap="gray")
            axes.set_title(f"map {number}", fontsize=7, color="0.4")
        height, width = layer.shape[1:]
        row[0].set_title("")
        row[0].set_title(f"{name}: {len(layer)} maps of {height}x{width}\nmap {strongest[0]}", fontsize=8, loc="left")
    return figure


def excitation_figure(
    title: str,
    channel_indices: Tensor,
    projections: Sequence[Tensor],
    patches: Sequence[Tensor],
    classes: Sequence[Sequence[str]],
) -> Figure:
    """For each channel the nine strongest projections, (9, C, h, w), beside the parts of the images they come from."""
    columns = min(4, len(channel_indices))
    rows = -(-len(channel_indices) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.0 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, 2 * columns, squeeze=False).reshape(-1, 2)
    for pair in panels:
        for axes in pair:
            axes.axis("off")
    for (left, right), number, projected, patch, names in zip(
        panels, channel_indices.tolist(), projections, patches, classes, strict=False
    ):
        left.imshow(tiles(normalize_each(projected, signed=True), 3, 1.0), cmap="gray", vmin=0, vmax=1)
        right.imshow(tiles(to_unit_interval(patch), 3, GAP_SHADE), cmap="gray", vmin=0, vmax=1)
        name, times = Counter(names).most_common(1)[0]
        left.set_title(f"map {number}", fontsize=9, loc="left")
        right.set_title(f"{times} of {len(names)}: {name}", fontsize=9, loc="left")
    figure.suptitle(title, fontsize=11)
    return figure


def to_unit_interval(images: Tensor) -> Tensor:
    """From [-1, 1] (pixels less their mean can lie a little beyond) to [0, 1]."""
    return ((images + 1) / 2).clamp(0, 1)


def occlusion_figure(
    images: Tensor, titles: Sequence[str], classes: Tensor, sweeps: Sequence[Tensor], names: Sequence[str], side: int
) -> Figure:
    """For each image, uint8 (N, 1, H, W), the probability of its class (N,) and the most probable class at each
    position of the square, from sweeps (R, C, K)."""
    rows = len(images)
    figure = Figure(figsize=(9.2, 2.5 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False)
    height, width = images.shape[-2:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)  # a position is drawn where the square's middle is
    for (left, middle, right), image, title, label, sweep in zip(
        panels, images, titles, classes.tolist(), sweeps, strict=True
    ):
        left.imshow(image.permute(1, 2, 0).numpy(), cmap="gray")
        left.add_patch(Rectangle((-0.5, -0.5), side, side, color="tab:red", fill=False, linewidth=1.5))
        left.set_title(title, fontsize=9)
        heat = middle.imshow(sweep[..., label].numpy(), cmap="viridis", vmin=0, vmax=1, extent=extent)
        middle.contour(image[0].numpy(), levels=[127], colors="white", linewidths=0.7)
        middle.set_title(f"probability of {names[label]}", fontsize=9)
        figure.colorbar(heat, ax=middle, shrink=0.85)
        best = sweep.argmax(-1)
        colours = colours_of_classes(best, len(names))
        right.imshow([[to_rgb(colours.get(number, OTHER)) for number in row] for row in best.tolist()], extent=extent)
        right.contour(image[0].numpy(), levels=[127], colors="white", linewidths=0.7)
        right.set_title("most probable class", fontsize=9)
        for number, place in places_of_classes(best).items():  # for eyes that take two colours for one
            x, y = (place[0] + 0.5) * width / best.shape[1] - 0.5, (place[1] + 0.5) * height / best.shape[0] - 0.5
            right.text(x, y, names[number], fontsize=8, ha="center", va="center", color="white", bbox=LABEL)
        handles = [Patch(color=colour, label=names[number]) for number, colour in colours.items()]
        if len(best.unique()) > len(colours):
            handles.append(Patch(color=OTHER, label="other"))
        right.legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    for axes in panels.flat:
        axes.axis("off")
    return figure


def colours_of_classes(best: Tensor, num_classes: int) -> dict[int, str]:
    """Matplotlib's colours for the classes of a map, the most frequent first: a class's own, or where there are more
    than ten classes one for each of the nine most frequent.

    >>> import torch
    >>> colours_of_classes(torch.tensor([[3, 3], [3, 0]]), 10), colours_of_classes(torch.tensor([[40, 40, 7]]), 62)
    ({3: 'C3', 0: 'C0'}, {40: 'C0', 7: 'C1'})
    """
    frequent = [number for number, _ in Counter(best.flatten().tolist()).most_common(10 if num_classes <= 10 else 9)]
    return {number: f"C{number if num_classes <= 10 else place}" for place, number in enumerate(frequent)}


def places_of_classes(best: Tensor) -> dict[int, tuple[int, int]]:
    """Column and row of the position nearest to the middle of all that a class has of a map (R, C).

    >>> import torch
    >>> places_of_classes(torch.tensor([[3, 3, 3], [3, 3, 3], [3, 3, 0]]))
    {0: (2, 2), 3: (1, 1)}
    """
    places = {}
    for number in best.unique().tolist():
        found = (best == number).nonzero()  # (P, 2)
        if len(found) >= LEGIBLE * best.numel():
            distances = (found - found.float().mean(0)).norm(dim=1)
            row, column = found[distances.argmin()].tolist()
            places[number] = (column, row)
    return places


def attributions_figure(images: Tensor, titles: Sequence[str], found: Attributions, guided_title: str) -> Figure:
    """For each image as the net reads it, (N, C, S, S), what captum's methods say of its class."""
    columns = 3 if found.grad_cam is None else 4
    figure = Figure(figsize=(2.3 * columns, 2.35 * len(images) + 0.2), layout="constrained")
    panels = figure.subplots(len(images), columns, squeeze=False)
    for index, (row, title) in enumerate(zip(panels, titles, strict=True)):
        image, guided = as_picture(to_unit_interval(images[index])), found.guided[index]
        row[0].imshow(image, cmap="gray")
        row[0].set_title(title, fontsize=9)
        row[1].imshow(found.saliency[index].numpy(), cmap="inferno")
        row[1].set_title("saliency", fontsize=9)
        largest = max(float(guided.abs().max()), 1e-12)
        row[2].imshow(guided.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
        row[2].set_title(guided_title, fontsize=9)
        if found.grad_cam is not None:
            row[3].imshow(image, cmap="gray")
            row[3].imshow(found.grad_cam[index].numpy(), cmap="inferno", alpha=0.6)
            row[3].set_title("Grad-CAM", fontsize=9)
    for axes in panels.flat:
        axes.axis("off")
    return figure
