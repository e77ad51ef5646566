"""The end of a claim's sweep: its record (claim.json), its page (claim.md) and its plot (claim.png)."""

import inspect
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_method, instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, ListConfig

from tasks import folders
from tasks.claims.record import CLAIM, arms_of, by_arm, changes_of, cost, make_record, to_json, usable_runs, values_of
from tasks.claims.verdict import bound_of, half_width
from tasks.config import HYDRA_KEYS
from tasks.machine import machines
from tasks.messages import command
from tasks.plots import save_plot
from tasks.results import atomic_writer
from tasks.run_records import Record
from tasks.tables import Column, Table, deviation, escape_markdown, format_mean

WIDEST = 8  # measures in the columns of a table


def write_report(records: Sequence[Record], config: DictConfig, overrides: Sequence[str]) -> None:
    """Writes what came of a claim's runs into the sweep's folder and prints it.

    Args:
        records: of the sweep's jobs.
        config: of the sweep.
        overrides: of the command that began it.
    """
    runs, faults = usable_runs(records)
    print(*faults, sep="\n", end="\n" if faults else "")
    if not runs:
        return
    folder = Path(config.hydra.sweep.dir)
    claim = make_record(runs, config, overrides)
    with atomic_writer(folder / CLAIM) as file:
        file.write(to_json(claim))
    with atomic_writer(folder / "claim.md") as file:
        file.write(page(claim, config.task))
    save_plot(plot(claim, config.task.figure), folder / "claim.png")
    print(f"claim        {claim['sentence']}\npaper        {claim['paper']}")
    for table in (measures_table(claim), expectations_table(claim)):
        table.print(min_width=80)
    print(f"verdict      {claim['verdict']}")
    print(f"written      {folders.short(folder.absolute())}/claim.md, .png and .json")


def measures_of(claim: Mapping[str, Any]) -> list[str]:
    """The names of the measures that are in the table: those of expectations first."""
    names = dict.fromkeys(outcome["measure"] for outcome in claim["expectations"])
    names |= dict.fromkeys(name for run in claim["runs"] for name in run["measures"])
    return [name for name in names if not name.endswith("_reached")]


def measures_table(claim: Mapping[str, Any]) -> Table:
    """The mean of each measure of each arm with its standard deviation over seeds: a row per arm, or per measure."""

    def cell(arm: str, measure: str) -> str:
        values = values_of(claim, arm, measure)
        bound = "" if all(values_of(claim, arm, f"{measure}_reached")) else "at least "
        if not values:
            return ""
        digits = ",.0f" if statistics.fmean(values) >= 1000 else ".4g"
        return bound + format_mean(statistics.fmean(values), deviation(values), digits)

    arms, measures = arms_of(claim), measures_of(claim)
    rows: list[dict[str, Any]] = [{"arm": arm, "seeds": len(by_arm(claim["runs"])[arm])} for arm in arms]
    rows = [row | {measure: cell(row["arm"], measure) for measure in measures} for row in rows]
    if len(measures) <= WIDEST:
        return Table([Column("arm", no_wrap=True), *map(Column, measures), Column("seeds")], rows)
    turned = [{"measure": measure} | {row["arm"]: row[measure] for row in rows} for measure in (*measures, "seeds")]
    return Table([Column("measure", no_wrap=True), *map(Column, arms)], turned)


def expectations_table(claim: Mapping[str, Any]) -> Table:
    """A row per expectation: the effect, its interval and the verdict."""

    def interval(row: Mapping[str, Any]) -> str:
        return "" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"

    def verdict(row: Mapping[str, Any]) -> str:
        needed = f" ({row['seeds_needed']} seeds might decide)" if row["seeds_needed"] else ""
        return row["verdict"] + needed

    columns = [
        Column("expected"),
        Column("effect", text=lambda row: "" if row["effect"] is None else f"{row['effect']:.3g}"),
        Column("interval", "95 % interval", interval),
        Column("verdict", text=verdict),
    ]
    required = [row | {"expected": f"required: {row['expected']}"} for row in claim.get("required", [])]
    return Table(columns, [*claim["outcomes"], *required])


