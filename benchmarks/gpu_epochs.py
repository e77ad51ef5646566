"""An epoch of `python run.py` on a GPU against a plain loop, a compiled one and one that a CUDA graph holds.

    python -m benchmarks.gpu_epochs                          # a few minutes; --nets lenet for the first half of them

MNIST's 55,000 training images, LeNet-5 in float32 with Adam and batches of 100, ResNet-20 in bf16 with SGD and
batches of 128: small steps, which wait for their kernels to be started, and larger ones. Each
contender is a process of its own, has the images in the GPU's memory and scales them there; the loops have a constant
rate and show nothing. Seconds by the clock, for the processor waits for the GPU or the GPU for it: the median epoch
but the first, in which kernels are chosen and compiled, without validation.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from benchmarks.contenders import splits
from benchmarks.measure import ROOT, Cost, machine, run_process, take_turns, tell
from classic_cnn.lenet import LeNet5
from classic_cnn.resnet import ResNet
from datamodules.in_memory import Split
from datamodules.mnist import MNIST
from tasks.process import configure_process


class Contest(NamedTuple):
    """A net with the optimizer and the batches that `run.py` trains it with."""

    net: type[nn.Module]
    optimizer: Callable[..., Optimizer]
    batch_size: int
    bf16: bool


CONTESTS = {
    "lenet": Contest(LeNet5, partial(torch.optim.Adam, lr=2e-3, fused=True, capturable=True), 100, False),
    "resnet": Contest(ResNet, partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True), 128, True),
}
LOOPS = ("plain", "compiled", "graph")
Step = Callable[[Tensor], None]


def train(loop: str, name: str, epochs: int, batches: int | None) -> None:
    """Trains in one of `LOOPS` and tells the median seconds of an epoch but the first."""
    configure_process()
    contest = CONTESTS[name]
    images, labels = (samples.cuda() for samples in splits()[0])
    net = contest.net().cuda().to(memory_format=torch.channels_last)
    step = step_of(net, contest, Split(images, labels), compiled=loop == "compiled")
    if loop == "graph":
        step = captured(step, torch.arange(contest.batch_size, device="cuda"))
    seconds = []
    for _ in range(epochs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for index in whole_batches(len(labels), contest.batch_size, batches):
            step(index)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    tell(epoch=statistics.median(seconds[1:]))


def step_of(net: nn.Module, contest: Contest, data: Split, compiled: bool) -> Step:
    """A training step on the images of an index: forward, backward, optimizer."""
    optimizer = contest.optimizer(net.parameters())

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(net(images), labels)

    loss = torch.compile(loss) if compiled else loss

    def step(index: Tensor) -> None:
        images = data.images[index].float().div(127.5).sub(1)
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=contest.bf16, cache_enabled=False):
            value = loss(images, data.labels[index])
        value.backward()
        optimizer.step()

    return step


def captured(step: Step, index: Tensor) -> Step:
    """The step as one CUDA graph, which reads its index from a fixed place."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what libraries prepare at first is not captured
        for _ in range(3):
            step(index)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(index)

    def replay(batch: Tensor) -> None:
        index.copy_(batch)
        graph.replay()

    return replay


def whole_batches(count: int, size: int, batches: int | None) -> Iterator[Tensor]:
    """Indices of samples in a new random order, without the last batch where it is smaller."""
    order = torch.randperm(count, device="cuda")
    return iter(order[: count // size * size].split(size)[:batches])


def in_a_process(name: str, loop: str, epochs: int, batches: int) -> Cost:
    """`train`, so that the contenders do not share a GPU's memory or what it has prepared."""
    limits = ["--epochs", str(epochs), "--batches", str(batches)]
    command = [sys.executable, "-m", "benchmarks.gpu_epochs", "--nets", name, "--loop", loop, *limits]
    return run_process(command)


def ours(name: str, data_root: str, compiled: bool, epochs: int, batches: int) -> Cost:
    """`python run.py`, in a folder that is removed afterwards."""
    limits = (f"trainer.limit_train_batches={batches}",) if batches else ()
    arguments = [
        *(f"model={name}", "data=mnist", f"data.root={data_root}", f"data.batch_size={CONTESTS[name].batch_size}"),
        *(f"trainer.max_epochs={epochs}", "trainer.accelerator=gpu", f"compile={str(compiled).lower()}"),
        *(
            f"trainer.precision={'bf16-mixed' if CONTESTS[name].bf16 else '32-true'}",
            "callbacks.clock._target_=benchmarks.clock.Epochs",
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        return run_process([sys.executable, str(ROOT / "run.py"), *arguments, *limits], Path(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default 3)")
    parser.add_argument("--epochs", type=int, default=4, help="of each contender, two or more (default 4)")
    parser.add_argument("--batches", type=int, default=0, help="at most, of an epoch; 0 = all (default)")
    parser.add_argument("--nets", nargs="*", choices=CONTESTS, default=list(CONTESTS), help="both by default")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.epochs < 2:
        parser.error("--epochs must be at least 2: the first one is not counted")
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu_epochs: PyTorch finds no GPU on this machine; benchmarks.throughput measures its CPU")
    if parsed.loop:
        train(parsed.loop, parsed.nets[0], parsed.epochs, parsed.batches or None)
        return
    root, length = str(Path(MNIST().root).absolute()), (parsed.epochs, parsed.batches)
    for name in parsed.nets:
        contenders: dict[str, Callable[[], Cost]] = {
            **{f"{each} loop": partial(in_a_process, name, each, *length) for each in LOOPS},
            "run.py": partial(ours, name, root, False, *length),
            "run.py, compile=true": partial(ours, name, root, True, *length),
        }
        show(name, take_turns(contenders, parsed.rounds))


def show(name: str, costs: dict[str, list[Cost]]) -> None:
    """Prints a line per contender, with its share of the fastest one's images per second, and the machine."""
    epochs = {each: statistics.median(cost.result["epoch"] for cost in rounds) for each, rounds in costs.items()}
    precision = "bf16" if CONTESTS[name].bf16 else "float32 (TF32)"
    table = Table(f"{name}, {precision}: contender", "epoch, s", "fastest = 1", "whole command, s")
    for each, rounds in costs.items():
        whole = f"{statistics.median(cost.wall for cost in rounds):.1f}"
        table.add_row(each, f"{epochs[each]:.3f}", f"{epochs[each] / min(epochs.values()):.2f}", whole)
    Console(width=120).print(table)
    print(f"Seconds by the clock, medians of {len(rounds)} rounds.\n{torch.cuda.get_device_name()}; {machine()}")


if __name__ == "__main__":
    main()
