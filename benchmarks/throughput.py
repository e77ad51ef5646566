"""The price of what a run shows: an epoch of `python run.py` against plain PyTorch loops and the usual template.

    OMP_NUM_THREADS=1 python -m benchmarks.throughput            # about 15 minutes on one CPU core
    OMP_NUM_THREADS=1 python -m benchmarks.throughput --rounds 1
    OMP_NUM_THREADS=1 python -m benchmarks.throughput --model resnet --batches 50 --plain

LeNet-5 in its modern form or another classifier, Adam, batches of 100, MNIST; an epoch is 55,000 training and 5,000
validation images. Each contender is a process of its own, they take turns, and what counts is processor time: on a
machine that does other things as well it tells more than the clock. The fastest plain loop is the reference. "Ours" is
the command as a person types it, with all that is on by default: schedule, progress bar, TensorBoard, metrics,
checkpoints, plots.

The epoch is measured from the second step to the end of the fit: without imports, reading the data and the plot of the
net's graph at the first step. The whole command, from its start to its exit, includes these, and for ours the final
test on 10,000 images and its plots, which the template does not have. The other loops import what they compare
themselves with, so that their whole time says nothing.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import COMMON, PLAIN, TEMPLATE, Setting
from benchmarks.measure import ROOT, Cost, machine, ratio, run_process, take_turns
from datamodules.mnist import MNIST

OURS = "ours, all defaults on"


def contender(name: str, setting: Setting) -> Cost:
    options = [f"--model={setting.model}", f"--batch-size={setting.batch_size}", f"--batches={setting.batches or 0}"]
    return run_process([sys.executable, "-m", "benchmarks.contenders", name, *options])


def ours(data_root: str, setting: Setting, *more: str) -> Cost:
    """`python run.py`, in a folder that is removed afterwards."""
    batches = setting.batches
    limits = (f"trainer.limit_train_batches={batches}", f"trainer.limit_val_batches={batches}") if batches else ()
    arguments = [
        *(f"model={setting.model}", "data=mnist", f"data.root={data_root}", f"data.batch_size={setting.batch_size}"),
        *("trainer.max_epochs=1", "trainer.accelerator=cpu", "callbacks.clock._target_=benchmarks.clock.Clock"),
        *("model/optimizer=adam",),
    ]
    with tempfile.TemporaryDirectory() as folder:
        return run_process([sys.executable, str(ROOT / "run.py"), *arguments, *limits, *more], Path(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default 3)")
    parser.add_argument("--batches", type=int, default=0, help="at most, of an epoch; 0 = all (default)")
    parser.add_argument("--model", default=Setting().model, help="a classifier, model=NAME (default lenet)")
    parser.add_argument("--batch-size", type=int, default=Setting().batch_size, help="images a step (default 100)")
    parser.add_argument("--plain", action="store_true", help="ours and the plain loops alone")
    parsed = parser.parse_args(arguments)
    root = str(Path(MNIST().root).absolute())
    setting = Setting(parsed.model, parsed.batch_size, parsed.batches or None)
    contenders: dict[str, Callable[[], Cost]] = {
        OURS: partial(ours, root, setting),
        **{name: partial(contender, name, setting) for name in (PLAIN if parsed.plain else PLAIN | COMMON)},
    }
    show(take_turns(contenders, parsed.rounds))


def show(costs: Mapping[str, Sequence[Cost]]) -> None:
    """Prints a line per contender and what they were measured on."""
    epochs = {name: [cost.result["epoch"] for cost in rounds] for name, rounds in costs.items()}
    reference = min(PLAIN, key=lambda name: statistics.median(epochs[name]))
    table = Table("contender", "epoch, s", "ratio", "whole command, s", "memory, MB")
    for name, rounds in costs.items():
        table.add_row(
            name,
            f"{statistics.median(epochs[name]):.2f}",
            f"{ratio(epochs[name], epochs[reference]):.2f}",
            f"{statistics.median(cost.cpu for cost in rounds):.1f}" if name in (OURS, TEMPLATE) else "",
            f"{statistics.median(cost.memory for cost in rounds) / 1e6:,.0f}",
        )
    Console(width=120).print(table)
    print(f"Seconds of processor time, medians of {len(rounds)} rounds; ratio to '{reference}', median of the rounds'.")
    print(machine())


if __name__ == "__main__":
    main()
