"""Kills training runs at random moments, resumes them, and compares their ends with runs that nobody stopped.

    python -m benchmarks.kill_campaign                 # 104 kills over 8 recipes, about half an hour on two cores
    python -m benchmarks.kill_campaign --kills 8       # one kill of each recipe

A moment is drawn from the whole life of a process: imports, training, writing checkpoints, the final test, plots. The
signal is SIGKILL, SIGTERM or SIGINT. After each kill every checkpoint has to load; a run that has one is resumed, a run
without is restarted. In the end the weights have to equal, to the bit, those of an uninterrupted run. Half of the
runs lie on another file system than TMPDIR.
"""

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SMALL = ("data=mnist_5k", "data.train_images_per_class=100", "data.batch_size=20", "trainer.accelerator=cpu")
GAN = (
    *SMALL,
    "model.network.width=0.1",
    "callbacks.evaluation.final_count=50",
    "callbacks.evaluation.gan_train_count=0",
)
RECIPES: dict[str, tuple[str, ...]] = {
    "LeNet-5, augmented": ("model=lenet", *SMALL, "trainer.max_epochs=12", "data/augment=crop"),
    "LeNet-5, max_steps": ("model=lenet", *SMALL, "trainer.max_epochs=30", "trainer.max_steps=333"),
    "ResNet-20, moving average": (
        "model=resnet",
        "callbacks=ema",
        "model.width=0.25",
        *SMALL,
        "trainer.max_epochs=4",
    ),
    "LeNet-5, accumulating": ("model=lenet", *SMALL, "trainer.accumulate_grad_batches=3", "trainer.max_epochs=12"),
    "Elman RNN": ("model=recurrent", *SMALL, "trainer.max_epochs=10"),
    "Echo state network": ("model=esn", "model.units=100", *SMALL, "data/augment=crop", "trainer.max_epochs=6"),
    "GAN, moving average": ("model=gan", *GAN, "model.ema_decay=0.9", "trainer.max_epochs=12"),
    "WGAN-GP": ("model=wgan_gp", *GAN, "trainer.max_epochs=3"),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Report(NamedTuple):
    """What became of one recipe's runs."""

    kills: int
    resumed: int
    restarted: int
    corrupt: list[str]
    unequal: list[str]
    statuses: Counter[str]


def start(arguments: tuple[str, ...], place: Path, temporary: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "run.py"), *arguments, "~callbacks.progress_bar"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=place, env=environment, stdout=pipe, stderr=pipe, text=True)


def uninterrupted(arguments: tuple[str, ...], place: Path) -> tuple[dict[str, Any], float]:
    """The last checkpoint of a run that nobody stops, and the seconds it took."""
    began = time.monotonic()
    process = start(arguments, place, place)
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{shlex.join(arguments)} failed: {err or out}")
    return torch.load(next(place.rglob("last.ckpt")), weights_only=True), time.monotonic() - began


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two checkpoints hold the same weights at the same step."""
    names = first["state_dict"].keys()
    same = all(torch.equal(first["state_dict"][name], second["state_dict"][name]) for name in names)
    return same and names == second["state_dict"].keys() and first["global_step"] == second["global_step"]


def interrupt(recipe: str, kills: int, seed: int, place: Path, temporary: Path) -> Report:
    """Runs a recipe with so many kills, as often as that takes."""
    draw = random.Random(seed)
    arguments = RECIPES[recipe]
    (place / "reference").mkdir(parents=True)
    expected, seconds = uninterrupted(arguments, place / "reference")
    report = Report(kills, 0, 0, [], [], Counter())
    resumed = restarted = done = run = 0
    while done < kills:
        run += 1
        folder = place / f"run{run}"
        folder.mkdir()
        for attempt in range(12):
            last = next(folder.rglob("last.ckpt"), None)
            restarted, resumed = restarted + (attempt > 0 and last is None), resumed + (last is not None)
            command = arguments if last is None else (f"ckpt_path={last.relative_to(folder)}",)
            process = start(command, folder, temporary)
            number = draw.choice(SIGNALS) if done < kills and attempt < 6 else None
            if number is not None:
                try:
                    process.wait(draw.uniform(0.1, 1.05 * seconds))
                except subprocess.TimeoutExpired:
                    process.send_signal(number)
                    done += 1
                    report.statuses[number.name] += 1
            out, err = process.communicate()
            report.corrupt.extend(damaged(folder))
            if process.returncode == 0:
                break
            if number is None or (number != signal.SIGKILL and "Traceback" in err):
                report.unequal.append(f"run {run}: status {process.returncode}: {(err or out)[-300:]}")
                break
        last = next(folder.rglob("last.ckpt"), None)
        if last is None or not equal(torch.load(last, weights_only=True), expected):
            report.unequal.append(f"run {run}: ends with other weights")
        faults = len(report.corrupt) + len(report.unequal)
        print(f"{recipe}: {done} of {kills} kills in {run} runs, {faults} faults", flush=True)
    return report._replace(resumed=resumed, restarted=restarted)


def damaged(folder: Path) -> list[str]:
    """The checkpoints and records below a folder that cannot be read."""
    problems = []
    for path in [*folder.rglob("*.ckpt"), *folder.rglob("results.json")]:
        if path.name.startswith("."):
            continue
        try:
            torch.load(path, weights_only=True) if path.suffix == ".ckpt" else json.loads(path.read_text())
        except Exception as error:
            problems.append(f"{path}: {error}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=104, help="of all recipes, at least one each (default 104)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--other", type=Path, default=Path("/dev/shm"), help="a folder on another file system")
    names = ", ".join(f'"{name}"' for name in RECIPES)
    parser.add_argument(
        "--recipes", nargs="*", choices=RECIPES, default=list(RECIPES), metavar="NAME", help=f"some of {names}"
    )
    arguments = parser.parse_args()
    each = max(1, -(-arguments.kills // len(arguments.recipes)))
    with (
        tempfile.TemporaryDirectory() as here,
        tempfile.TemporaryDirectory(dir=arguments.other) as there,
        ThreadPoolExecutor(arguments.workers) as pool,
    ):
        jobs = {}
        for index, name in enumerate(arguments.recipes):
            place = Path(here if index % 2 else there, str(index))
            jobs[name] = pool.submit(interrupt, name, each, arguments.seed + index, place, Path(there))
        reports = {name: job.result() for name, job in jobs.items()}
    show(reports)
    sys.exit(any(report.corrupt or report.unequal for report in reports.values()))


def show(reports: dict[str, Report]) -> None:
    table = Table("recipe", "kills", "signals", "resumed", "restarted", "corrupt files", "unequal ends")
    for name, report in reports.items():
        signals = ", ".join(f"{count} {kind}" for kind, count in sorted(report.statuses.items()))
        counts = (report.resumed, report.restarted, len(report.corrupt), len(report.unequal))
        table.add_row(name, str(sum(report.statuses.values())), signals, *map(str, counts))
    Console().print(table)
    for report in reports.values():
        print(*report.corrupt, *report.unequal, sep="\n", end="")


if __name__ == "__main__":
    main()
