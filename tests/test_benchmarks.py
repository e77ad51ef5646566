"""Every module of benchmarks/ runs, on a few batches."""

import json
import pkgutil
from pathlib import Path

import pytest

import benchmarks
from benchmarks import contenders, cpu_steps, measure, throughput
from datamodules.mnist import MNIST

COVERED = {"clock", "contenders", "cpu_steps", "kill_campaign", "measure", "throughput"}


def test_every_module_is_covered_here() -> None:
    assert {module.name for module in pkgutil.iter_modules(benchmarks.__path__)} == COVERED


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("name", contenders.PLAIN | contenders.COMMON)
def test_contender_tells_its_epoch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (contenders.PLAIN | contenders.COMMON)[name](2)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(measure.RESULT)]
    assert json.loads(told[-1].removeprefix(measure.RESULT))["epoch"] > 0


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