def page(claim: Mapping[str, Any], task: DictConfig, image: str = "claim.png") -> str:
    """The claim's page in Markdown, with the measures, remark and details that the YAML has under `task`."""
    changes = changes_of(claim["overrides"])
    minutes, clock = cost(claim)
    arms = arms_of(claim)
    parts = [
        f"# {claim['sentence']}",
        f"**{claim['verdict']}** · {claim['paper']}",
        *(
            [f"**Changed on the command line: `{' '.join(changes)}`. The texts are those of the claim.**"]
            * bool(changes)
        ),
        f"![{claim['name']}]({image})" + f"\n\n{CAPTION}" * (task.get("figure") is None),
        *([instantiate(task.details)(claim)] if task.get("details") is not None else []),
        f"What the paper reports: {claim['found']}",
        f"What differs here: {claim['differs']}",
        *([task.remark] if task.get("remark") else []),
        measures_table(claim).to_markdown() + f"\n\n{NO_INTERVAL if has_one_seed(claim) else DEVIATION}",
        "What is measured:\n\n" + "\n".join(f"- {text}" for text in explained(task)),
        expectations_table(claim).to_markdown() + f"\n\n{RULE}",
        "The arms:\n\n" + "\n".join(f"- {arm}: `{' '.join(claim['arms'][arm]) or 'as it is'}`" for arm in arms),
        f"```\n{command(*claim['overrides'])}\n```",
        f"{len(claim['runs'])} runs, {minutes:.0f} minute{'s' * (round(minutes) != 1)} {clock} on "
        f"{escape_markdown('; '.join(machines(claim['runs'])))}. {claim['date']}.",
    ]
    return "\n\n".join(parts) + "\n"


CAPTION = (
    "A dot is a seed; beside them is their mean with its 95 % interval (Student's t). A curve is the mean over seeds, "
    "in a band from the lowest to the highest. A dotted line is a bound that an arm was expected to be above or below. "
    "An interval may reach beyond what a measure can be."
)
DEVIATION = "Mean +- standard deviation over seeds."
NO_INTERVAL = "One seed: there is no deviation and no interval."
RULE = (
    "The effect's mean over seeds (of a ratio the geometric one) with its 95 % interval (Student's t), paired by seed. "
    "An expectation holds if the whole interval lies on its side of the bound, and does not hold if all of it lies on "
    "the other; a number of seeds that might decide is named where it is below 100. A measure that a run did not reach "
    "is larger than what it counts as, and decides nothing that its true value might change. The claim holds if every "
    "expectation does, and does not hold here if one of them does not. If what is required of the runs does not hold, "
    "they decide nothing, whatever came of the rest."
)


def has_one_seed(claim: Mapping[str, Any]) -> bool:
    return all(len(seeds) == 1 for seeds in by_arm(claim["runs"]).values())


def explained(task: DictConfig) -> list[str]:
    """The first paragraph of what each measure's function says of itself, and what the claim sets of its arguments."""
    texts = []
    for measure in task.measures:
        text = " ".join((inspect.getdoc(get_method(measure["_target_"])) or "").split("\n\n")[0].split())
        settings = {name: value for name, value in measure.items() if name not in (*HYDRA_KEYS, "effects")}
        values = (
            f"{name}={','.join(value) if isinstance(value, ListConfig) else value}" for name, value in settings.items()
        )
        texts.append(text + f" Here with `{' '.join(values)}`." * bool(settings))
    return texts


def plot(claim: Mapping[str, Any], figure: DictConfig | None) -> Figure:
    """The plot of a claim that has a function for it in its YAML, or the usual one."""
    return instantiate(figure)(claim) if figure is not None else draw(claim)


