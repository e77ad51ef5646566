"""docs/league.md: what the published runs of the same budget reached, in tables made from their records."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tasks.leaderboard import fid, metric, modes, nearest_neighbour, short_count
from tasks.leaderboard_rows import summarize, values
from tasks.machine import machines
from tasks.messages import command
from tasks.published_runs import Group
from tasks.tables import Column, Row, Table, deviation, escape_markdown, format_number, mean
from tasks.tries import Tries, tries_table

LEAGUE, BF16, OTHERS = BUDGETS = ("ten_minutes/", "ten_minutes_bf16/", "")  # what experiments of one begin with
FID_CURVE, MODES_CURVE = "val/fid", "val/modes"
GENERATED = "generated"  # the data set whose training images a GAN has made
SETS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "ring": "a ring of Gaussians",
    "stacked_mnist": "Stacked MNIST",
    GENERATED: "images of a GAN",
}
TEST_IMAGES = 10_000
USUAL = "AVX2"  # what the processor of most rows can do; seconds of others are marked
SCORES = {  # of generated images, beside the main ones: how they are written
    **{"inception_score": ("Inception Score", ".2f"), "mode_score": ("Mode Score", ".2f"), "mmd": ("MMD", ".3f")},
    **{"precision": ("precision", ".3f"), "recall": ("recall", ".3f")},
}
SHARES = ("accuracy_flip", "gan_test_accuracy", "gan_train_accuracy", "high_quality")


def make_rows(groups: Iterable[Group]) -> list[Row]:
    """A row for each command, which is composed again for it."""
    return [make_row(group) for group in groups]


def make_row(group: Group) -> dict[str, Any]:
    """Means and deviations over a group's seeds, and what makes them comparable."""
    runs = group.runs
    first = runs[0]
    device = str(first.get("device") or "cpu")
    row = summarize((str(first["model"]), group.data, "", "", device), runs)
    accuracy, augment = row["accuracy"], first["config"]["data"].get("augment")
    seeds = [f"{run['seed']:.0f}" for run in runs]
    for name in (*SCORES, *SHARES):
        numbers = values(runs, f"test/{name}", f"val/{name}")
        row |= {name: mean(numbers), f"{name}_sd": deviation(numbers)}
    return row | {
        "experiment": group.experiment,
        "net": describe_net(group),
        "gpu": None if "cpu" in device else device,
        "capability": first["machine"]["capability"],
        "augment": ", ".join(name for name, made in (augment or {}).items() if made is not None) or "none",
        "sampling": None if accuracy is None else math.sqrt(accuracy * (1 - accuracy) / TEST_IMAGES),
        "command": command(*group.overrides, f"seed={','.join(seeds)}", multirun=len(seeds) > 1),
        "stale": group.is_stale,
    }


def describe_net(group: Group) -> str:
    """The model, and its arguments in the recipe that readers compare nets by."""
    config = group.runs[0]["config"]
    model = config["model"]
    shown = {key: model[key] for key in ("depth", "units", "width", "middle") if model.get(key) is not None}
    if (network := model.get("network")) and network.get("width") not in (None, 1):
        shown["width"] = network["width"]
    form = " as published" if str(model.get("_target_", "")).endswith(".published") else ""
    name = model.get("cell") or str(group.runs[0]["model"]).removeprefix("published/")
    return f"{name}{form}" + (f" ({', '.join(f'{key} {value}' for key, value in shown.items())})" if shown else "")


def has_curve(group: Group, curve: str) -> bool:
    return all(curve in run["curves"] for run in group.runs)


def percent(key: str) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else f"{100 * row[key]:.2f}"


def number(key: str, digits: str) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else format_number(row[key], digits)


def seconds(row: Row) -> str:
    """Seconds of the processor, or by the clock where these were not measured or a GPU has worked."""
    if row["gpu"] and row["seconds"] is not None:
        return f"{row['seconds']:,.0f} s of {row['gpu']}"
    value = row["cpu_seconds"] if row["cpu_seconds"] is not None else row["seconds"]
    mark = "" if row["capability"] == USUAL else f" on {row['capability']}"
    return "" if value is None else f"{value:,.0f}{mark}"


NET = (
    Column("net", text=lambda row: row["net"] + (", by an earlier recipe" if row["stale"] else "")),
    Column("parameters", text=lambda row: short_count(row["parameters"]), right=True),
)
COST = (
    Column("epochs", right=True),
    Column("seconds", "core seconds", seconds, right=True),
    Column("seeds", right=True),
)
ACCURACY = (
    *NET,
    Column("macs", "MACs", lambda row: short_count(row["macs"]), right=True),
    Column("accuracy", "test accuracy (%)", metric("accuracy", ".2f", 0.01), right=True),
    Column("accuracy_flip", "with mirror images (%)", metric("accuracy_flip", ".2f", 0.01), right=True),
    Column("sampling", "sampling error", percent("sampling"), right=True),
    Column("augment", "augmentation"),
    *COST,
)
FID = (
    *NET,
    Column("fid", "FID / floor", fid, right=True),
    Column("fid_relative", "relative FID", metric("fid_relative", ".2g"), right=True),
    *(Column(name, title, number(name, digits), right=True) for name, (title, digits) in SCORES.items()),
    Column("nearest_neighbour_accuracy", "1-NN (real, generated)", nearest_neighbour),
    Column("gan_test_accuracy", "GAN-test (%)", metric("gan_test_accuracy", ".1f", 0.01), right=True),
    Column("gan_train_accuracy", "GAN-train (%)", metric("gan_train_accuracy", ".1f", 0.01), right=True),
    *COST,
)
MODES = (
    Column("experiment"),
    *NET,
    Column("modes", text=modes, right=True),
    Column("modes_kl", "KL", metric("modes_kl", ".2f"), right=True),
    Column("high_quality", "high quality (%)", metric("high_quality", ".1f", 0.01), right=True),
    *COST,
)
COLUMNS = {"accuracy": ACCURACY, "fid": FID, "conditional": FID, "modes": MODES}  # by the kind of table


