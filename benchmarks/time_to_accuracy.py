"""What it takes to reach an accuracy: `python run.py` with our recipes against the usual examples' own recipes.

    OMP_NUM_THREADS=1 python -m benchmarks.time_to_accuracy                       # MNIST: 98, 99 and 99.4 %
    OMP_NUM_THREADS=1 python -m benchmarks.time_to_accuracy --data fashion_mnist  # 90, 92 and 92.5 %
    OMP_NUM_THREADS=1 python -m benchmarks.time_to_accuracy --only model=vgg "model=vgg trainer.precision=bf16-mixed"

Accuracy is on the 5,000 validation images, after each epoch; the test images are read once, at the end. Training is the
processor time until then without validation; for commands that a person types, the second figure is the processor time
since the process began, imports and validation included. Each contender and seed is a process of its own, and they take
turns. The median over the seeds counts, and an accuracy that was not reached counts as infinitely late.

Contenders: our default and two fast recipes for each data set, as commands; the recipe of lenet_fast in a loop without
any framework; the recipe of PyTorch's MNIST example; the template of Lightning and Hydra with its dense net. The last
two read image by image, as the originals do, and are written anew from their published settings. All train on the same
55,000 images.
"""

import argparse
import math
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.table import Table

import run
from benchmarks.measure import ROOT, Cost, machine, run_process
from benchmarks.rivals import DATA, RIVALS, TEMPLATE
from classic_cnn.classifier import ImageClassifier
from tasks.config import locate
from tasks.messages import report
from tasks.prepare import prepare, task_name

TARGETS = {"mnist": (0.98, 0.99, 0.994), "fashion_mnist": (0.90, 0.92, 0.925)}
COMMANDS = {
    "mnist": ("model=lenet", "experiment=lenet_fast", "experiment=vgg_fast"),
    "fashion_mnist": (
        *("model=lenet", "experiment=vgg_fast data/augment=flip"),
        "experiment=ten_minutes/vgg data/augment=flip",
    ),
}
STAGES = ("train", "val", "test")
CLOCK = "callbacks.clock._target_=benchmarks.clock.AccuracyClock"
Contender = Callable[[int], Cost]  # the cost of a run with a seed


def arguments_of(recipe: str, data: str, limits: Mapping[str, int], seed: int) -> list[str]:
    """The arguments of run.py with a recipe of it."""
    root = Path(DATA[data]().root).absolute()
    arguments = [*shlex.split(recipe), f"data={data}", f"data.root={root}", f"seed={seed}", "trainer.accelerator=cpu"]
    if limits["batches"]:
        arguments += [f"trainer.limit_{stage}_batches={limits['batches']}" for stage in STAGES]
    if limits["epochs"]:
        arguments.append(f"trainer.max_epochs={limits['epochs']}")
    return [*arguments, CLOCK]


