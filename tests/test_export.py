"""task=export: the file runs without this project and gives the checkpoint's outputs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from command_line import PLAIN, only_run, results_of, run, run_well
from conftest import MODELS, quick, small_run

from tasks.checkpoint import load
from tasks.export import as_bytes, exportable, read, trace

pytestmark = pytest.mark.extended


def trained(folder: Path, *arguments: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_well(*arguments, *PLAIN, "trainer.max_steps=2")
        return only_run() / "checkpoints" / "last.ckpt"


def loaded(checkpoint: Path) -> tuple[Any, Any]:
    net, data = load(checkpoint)
    data.setup("fit")
    return net, data


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("lenet"), "model=lenet", "data.image_size=32")


def test_onnx_file_gives_the_probabilities_of_the_checkpoint(lenet: Path) -> None:
    run_well("task=export", f"ckpt_path={lenet}", "trainer.accelerator=cpu")
    folder = only_run()
    assert results_of(folder)["export"]["difference"] <= 1e-5
    net, data = loaded(lenet)
    images = data.val_split.images[:3]
    with torch.no_grad():
        expected = net(data.transform(images)).softmax(1).numpy()
    session = onnxruntime.InferenceSession(folder / "net.onnx")
    [actual] = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_printed_example_runs_without_this_project(lenet: Path) -> None:
    out = run_well("task=export", "task.format=torch", f"ckpt_path={lenet}", "trainer.accelerator=cpu").out
    example = "\n".join(line.strip() for line in out.partition("to use it:")[2].splitlines())
    command = [sys.executable, "-I", "-c", example]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "tensor(" in done.stdout


@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("name", sorted({*MODELS} - {"esn"}))
def test_file_of_every_net_gives_its_outputs_for_batches_of_any_size(name: str, format: str) -> None:
    model, data, _ = small_run(f"model={name}", *quick(name))
    module, inputs = exportable(model, data)
    outputs = read(as_bytes(trace(module, [values[:2] for values in inputs.values()]), format), format)
    for count in (1, 3, 7):
        batch = [values[:count] for values in inputs.values()]
        with torch.no_grad():
            torch.testing.assert_close(outputs(*batch), module(*batch), atol=1e-5, rtol=1e-4)


def test_conditional_gan_is_exported_with_its_labels(tmp_path_factory: pytest.TempPathFactory) -> None:
    small = ("model.network.width=0.1", "model.ema_decay=0.9", "callbacks.evaluation=null")
    checkpoint = trained(tmp_path_factory.mktemp("cgan"), "model=cgan", *small)
    done = run_well("task=export", "task.format=torch", f"ckpt_path={checkpoint}", "trainer.accelerator=cpu")
    assert "not read" in done.out
    generate = torch.export.load(only_run() / "net.pt2").module()
    assert generate(torch.zeros(5, 100), torch.arange(5)).shape == (5, 1, 28, 28)


def test_net_that_a_format_cannot_express_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    checkpoint = trained(tmp_path_factory.mktemp("esn"), "model=esn", "model.units=50")
    outcome = run("task=export", "task.format=torch", f"ckpt_path={checkpoint}", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert "EchoStateNetwork" in outcome.err
    assert not list(Path().rglob("net.*"))


def test_missing_package_is_named_with_its_installation(lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = run("task=export", f"ckpt_path={lenet}", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert "pip install onnx onnxscript onnxruntime" in outcome.err
    assert outcome.err.count("\n") == 1