def tables(rows: Iterable[Row]) -> dict[tuple[str, str, str], Table]:
    """The tables of the page by budget, kind and data set: one of BUDGETS, one of COLUMNS."""
    kinds: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((budget_of(row), kind_of(row), row["data"]), []).append(row)
    made = {}
    for key in sorted(kinds, key=lambda key: (BUDGETS.index(key[0]), [*COLUMNS].index(key[1]), key[2] != "mnist")):
        ranked = sorted(kinds[key], key=lambda row: (-(row["accuracy"] or row["modes"] or 0.0), row["fid"] or 0.0))
        made[key] = Table(COLUMNS[key[1]], ranked).without_empty_columns()
    return made


def budget_of(row: Row) -> str:
    """The first of BUDGETS that a row's experiment begins with."""
    return next(name for name in BUDGETS if row["experiment"].startswith(name))


def kind_of(row: Row) -> str:
    """The table that a row belongs to, one of COLUMNS."""
    if row["fid"] is not None:
        return "fid" if row["gan_test_accuracy"] is None else "conditional"
    return "accuracy" if row["modes"] is None else "modes"


def print_tables(rows: Iterable[Row]) -> None:
    made = tables(rows)
    for (_, _, data), table in made.items():
        print(SETS.get(data, data))
        table.print()
    if not made:
        print("No run has been published yet: task.add=[outputs/sweeps/DATE]")


def page(groups: Sequence[Group], rows: Sequence[Row], tries: Sequence[Tries] = ()) -> str:
    """The page in Markdown."""
    runs = [run for group in groups for run in group.runs]
    parts = [HEAD.format(count=count(rows), machines=escape_markdown("; ".join(machines(runs))))]
    made = tables(rows)
    for key, table in made.items():
        title = TITLES.get(key[:2], "Other recipes of GANs")
        commands = folded(row["command"] for row in table.rows)
        text = EXPLANATIONS.get(key[2]) or EXPLANATIONS.get(key[1]) or EXPLANATIONS.get(key[0])
        heading = f"## {title}, {SETS.get(key[2], key[2])}"
        parts += [heading, *([text] if text else []), table.to_markdown(), commands]
    plots = ["accuracy"] * any(key[1] == "accuracy" for key in made)
    plots += [curve for curve in (FID_CURVE, MODES_CURVE) if any(has_curve(group, curve) for group in groups)]
    if plots:
        parts += ["## Over the seconds of training", *map(PLOTS.__getitem__, plots)]
    if tries:
        table = tries_table(tries, SETS)
        commands = folded(line for row in table.rows for line in row["commands"])
        parts.append(f"{TRIED}\n\n{table.to_markdown()}\n\n{commands}")
    return "\n\n".join(parts) + "\n"


def folded(commands: Iterable[str]) -> str:
    """Commands that a reader opens who wants to repeat the rows of a table."""
    lines = "\n".join(commands)
    return f"<details><summary>The commands of these rows</summary>\n\n```bash\n{lines}\n```\n\n</details>"


def count(rows: Sequence[Row]) -> str:
    recipes = len({row["experiment"] for row in rows if row["experiment"].startswith(LEAGUE)})
    return f"{recipes} {'recipe has' if recipes == 1 else 'recipes have'} been run"