def ours(recipe: str, data: str, limits: Mapping[str, int], seed: int) -> Cost:
    """`python run.py RECIPE`, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return run_process(
            [sys.executable, str(ROOT / "run.py"), *arguments_of(recipe, data, limits, seed)], Path(folder)
        )


def check(recipe: str, data: str, limits: Mapping[str, int], seed: int) -> None:
    """
    Raises:
        SystemExit: `python run.py RECIPE` would be refused, or does not train, validate and test a classifier; says so.
    """
    try:
        cfg = prepare(run.compose(*arguments_of(recipe, data, limits, seed)))
        if task_name(cfg) != "train" or any(cfg.trainer[f"limit_{stage}_batches"] == 0 for stage in STAGES):
            raise ValueError("does not train, validate and test")
        if not issubclass(locate("model", cfg.model._target_)[0], ImageClassifier):
            raise ValueError("trains no classifier")
    except Exception as error:
        print(f"{recipe}: ", end="", file=sys.stderr)
        sys.exit(report(error, show_traceback=False))


def rival(name: str, data: str, limits: Mapping[str, int], seed: int) -> Cost:
    options = [f"--{key}={value}" for key, value in limits.items()]
    return run_process([sys.executable, "-m", "benchmarks.rivals", name, data, str(seed), *options])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=TARGETS, default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=0, help="at most; 0 = as each recipe has it (default)")
    parser.add_argument("--batches", type=int, default=0, help="at most, of an epoch; 0 = all (default)")
    names = "; ".join(dict.fromkeys([*chain(*COMMANDS.values()), *RIVALS]))
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help=f"of {names}; or run.py's options")
    parsed = parser.parse_args(arguments)
    limits = {"epochs": parsed.epochs, "batches": parsed.batches}
    if min([*parsed.seeds, *limits.values()]) < 0:
        parser.error("--seeds, --epochs and --batches are not below 0")
    commands = [text for text in parsed.only or COMMANDS[parsed.data] if "=" in text]
    contenders: dict[str, Contender] = {
        **{recipe: partial(ours, recipe, parsed.data, limits) for recipe in commands},
        **{name: partial(rival, name, parsed.data, limits) for name in RIVALS},
    }
    if unknown := {*(parsed.only or ())} - {*contenders}:
        known = "; ".join([*COMMANDS[parsed.data], *RIVALS])
        parser.error(f"--only: {min(unknown)} is none of {known}, and no options of run.py, such as model=lenet")
    for recipe in commands:
        check(recipe, parsed.data, limits, parsed.seeds[0])
    costs: dict[str, list[Cost]] = {name: [] for name in parsed.only or contenders}
    for seed in parsed.seeds:
        for name, rounds in costs.items():
            try:
                rounds.append(contenders[name](seed))
            except RuntimeError as error:
                parser.exit(1, f"seed {seed}: {name}: {str(error).splitlines()[-1]}\n")
            best = max(accuracy for _, _, accuracy in rounds[-1].result["curve"])
            print(f"seed {seed}: {name}: {best:.4f}, {rounds[-1].cpu:.1f} s of processor time", flush=True)
    show(costs, TARGETS[parsed.data])


def seconds_to(costs: Sequence[Cost], target: float) -> tuple[float, float]:
    """Medians of the processor time of training and since the start until validation accuracy first reaches a target.

    >>> cost = Cost(9.0, 9.0, 0, {"curve": [(1.0, 4.0, 0.97), (2.0, 5.0, 0.99)]})
    >>> seconds_to([cost], 0.98), seconds_to([cost], 0.995)
    ((2.0, 5.0), (inf, inf))
    """
    reached = [
        next(((training, whole) for training, whole, accuracy in cost.result["curve"] if accuracy >= target), None)
        for cost in costs
    ]
    training, whole = zip(*(times or (math.inf, math.inf) for times in reached), strict=True)
    return statistics.median(training), statistics.median(whole)


def show(costs: Mapping[str, Sequence[Cost]], targets: Sequence[float]) -> None:
    """Prints a line per contender and what they were measured on."""
    headers = [f"to {100 * target:g} %, s" for target in targets]
    table = Table("contender", *headers, "epochs", "all training, s", "validation, %", "test, %")
    for name, rounds in costs.items():
        is_command = name not in {*RIVALS} - {TEMPLATE}
        times = [seconds_to(rounds, target) for target in targets]
        curves = [cost.result["curve"] for cost in rounds]
        table.add_row(
            name,
            *("-" if math.isinf(first) else f"{first:.1f}" + f" ({whole:.1f})" * is_command for first, whole in times),
            str(len(curves[0])),
            f"{statistics.median(curve[-1][0] for curve in curves):.1f}",
            " ".join(f"{100 * curve[-1][2]:.2f}" for curve in curves),
            " ".join(f"{100 * cost.result['test']:.2f}" for cost in rounds),
        )
    Console(width=160).print(table)
    print("Seconds of processor time: training (and since the start of the command), medians; accuracies of each seed.")
    print(machine())


if __name__ == "__main__":
    main()
