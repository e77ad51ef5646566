"""Every module of benchmarks/ runs, on a few batches."""

import json
import os
import pkgutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command_line import RUN

import benchmarks
from benchmarks import contenders, cpu_steps, gpu_epochs, measure, rivals, throughput, time_to_accuracy
from benchmarks.clock import AccuracyClock, Epochs
from datamodules.mnist import MNIST

COVERED = {"clock", "contenders", "cpu_steps", "gpu_epochs", "kill_campaign", "measure", "rivals", "throughput"}
COVERED |= {"time_to_accuracy"}


def test_every_module_is_covered_here() -> None:
    assert {module.name for module in pkgutil.iter_modules(benchmarks.__path__)} == COVERED


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("name", contenders.PLAIN | contenders.COMMON)
def test_contender_tells_its_epoch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (contenders.PLAIN | contenders.COMMON)[name](contenders.Setting(batches=2))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(measure.RESULT)]
    assert json.loads(told[-1].removeprefix(measure.RESULT))["epoch"] > 0


@pytest.mark.extended
def test_our_contender_is_the_command_itself() -> None:
    cost = throughput.ours(str(Path(MNIST().root).absolute()), contenders.Setting(batches=2))
    assert 0 < cost.result["epoch"] < cost.cpu
    assert cost.memory > 100e6
    assert not list(Path().iterdir())


def test_a_contender_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no_such_model"):
        throughput.ours("data", contenders.Setting("no_such_model", batches=2))


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


@pytest.mark.parametrize(
    ("contender", "answer"),
    [
        ("lenet_fast", "experiment=vgg_fast data/augment=flip"),  # one of those there are
        ("experiment=lenet_fats", "did you mean experiment=lenet_fast?"),
        ("model=lenet model.no_such=1", "no_such"),
        ("model=lenet trainer.max_epochs=-7", "max_epochs"),
        ("model=lenet 'unbalanced", "quot"),
        ("model=gan", "classifier"),
        ("model=lenet task=summarize", "does not train"),
        ("model=lenet trainer.limit_val_batches=0", "does not train, validate"),
    ],
)
def test_contender_that_is_none_is_refused_before_any_is_timed(
    contender: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        time_to_accuracy.main(["--data", "fashion_mnist", "--only", "model=lenet", contender])
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert answer in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("option", ["--seeds", "--epochs", "--batches"])
def test_numbers_below_zero_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        time_to_accuracy.main([option, "-1", "--only", "model=lenet"])
    assert end.value.code == 2
    assert "not below 0" in capsys.readouterr().err


@pytest.mark.extended
def test_what_a_run_says_when_it_is_refused_ends_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        time_to_accuracy.main(["--only", "model=lenet trainer.precision=16-mixed", "--seeds", "0"])
    said = capsys.readouterr().err
    assert (end.value.code, said.count("\n")) == (1, 1)
    assert "bf16-mixed" in said


@pytest.mark.extended
def test_a_fast_recipe_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    time_to_accuracy.main(["--seeds", "0", "--epochs", "1", "--batches", "2", "--only", "experiment=lenet_fast"])
    assert "to 99.4 %, s" in capsys.readouterr().out


@pytest.mark.slow
def test_throughput_runs(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.main(["--rounds", "1", "--batches", "2"])
    assert throughput.OURS in capsys.readouterr().out


@pytest.mark.extended
def test_throughput_of_the_plain_loops_alone_in_other_batches(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.main(["--rounds", "1", "--batches", "2", "--batch-size", "8", "--plain"])
    out = capsys.readouterr().out
    assert throughput.OURS in out
    assert contenders.TEMPLATE not in out


def test_a_plain_loop_does_not_pay_for_lightnings_search_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    contenders.resident(contenders.Setting(batches=1))
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


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


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(measure.RESULT)]
    return json.loads(lines[-1].removeprefix(measure.RESULT))


def test_ratio_is_the_median_over_the_rounds() -> None:
    assert measure.ratio([2.0, 9.0, 4.0, 100.0, 1.0], [1.0, 3.0, 2.0, 1.0, 1.0]) == 2  # of 2, 3, 2, 100 and 1


def test_epoch_of_a_run_is_the_median_of_all_but_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    clock: Any = Epochs()
    clock.seconds = [100.0, 1.0, 4.0]
    clock.on_fit_end(None, None)
    assert told(capsys)["epoch"] == 2.5


def test_curve_of_accuracies_is_over_training_without_validation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [5.0]  # seconds since the start of the process: imports
    monkeypatch.setattr("benchmarks.clock.time", SimpleNamespace(process_time=lambda: now[0]))
    clock: Any = AccuracyClock()
    for accuracy in (0.5, 0.75):
        trainer = SimpleNamespace(callback_metrics={"val/accuracy": torch.tensor(accuracy)})
        clock.on_train_epoch_start(trainer, None)
        for _half in (1, 2):  # a validation in the middle of the epoch, and one at its end
            now[0] += 10
            clock.on_validation_start(trainer, None)
            now[0] += 100
            clock.on_validation_end(trainer, None)
    clock.on_test_end(SimpleNamespace(callback_metrics={"test/accuracy": torch.tensor(0.25)}), None)
    found = told(capsys)
    assert [point[0] for point in found["curve"]] == [10, 20, 30, 40]
    assert [point[1] for point in found["curve"]] == [115, 225, 335, 445]
    assert [point[2] for point in found["curve"]] == [0.5, 0.5, 0.75, 0.75]
    assert found["test"] == 0.25
