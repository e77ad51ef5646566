"""The plot and the table of `tasks.claims.score_panel`: what each score sees and what it misses."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasks.claims.record import arms_of
from tasks.claims.score_changes import COPIED, COUNT, GAP, change
from tasks.claims.verdict import half_width
from tasks.tables import Column, Table

BOUND = 3.0  # floor deviations within which a change could be chance
SEES, BETTER, BLIND, UNCLEAR = "sees", "better", "no", "unclear"
WORDS = {SEES: "sees", BETTER: "takes it for better"}
COLORS = {"mnist": "tab:blue", "fashion_mnist": "tab:orange"}
LABELS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
SCORES = {
    "inception_score": "Inception Score",
    "mode_score": "Mode Score",
    "fid": "FID",
    "fid_relative": "relative FID",
    "kid": "KID",
    "mmd": "kernel MMD",
    "mmd_squared_unbiased": "MMD, unbiased",
    "wasserstein": "Wasserstein",
    "nearest_neighbour_accuracy": "1-NN",
    "nearest_neighbour_accuracy_real": "1-NN, real half",
    "nearest_neighbour_accuracy_fake": "1-NN, fake half",
    "precision": "precision",
    "recall": "recall",
    "pixel_mmd": "MMD in pixels",
    "pixel_nearest_neighbour_accuracy": "1-NN in pixels",
    "parzen_log_likelihood": "Parzen likelihood",
}
DRAWN = [score for score in SCORES if score not in ("fid_relative", "mmd_squared_unbiased")]
COLUMNS = {
    "dropped": ("classes dropped", "of 10"),
    "collapsed": ("classes collapsed", "of 10"),
    "noise": ("noise mixed in", "share"),
    "foreign": ("other set mixed in", "share"),
    "shifted": ("shifted", "pixels"),
    "blurred": ("blurred", "3x3 means"),
    "copies": ("copies", "share"),
    COPIED: ("copies, against the copied", "share"),
    GAP: ("copies, gap of both", "share"),
    COUNT: ("fewer images", "images"),
}


def strengths_of(claim: Mapping[str, Any], alteration: str) -> list[float]:
    """The strengths of an alteration, the weakest first: without 0, or without the most images.

    >>> curves = {"fid/shifted": [(0, 2.0), (1, 2.5), (2, 3.0)], "fid/count": [(100, 9.0), (300, 5.0), (1000, 3.0)]}
    >>> strengths_of({"runs": [{"curves": curves}]}, "shifted"), strengths_of({"runs": [{"curves": curves}]}, "count")
    ([1, 2], [300, 100])
    """
    found = sorted(x for x, _ in claim["runs"][0]["curves"][f"fid/{alteration}"])
    return found[-2::-1] if alteration == COUNT else found[1:]


def outcome(changes: Sequence[float]) -> str:
    """What changes of a score for the worse, in floor deviations over seeds, say: where their 95 % interval lies.

    >>> outcome([9.0, 10.0, 11.0]), outcome([-9.0, -10.0, -11.0]), outcome([0.1, 0.0, -0.1]), outcome([0.0, 9.0])
    ('sees', 'better', 'no', 'unclear')
    """
    middle, half = statistics.fmean(changes), half_width(changes)
    if half is None:
        return UNCLEAR
    if middle - half > BOUND:
        return SEES
    if middle + half < -BOUND:
        return BETTER
    return BLIND if max(middle + half, half - middle) < BOUND else UNCLEAR


def changes_of(claim: Mapping[str, Any], arm: str, score: str, alteration: str, strength: float) -> list[float]:
    """The change of a score by an alteration, for each seed; empty where it was not computed."""
    name = f"{score}/{alteration}"
    return [
        change(run["curves"], score, alteration, strength)
        for run in claim["runs"]
        if run["arm"] == arm and strength in [x for x, _ in run["curves"].get(name, [])]
    ]


def verdict_cell(outcomes: Mapping[float, str]) -> str:
    """From which strength on a score sees an alteration, given the outcome at each, the weakest first.

    >>> verdict_cell({1: "no", 2: "sees", 4: "sees"}), verdict_cell({1: "no", 2: "better"})
    ('sees, from 2', 'takes it for better, from 2')
    >>> verdict_cell({1: "no", 2: "no"}), verdict_cell({1: "sees", 2: "no"}), verdict_cell({})
    ('no', 'no (sees at 1)', '')
    """
    if not outcomes:
        return ""
    strengths = list(outcomes)
    last = outcomes[strengths[-1]]
    if last in WORDS:
        first = len(strengths)
        while first and outcomes[strengths[first - 1]] == last:
            first -= 1
        return f"{WORDS[last]}, from {strengths[first]:g}"
    others = [f"{WORDS[found]} at {strength:g}" for strength, found in outcomes.items() if found in WORDS]
    return f"{last} ({', '.join(others)})" if others else last


def sees_table(claim: Mapping[str, Any], arm: str) -> Table:
    """A row per score: from which strength of each alteration on it sees it."""

    def cell(alteration: str) -> Any:
        def text(row: Mapping[str, Any]) -> str:
            found = {
                strength: changes_of(claim, arm, row["score"], alteration, strength)
                for strength in strengths_of(claim, alteration)
            }
            return verdict_cell({strength: outcome(changes) for strength, changes in found.items() if changes})

        return text

    titles = {name: f"{title} ({unit})" for name, (title, unit) in COLUMNS.items()}
    columns = [Column(name, title, cell(name)) for name, title in titles.items()]
    first = Column("score", text=lambda row: SCORES[row["score"]])
    return Table([first, *columns], [{"score": score} for score in SCORES])


def tables(claim: Mapping[str, Any]) -> str:
    """The table of each arm, with the rule that it follows, in Markdown."""
    rule = (
        f"A score sees an alteration if it gets worse by more than {BOUND:g} floor deviations: the whole 95 % interval "
        "over the seeds lies beyond. A floor deviation is the standard deviation of the score of unaltered images over "
        'which images are drawn. "Takes it for better" is the same in the other direction, "no" an interval within '
        f'{BOUND:g} on both sides; "unclear" are others. The cell names the least strength from which on that is so. '
        "Copies are scored against held-out images, against the images that were copied, and by the gap of both."
    )
    parts = [f"{LABELS.get(arm, arm)}:\n\n{sees_table(claim, arm).to_markdown()}" for arm in arms_of(claim)]
    return "\n\n".join([rule, *parts])


def draw(claim: Mapping[str, Any]) -> Figure:
    """A row per score and a column per alteration: the change in floor deviations, for the worse upwards."""
    arms = arms_of(claim)
    columns = [name for name in COLUMNS if name not in (COPIED, GAP)]
    figure = Figure(figsize=(13.5, 14.5), layout="constrained")
    grid = figure.subplots(len(DRAWN), len(columns), sharex="col", sharey=True, squeeze=False)
    for score, row in zip(DRAWN, grid, strict=True):
        row[0].set_ylabel(SCORES[score].replace(" ", "\n", 1), fontsize=9)
        for alteration, axes in zip(columns, row, strict=True):
            for arm in arms:
                draw_change(axes, claim, arm, score, alteration, "-")
                if alteration == "copies":
                    draw_change(axes, claim, arm, score, COPIED, "--")
            axes.axhspan(-BOUND, BOUND, color="0.85", zorder=0)
    for alteration, top, bottom in zip(columns, grid[0], grid[-1], strict=True):
        title, unit = COLUMNS[alteration]
        top.set_title(title, fontsize=10)
        bottom.set_xlabel(unit, fontsize=9)
        prepare(bottom, alteration, strengths_of(claim, alteration))
    figure.supylabel("change for the worse, in floor deviations", fontsize=11)
    figure.legend(handles=handles(arms), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def draw_change(axes: Axes, claim: Mapping[str, Any], arm: str, score: str, alteration: str, line: str) -> None:
    """The mean over seeds, with the 95 % interval; full markers where the score sees the alteration, or is misled."""
    found = {
        strength: changes
        for strength in strengths_of(claim, alteration)
        if (changes := changes_of(claim, arm, score, alteration, strength))
    }
    color = COLORS.get(arm, "black")
    middles = [statistics.fmean(changes) for changes in found.values()]
    halves = [half_width(changes) or 0.0 for changes in found.values()]
    axes.errorbar(list(found), middles, halves, color=color, linestyle=line, linewidth=1, elinewidth=0.8)
    for (strength, changes), middle in zip(found.items(), middles, strict=True):
        edge, face = {SEES: (color, color), BETTER: ("red", "red")}.get(outcome(changes), (color, "white"))
        axes.plot([strength], [middle], "o", markersize=4, markeredgecolor=edge, markerfacecolor=face)


def prepare(axes: Axes, alteration: str, strengths: Sequence[float]) -> None:
    """The axes of a column, which its rows share."""
    axes.set_yscale("symlog", linthresh=BOUND, linscale=0.8)
    axes.set_yticks([-100, -BOUND, BOUND, 100], ["-100", "-3", "3", "100"])
    axes.set_ylim(-500, 5000)
    axes.yaxis.minorticks_off()
    axes.tick_params(labelsize=8)
    if alteration not in ("shifted", "blurred"):
        axes.set_xscale("log")
    axes.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    axes.xaxis.minorticks_off()
    if alteration == COUNT:
        axes.invert_xaxis()


def handles(arms: Sequence[str]) -> list[Line2D]:
    """The legend's entries."""
    found = [Line2D([], [], color=COLORS.get(arm, "black"), label=LABELS.get(arm, arm)) for arm in arms]
    marker = {"linestyle": "", "marker": "o", "markersize": 5, "color": "black"}
    return [
        *found,
        Line2D([], [], color="black", linestyle="--", label="copies scored against the images copied"),
        Line2D([], [], **marker, markerfacecolor="black", label="sees it"),  # type: ignore[arg-type]
        Line2D([], [], **marker | {"color": "red"}, label="takes it for better"),  # type: ignore[arg-type]
        Line2D([], [], **marker, markerfacecolor="white", label="does not see it, or unclear"),  # type: ignore[arg-type]
        Line2D([], [], color="0.85", linewidth=8, label="3 floor deviations, what chance may do"),
    ]