TITLES = {
    (LEAGUE, "accuracy"): "Classifiers",
    (LEAGUE, "fid"): "GANs",
    (LEAGUE, "conditional"): "Class-conditional GANs",
    (BF16, "accuracy"): "Classifiers in bfloat16",
    (OTHERS, "accuracy"): "Other recipes",
    (OTHERS, "modes"): "Modes that GANs find",
}
EXPLANATIONS = {
    BF16: """Ten minutes of a faster processor that has instructions for bfloat16 (AVX512), so that more epochs fit in:
not to be compared with the rows above at equal time. [speed.md](speed.md) says what bfloat16 saves.""",
    "fid": """FID is of 10,000 generated images against the 10,000 test images, by the project's own scoring net; lower
is better. After the slash is the floor, the FID of as many training images that this net has not seen; a relative FID
is a share of the variance of the real features. 1-NN is the leave-one-out test, best at 0.5; in brackets are the shares
of the real and of the generated images that it classifies correctly. [gans.md](gans.md) explains the scores.""",
    "conditional": """These GANs are class-conditional. GAN-test is the share of generated images that the scoring net
assigns to the class that they were asked for; GAN-train is the accuracy on test images of a LeNet-5 that was trained
on 10,000 generated images alone.""",
    "ring": """How many of 8 Gaussians a generator finds: those within three standard deviations of which at least 20 of
2,500 samples lie. The share of all samples that lie so near to one is the high quality, KL the divergence of their
frequencies from equal ones. The generator has had 2,000 steps (WGAN's, whose critic takes 100 to one at first, 1,487),
at ten times the discriminator's rate in `ring` and a tenth of it in `ring_mad_gan`. CGAN and EBGAN have no form for
points.""",
    "stacked_mnist": """How many of the 1,000 triples of digits the scoring net sees in 26,000 samples, and KL, the
divergence of their frequencies from equal ones. Generated images weigh 4 in MAD-GAN's loss of the discriminator in
`stacked_mad_gan`, as in its paper, and 1 in `stacked_mnist`.""",
    GENERATED: """Trained on 60,000 digits that the net in published/cgan_mnist has made, by the commands in
conf/experiment/lenet_generated.yaml. The epoch is chosen on MNIST's validation images, and the test images are
MNIST's.""",
}
PLOTS = {
    "accuracy": """![Test error of each net over the seconds of its training](league_accuracy.png)

Nets in bfloat16 were trained on a faster processor.""",
    FID_CURVE: """![FID of each GAN over the seconds of its training, a line per seed](league_fid.png)

FID is of 2,000 images against as many validation images here, dashed for a class-conditional GAN. Real MNIST images
have a FID of 3.4 there, because MNIST is ordered by writer and validation has the last ones: a GAN that has learned
from all writers can be below that. On the test images, in the tables, none is below the floor. A GAN whose row says
"on AVX512" was trained on the faster processor.""",
    MODES_CURVE: """![Modes of each GAN over the seconds of its training, mean and range of its seeds](league_modes.png)

Of Stacked MNIST the curves count the triples among 2,600 samples, the tables among 26,000. Each panel has its own
scale.""",
}
TRIED = """## What was tried

Before the runs above, if a recipe's first lines do not say otherwise, on validation images only: no run of this table
was tested. A recipe has the best of them, or says in its first lines why not; where a data set has none, it has what
was best on the other.

The nets were not tuned equally, so that small differences in the tables above say little of the nets. Augmentations
were compared for VGG, LSTM and GRU, and the others have theirs; width, depth or size was varied for VGG, ResNet, NiN,
MobileNet, the Clockwork RNN and the ESN; a rate is the best of two to four, some at the end of their list, and LeNet-5
as published has the default's. Of the GANs' rates 0.01 was tried for five, an average of a classifier's weights for
VGG and ResNet. Several steps of the generator to one of the discriminator were tried for minibatch discrimination,
whose authors take three, EBGAN and DRAGAN, fewer steps of the critic for WGAN and WGAN-GP, and a rate of the
discriminator's own for these two, DRAGAN, minibatch discrimination and the plain GAN, Adam's first beta at 0 for
WGAN-GP and DRAGAN; of the CGAN, the unrolled GAN and MAD-GAN nothing of the kind. That a rate is best over a few
hundred steps says little of thousands: WGAN-GP's with one step of its critic, 0.001, is not that of the short tries.
Not tried: flips that alternate from epoch to epoch, and GoogLeNet's 1x1 convolutions of one input as one. LeNet-5 as
published has no row for Fashion-MNIST: its outputs are compared with drawings of the ten digits."""
HEAD = """# The ten-minute league

What each net reaches in at most ten minutes of one processor core, its validation and tests not counted. This page is
made from the records in published/runs by `python run.py task=records task.add=[]`; a folder of finished runs in the
list adds them. Each record has the composed config, the processor, the commit and the curves of its run, and
`python run.py task=leaderboard task.runs=published/runs` tabulates them differently.

So far {count}. All but those that learn from images of a GAN are trained on the same 55,000 images of
the official training set, and the epoch of each run is chosen on the other 5,000; the first lines of a recipe,
conf/experiment/ten_minutes/NAME.yaml, say how it was chosen. The official 10,000 test images were
read once, at the end of each run. Mean +- standard deviation over seeds.
"With mirror images" is the accuracy of the probabilities averaged over an image and its mirror image, of rows whose
command has `callbacks=test_time_augmentation`; it takes twice the time of a test and none of training.
"By an earlier recipe" marks rows whose file in conf/ has changed since: the command runs the present one, and
config.json of the record has the earlier one. The tables "Other recipes" and "Modes" are outside the limit of ten
minutes.
The sampling error is the standard error of a share of 10,000 images: nets that differ by less than about three times as
much cannot be ranked by them. Core seconds are the processor's time in training, whatever ran beside; for a run on a
GPU they are the clock's. Where they say "on AVX512" the processor was a faster one, which needs about two thirds of the
others' time for the same steps. Computed on {machines}."""
