"""What two shortcuts of ours save on a CPU, each against the usual way in the same run.

    OMP_NUM_THREADS=1 python -m benchmarks.cpu_steps      # about three minutes

A training step (forward, backward, Adam; 128 images of 28x28) with glibc keeping freed memory for the next tensor
(`tasks.process.keep_freed_memory`) against one without, each in a process of its own, in turns; and AlexNet's response
normalization with its gradient against `nn.LocalResponseNorm`. Processor time; the median of the rounds counts.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from hydra.utils import get_class
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F
from torch.optim import Adam

from benchmarks.measure import machine, run_process, tell
from classic_cnn.alexnet import ResponseNorm
from tasks.process import keep_freed_memory

NETS: dict[str, tuple[str, dict[str, float]]] = {
    "MobileNet, a quarter": ("classic_cnn.mobilenet.MobileNet", {"width": 0.25}),
    "ResNet-20, half": ("classic_cnn.resnet.ResNet", {"width": 0.5}),
    "AlexNet": ("classic_cnn.alexnet.AlexNet", {}),
}


def seconds(work: Callable[[], object], times: int) -> float:
    """Processor time of one call, after two that do not count."""
    for _ in range(2):
        work()
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def step_of(name: str) -> float:
    """Seconds of a training step of one of `NETS`."""
    target, arguments = NETS[name]
    net: nn.Module = get_class(target)(**arguments).to(memory_format=torch.channels_last)
    optimizer = Adam(net.parameters())
    images = torch.randn(128, 1, 28, 28).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (128,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return seconds(step, 6)


def norm_and_gradient(norm: nn.Module) -> float:
    """Seconds of the response normalization of AlexNet's first maps, with its gradient."""
    maps = torch.randn(128, 48, 28, 28).relu().to(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(128, 48, 28, 28).to(memory_format=torch.channels_last)
    return seconds(lambda: torch.autograd.grad(norm(maps), maps, gradient), 5)


def in_a_process(name: str, memory_kept: bool) -> float:
    command = [sys.executable, "-m", "benchmarks.cpu_steps", "--step", name, *(["--kept"] if memory_kept else [])]
    return float(run_process(command).result["step"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What two shortcuts save on a CPU.")
    parser.add_argument("--rounds", type=int, default=3)
    names = ", ".join(f'"{name}"' for name in NETS)
    parser.add_argument("--nets", nargs="*", choices=NETS, default=list(NETS), metavar="NAME", help=f"some of {names}")
    parser.add_argument("--step", choices=NETS, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.kept:
        keep_freed_memory()
    if parsed.step:
        tell(step=step_of(parsed.step))
        return
    table = Table("what", "usual, ms", "ours, ms", "usual / ours")
    for name in parsed.nets:
        rounds = [[in_a_process(name, kept) for kept in (False, True)] for _ in range(parsed.rounds)]
        table.add_row(f"step of {name}: freed memory kept", *columns(rounds))
    usual = nn.LocalResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2)
    rounds = [[norm_and_gradient(norm) for norm in (usual, ResponseNorm(48))] for _ in range(parsed.rounds)]
    table.add_row("response normalization of 128 x 48 x 28 x 28", *columns(rounds))
    Console(width=120).print(table)
    print(machine())


def columns(rounds: Sequence[Sequence[float]]) -> tuple[str, ...]:
    """Medians in milliseconds, and the median of the rounds' ratios."""
    usual, ours = (1000 * statistics.median(column) for column in zip(*rounds, strict=True))
    return f"{usual:.0f}", f"{ours:.0f}", f"{statistics.median(first / second for first, second in rounds):.2f}"


if __name__ == "__main__":
    main()
