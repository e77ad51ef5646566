"""task=ensemble: the mean of several classifiers' probabilities, on the images that they share."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PLAIN, results_of, run, run_well

from tasks.checkpoint import load


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_well("-m", "model=lenet", "seed=0,1", *PLAIN, "trainer.max_epochs=1")
    return folder


@pytest.mark.extended
def test_ensemble_is_the_mean_of_the_probabilities(sweep: Path) -> None:
    run_well("task=ensemble", f"task.checkpoints={sweep}", "trainer.accelerator=cpu")
    [written] = Path().rglob("ensemble.csv")
    rows = list(csv.DictReader(written.read_text().splitlines()))
    probabilities = []
    for path in sorted(sweep.rglob("best.ckpt")):
        parts: tuple[Any, Any] = load(path)
        net, data = parts
        data.setup("test")
        with torch.no_grad():
            probabilities.append(net(data.transform(data.val_split.images)).softmax(1))
    labels = data.val_split.labels
    expected = [(part.argmax(1) == labels).float().mean().item() for part in (*probabilities, sum(probabilities))]
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert float(rows[-1]["agreement"]) == 1
    results = results_of(written.parent)
    assert results["val/accuracy"] == pytest.approx(expected[-1], abs=1e-6)
    assert (results["model"], results["data"], results["experiment"]) == ("ensemble", "mnist_5k", None)
    assert written.parent.parent == Path("outputs/ensemble")


@pytest.mark.parametrize("checkpoints", ["nowhere", "[]", "[a.ckpt,b.ckpt]"])
def test_checkpoints_that_are_none_are_refused_in_one_line(checkpoints: str) -> None:
    outcome = run("task=ensemble", f"task.checkpoints={checkpoints}", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert checkpoints == "[]" or "no such file or folder" in outcome.err


def test_net_that_travels_with_the_project_is_a_member(trained: Path) -> None:
    members = f"[published/lenet_mnist,{trained}/checkpoints/best.ckpt]"
    outcome = run("task=ensemble", f"task.checkpoints={members}", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert "of other images" in outcome.err  # those of MNIST and of its sample
