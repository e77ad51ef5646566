"""Every module of benchmarks/ runs, on a few batches."""

import json
import pkgutil
import sys
from pathlib import Path

import pytest
import torch
from command_line import RUN

import benchmarks
from benchmarks import contenders, cpu_steps, gpu_epochs, measure, rivals, throughput, time_to_accuracy
from datamodules.mnist import MNIST

COVERED = {"clock", "contenders", "cpu_steps", "gpu_epochs", "kill_campaign", "measure", "rivals", "throughput"}
COVERED |= {"time_to_accuracy"}


def test_every_module_is_covered_here() -> None:
    assert {module.name for module in pkgutil.iter_modules(benchmarks.__path__)} == COVERED


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("name", contenders.PLAIN | contenders.COMMON)
def test_contender_tells_its_epoch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (contenders.PLAIN | contenders.COMMON)[name](2)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(measure.RESULT)]
    assert json.loads(told[-1].removeprefix(measure.RESULT))["epoch"] > 0


@pytest.mark.extended
def test_our_contender_is_the_command_itself() -> None:
    cost = throughput.ours(str(Path(MNIST().root).absolute()), 2)
    assert 0 < cost.result["epoch"] < cost.cpu
    assert cost.memory > 100e6
    assert not list(Path().iterdir())


def test_a_contender_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no_such_model"):
        throughput.ours("data", 2, "model=no_such_model")


def test_table_names_the_reference_and_the_processor(capsys: pytest.CaptureFixture[str]) -> None:
    names = (throughput.OURS, *contenders.PLAIN, *contenders.COMMON)
    epochs = {name: float(number) for number, name in enumerate(names, start=2)}
    costs = {name: [measure.Cost(1.0, 2.0, 3_000_000, {"epoch": epoch})] for name, epoch in epochs.items()}
    throughput.show(costs)
    out = capsys.readouterr().out
    assert "0.67" in out  # ours, 2 s, against the fastest plain loop, 3 s
    assert f"ratio to '{next(iter(contenders.PLAIN))}'" in out
    assert measure.machine() in out


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:The number of training batches", "ignore:.*does not have many workers")
@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rival_tells_its_curve_and_its_test_accuracy(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rivals.main([name, "mnist", "0", "--epochs", "2", "--batches", "2"])
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(measure.RESULT)]
    result = json.loads(told[-1].removeprefix(measure.RESULT))
    (first, began, accuracy), (last, ended, _) = result["curve"]
    assert 0 < first < last < ended
    assert began < ended
    assert 0 <= accuracy <= 1
    assert 0 < result["test"] <= 1


def test_seconds_to_an_accuracy_are_medians_over_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    curves = [[(seed, 10.0 + seed, 0.98), (2.0 * seed, 20.0, 0.99)] for seed in (1.0, 2.0, 6.0)]
    costs = [measure.Cost(1.0, 2.0, 3, {"curve": curve, "test": 0.97}) for curve in curves]
    assert time_to_accuracy.seconds_to(costs, 0.98) == (2.0, 12.0)
    never = measure.Cost(1.0, 2.0, 3, {"curve": [(1.0, 2.0, 0.5)], "test": 0.5})
    assert time_to_accuracy.seconds_to([*costs[:2], never], 0.99) == (4.0, 20.0)  # an infinite time is the largest
    time_to_accuracy.show({time_to_accuracy.COMMANDS["mnist"][0]: costs, rivals.EXAMPLE: costs}, (0.98, 0.994))
    out = capsys.readouterr().out
    assert "2.0 (12.0)" in out  # of a command also the time since its start
    assert measure.machine() in out


@pytest.mark.slow
@pytest.mark.parametrize("data", time_to_accuracy.COMMANDS)
def test_time_to_accuracy_runs(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    time_to_accuracy.main(["--data", data, "--seeds", "0", "--epochs", "1", "--batches", "2"])
    out = capsys.readouterr().out
    assert all(name in out for name in (*time_to_accuracy.COMMANDS[data], *rivals.RIVALS))


def test_contender_that_is_none_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        time_to_accuracy.main(["--data", "fashion_mnist", "--only", "experiment=lenet_fast"])
    assert "experiment=vgg_fast data/augment=flip" in capsys.readouterr().err


@pytest.mark.slow
def test_throughput_runs(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.main(["--rounds", "1", "--batches", "2"])
    assert throughput.OURS in capsys.readouterr().out


@pytest.mark.slow
def test_cpu_steps_runs(capsys: pytest.CaptureFixture[str]) -> None:
    cpu_steps.main(["--rounds", "1", "--nets", "MobileNet, a quarter"])
    assert "MobileNet" in capsys.readouterr().out


@pytest.mark.slow
def test_kill_campaign_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import kill_campaign

    command = ["kill_campaign", "--kills", "1", "--recipes", "Elman RNN"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        kill_campaign.main()
    assert not end.value.code


def test_clock_tells_the_epochs_of_a_run_but_the_first(tmp_path: Path) -> None:
    clock = ("callbacks.clock._target_=benchmarks.clock.Epochs", "trainer.max_epochs=2", "~callbacks.plots")
    arguments = ("data=mnist_5k", "data.train_images_per_class=2", "trainer.accelerator=cpu", *clock)
    assert 0 < measure.run_process([sys.executable, RUN, *arguments], tmp_path).result["epoch"] < 10


def test_epochs_on_a_gpu_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="finds no GPU"):
        gpu_epochs.main([])


def test_epochs_on_a_gpu_are_two_at_least(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_epochs.main(["--epochs", "1"])
    assert "at least 2" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_epochs_on_a_gpu_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_epochs.main(["--nets", "lenet", "--rounds", "1", "--epochs", "2", "--batches", "3"])
    out = capsys.readouterr().out
    assert all(text in out for text in ("plain loop", "compiled loop", "graph loop", "compile=true", "float32"))