def draw(claim: Mapping[str, Any]) -> Figure:
    """The drawn curve by arm, with a band over seeds; then a panel for each measure that an expectation is about."""
    measures = list(dict.fromkeys(expectation["measure"] for expectation in claim["expectations"]))[:4]
    panels = ([claim["drawn"]] if claim["drawn"] else []) + measures
    figure = Figure(figsize=(1 + 4.2 * len(panels), 3.8), layout="constrained")
    places = list(figure.subplots(1, len(panels), squeeze=False).flat)
    arms = arms_of(claim)
    if claim["drawn"]:
        draw_curves(places.pop(0), claim, arms)
    for axes, measure in zip(places, measures, strict=True):
        draw_measure(axes, claim, arms, measure)
    return figure


def draw_curves(axes: Any, claim: Mapping[str, Any], arms: Sequence[str]) -> None:
    for number, arm in enumerate(arms):
        curves = [run["curves"].get(claim["drawn"], []) for run in claim["runs"] if run["arm"] == arm]  # if logged
        shared = sorted(set.intersection(*({x for x, _ in curve} for curve in curves)))
        heights = [[dict(map(tuple, curve))[x] for curve in curves] for x in shared]
        color, few = f"C{number}", len(shared) < 12
        style = ("-", "--", "-.", ":")[number % 4] + "o" * few
        axes.plot(shared, [statistics.fmean(values) for values in heights], style, label=arm, color=color, markersize=4)
        axes.fill_between(shared, list(map(min, heights)), list(map(max, heights)), color=color, alpha=0.2, linewidth=0)
    axes.set(xlabel=claim["drawn_over"], ylabel=with_unit(claim["drawn"]))
    axes.grid(alpha=0.3)
    axes.figure.legend(loc="outside lower center", ncols=min(len(arms), 6), frameon=False)


def draw_measure(axes: Any, claim: Mapping[str, Any], arms: Sequence[str], measure: str) -> None:
    """A dot per seed, and the mean with its 95 % interval."""
    for number, arm in enumerate(arms):
        values = values_of(claim, arm, measure)
        if not values:
            continue
        color = f"C{number}"
        axes.scatter([number] * len(values), values, color=color, s=14, alpha=0.5, linewidths=0)
        middle, half = statistics.fmean(values), half_width(values)  # no interval of a single seed
        axes.errorbar(number + 0.15, middle, half, color=color, marker="o", capsize=4)
        for bound in bounds_of(claim, arm, measure):
            axes.hlines(bound, number - 0.4, number + 0.4, color=color, linestyle=":")
    slanted = {"rotation": 30, "ha": "right"} if len(arms) > 3 else {}
    axes.set_xticks(range(len(arms)), arms, **slanted)
    axes.set_xlim(-0.5, len(arms) - 0.3)
    axes.set_ylabel(with_unit(measure))
    if axes.get_ylim()[0] < 0 <= min(value for arm in arms for value in values_of(claim, arm, measure)):
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3, axis="y")


POINTS = ("gap", "excess_drop", "background_drop", "drop_by_share", "one_removed", "gain_of_views", "probe_gain")
NAMES = {
    "estimate_and_fid": "rank correlation of estimate and FID",
    "fid": "FID",
    "million_macs": "million MACs",
    "weights": "share of the weights",
}


def with_unit(measure: str) -> str:
    """What is written at the axis of a measure.

    >>> with_unit("test_error"), with_unit("gap"), with_unit("modes")
    ('test error, %', 'gap, points', 'modes')
    """
    unit = ", %" * ("error" in measure or measure == "dead_filters") or ", points" * (measure in POINTS)
    return NAMES.get(measure, measure.replace("_", " ")) + unit


def bounds_of(claim: Mapping[str, Any], arm: str, measure: str) -> list[float]:
    """The bounds of what is expected of an arm alone, without another."""
    alone = [row for row in claim["expectations"] if not row.get("than")]
    return [bound_of(row)[0] for row in alone if (row["measure"], row["arm"]) == (measure, arm)]
