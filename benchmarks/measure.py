"""How every comparison here is measured: a process per contender, in turns, by the processor time it used."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import tasks.machine
from tasks.process import has_bf16_instructions

ROOT = Path(__file__).parents[1]
RESULT = "RESULT "  # begins the line by which a contender tells its own measurements, as JSON


class Cost(NamedTuple):
    """What a process used from its start to its exit, and what it told about itself."""

    wall: float  # seconds
    cpu: float  # seconds of all its threads
    memory: int  # bytes, at most
    result: dict[str, Any]


def run_process(command: Sequence[str], folder: Path | None = None) -> Cost:
    """Runs a command in a folder and waits for it.

    Raises:
        RuntimeError: it failed; the message holds the end of what it printed.
    """
    places = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": places}
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}: {text[-2000:]}")
    told = [line.removeprefix(RESULT) for line in text.splitlines() if line.startswith(RESULT)]
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, json.loads(told[-1]) if told else {})


def tell(**measurements: Any) -> None:
    """Prints what a contender measured, for the process that started it."""
    print(f"\n{RESULT}{json.dumps(measurements)}", flush=True)


def take_turns(contenders: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """The costs of each contender in each round: whatever else the machine does meets them all alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            cost = contender()
            costs[name].append(cost)
            epoch = f", an epoch in {cost.result['epoch']:.3f} s" if "epoch" in cost.result else ""
            print(f"round {number + 1} of {rounds}: {name}: {cost.cpu:.1f} s of processor time{epoch}", flush=True)
    return costs


def ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    """The median over the rounds of a contender's value divided by the reference's in the same round.

    >>> ratio([2.0, 9.0, 4.0], [1.0, 3.0, 2.0])
    2.0
    """
    return statistics.median(value / other for value, other in zip(values, reference, strict=True))


def machine() -> str:
    """The processor, what it can do, and the versions that matter, in one line."""
    here = tasks.machine.machine("cpu")
    name = here["processor"] or "processor"
    bf16 = "with" if has_bf16_instructions() else "without"
    threads = here["threads"]
    return (
        f"{name}, {os.cpu_count()} cores, {here['capability']}, {bf16} bfloat16 instructions; "
        f"{threads} thread{'s' if threads > 1 else ''}; torch {torch.__version__}"
    )
