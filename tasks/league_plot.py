"""The plots of docs/league.md: what each net reached over the seconds of its training."""

from collections.abc import Iterable, Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure

from tasks.league import LEAGUE, SETS, has_fid_curve
from tasks.plots import label_points
from tasks.published_runs import Group, is_on_gpu
from tasks.tables import Row

MARKERS = "osv^Dx*P+<"


def draw_plots(groups: Sequence[Group], rows: Sequence[Row]) -> dict[str, Figure]:
    """The plots of the page, by their files' names."""
    figures = {}
    # seconds of a GPU are no core seconds
    if classifiers := [row for row in rows if row["accuracy"] is not None and not row["gpu"]]:
        figures["league_accuracy.png"] = draw_accuracy(classifiers)
    if curves := [group for group in groups if has_fid_curve(group) and not is_on_gpu(group.runs[0])]:
        figures["league_fid.png"] = draw_fid(curves)
    return figures


def in_order(sets: Iterable[str]) -> list[str]:
    """The different data sets, the official ones first."""
    return sorted({*sets}, key=lambda data: ([*SETS].index(data) if data in SETS else len(SETS), data))


def short_name(row: Row) -> str:
    """The net of a row without its arguments, or the experiment that is not of the league."""
    experiment = str(row["experiment"])
    return str(row["net"].split(" (")[0]) if experiment.startswith(LEAGUE) else experiment


def draw_accuracy(rows: Sequence[Row]) -> Figure:
    """Test error of each net with its deviation over the seconds of training, a panel per data set."""
    sets = in_order(row["data"] for row in rows)
    names = dict.fromkeys(map(short_name, rows))
    colors = {name: colormaps["tab20"](number % 20) for number, name in enumerate(names)}
    figure = Figure(figsize=(6.5 * len(sets), 5), layout="constrained")
    for axes, data in zip(figure.subplots(1, len(sets), squeeze=False).flat, sets, strict=True):
        for row in (row for row in rows if row["data"] == data):
            spread = 100 * (row["accuracy_sd"] or 0.0)
            axes.errorbar(*cost_and_error(row), spread, marker="o", capsize=3, color=colors[short_name(row)])
        axes.set(yscale="log", xlabel="core seconds of training", ylabel="test error (%)")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:.3g}")
        axes.set_title(SETS.get(data, data))
        axes.margins(x=0.2, y=0.2)
        axes.set_xlim(0, 1.25 * axes.get_xlim()[1])
        axes.grid(alpha=0.3, which="both")
    figure.draw_without_rendering()
    for axes, data in zip(figure.axes, sets, strict=True):
        shown = [row for row in rows if row["data"] == data]
        spreads = [100 * (row["accuracy_sd"] or 0.0) for row in shown]
        label_points(axes, [*map(cost_and_error, shown)], [*map(short_name, shown)], spreads)
    return figure


def cost_and_error(row: Row) -> tuple[float, float]:
    """Core seconds of training and test error in percent, where a row lies in the plot."""
    return row["cpu_seconds"] or row["seconds"], 100 * (1 - row["accuracy"])


def draw_fid(groups: Sequence[Group]) -> Figure:
    """FID on validation images over the seconds of training: a line per GAN and seed, a panel per data set."""
    sets = in_order(group.data for group in groups)
    names = dict.fromkeys(str(group.runs[0]["model"]) for group in sorted(groups, key=last_fid, reverse=True))
    looks = {  # not told apart by colour alone
        name: {"color": f"C{number % 10}", "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
        for number, name in enumerate(names)
    }
    figure = Figure(figsize=(6.5 * len(sets) + 1.5, 5), layout="constrained")
    lines = {}
    for axes, data in zip(figure.subplots(1, len(sets), squeeze=False).flat, sets, strict=True):
        for group in (group for group in groups if group.data == data):
            name = str(group.runs[0]["model"])
            for run in group.runs:
                curve, total = run["curves"]["val/fid"], run.get("cpu_seconds") or run["seconds"]
                times = [total * step / curve[-1][0] for step, _ in curve]
                [lines[name]] = axes.plot(times, [value for _, value in curve], **looks[name], linewidth=1)
        axes.set(yscale="log", xlabel="core seconds of training", ylabel="FID, validation images")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(SETS.get(data, data))
        axes.grid(alpha=0.3, which="both")
        axes.set_xlim(left=0)
    figure.legend([lines[name] for name in names], [*names], loc="outside right upper", fontsize=8, frameon=False)
    return figure


def last_fid(group: Group) -> float:
    return max(run["curves"]["val/fid"][-1][1] for run in group.runs)
