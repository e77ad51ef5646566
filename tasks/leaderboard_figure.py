"""The figure beside the leaderboard: accuracy over cost."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy over the cost of one image, a dot a row, its area by parameters, a panel a data set.

    Nets that were not trained here have their parameters for height.
    """
    trained = [row for row in rows if row["seconds"] is not None and row["accuracy"] is not None]
    rows = trained or rows
    sets = sorted({row["data"] for row in rows})
    figure = Figure(figsize=(1 + 6 * len(sets), 5), layout="constrained")
    for axes, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        names: list[tuple[float, float, str]] = []
        for row in (row for row in rows if row["data"] == data):
            x, y = row["macs"] / 1e6, 100 * row["accuracy"] if trained else row["parameters"] / 1e6
            if row["accuracy_sd"]:
                axes.errorbar(x, y, yerr=100 * row["accuracy_sd"], fmt="none", ecolor="gray", capsize=3)
            axes.scatter(x, y, s=20 + row["parameters"] / 2e4, alpha=0.6)
            known = "" if trained or row["accuracy"] is None else f"{100 * row['accuracy']:.2f} %"
            names.append((x, y, " ".join(filter(None, (row["model"], row["changes"], known)))))
        axes.set(xscale="log", xlabel="million multiply-adds an image", title=data)
        axes.set(ylabel="accuracy (%)") if trained else axes.set(yscale="log", ylabel="million parameters")
        axes.margins(x=0.2, y=0.15)  # room for the names
        axes.grid(alpha=0.3)
        label(axes, names)
    figure.savefig(path, dpi=120)


def label(axes: Any, names: list[tuple[float, float, str]], near: int = 12) -> None:
    """Writes each name beside its dot (x, y, name); dots within `near` pixels of each other share a list."""
    axes.figure.draw_without_rendering()  # which settles where a dot lies
    lists: list[tuple[Any, list[str]]] = []
    for x, y, name in names:
        place = axes.transData.transform((x, y))
        shared = next((those for other, those in lists if abs(place - other).max() < near), None)
        if shared is None:
            lists.append((place, [name]))
        else:
            shared.append(name)
    for place, those in lists:
        where = axes.transData.inverted().transform(place)
        offset, align = ((6, 6), "bottom") if len(those) == 1 else ((10, 0), "center")
        text = axes.annotate("\n".join(those), where, offset, textcoords="offset points", va=align, fontsize=8)
        text.set_in_layout(False)  # a long one would squeeze the panel to nothing
