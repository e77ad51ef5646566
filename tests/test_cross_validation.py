"""experiment=cross_validate: every training image validates once, and one table has the mean over the folds."""

import csv
import itertools
import shutil
import statistics
from pathlib import Path

import pytest
import torch
from command_line import PLAIN, results_of, run, run_well
from PIL import Image

from datamodules.folder import Folder
from datamodules.mnist import MNIST, MNIST5k

SWEEP = ("experiment=cross_validate", "model=lenet", "data.num_folds=3", *PLAIN, "trainer.max_epochs=1")


def folds_of(cls: type[MNIST5k | MNIST], folds: int) -> list[MNIST5k | MNIST]:
    parts = [cls(num_folds=folds, fold=fold, seed=fold) for fold in range(folds)]
    for part in parts:
        part.prepare_data()
        part.setup()
    return parts


def test_every_image_validates_once_and_trains_in_all_other_folds() -> None:
    whole = MNIST5k()
    whole.setup()
    assert whole.train_split is not None
    assert whole.val_split is not None
    images = torch.cat([whole.train_split.images, whole.val_split.images]).flatten(1)
    parts = folds_of(MNIST5k, 3)
    validated = torch.cat([part.val_split.images for part in parts if part.val_split]).flatten(1)
    assert torch.equal(sorted_rows(validated), sorted_rows(images))
    for part in parts:
        assert part.train_split is not None
        assert part.val_split is not None
        both = torch.cat([part.train_split.images, part.val_split.images]).flatten(1)
        assert torch.equal(sorted_rows(both), sorted_rows(images))
        counts = part.val_split.labels.bincount()
        assert (counts.min(), counts.max()) == (166, 167)
        assert abs(len(part.val_split.labels) - 5000 / 3) < 1
        assert part.test_split is None


def sorted_rows(images: torch.Tensor) -> torch.Tensor:
    return torch.unique(images, dim=0, return_counts=True)[0]


def test_official_test_images_are_in_no_fold() -> None:
    [first, _] = folds_of(MNIST, 2)
    assert first.train_split is not None
    assert first.val_split is not None
    assert len(first.train_split.labels) == len(first.val_split.labels) == 30_000
    assert first.test_split is None


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a cross-validation, begun without -m, and what it said."""
    place = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        out = run_well(*SWEEP).out
    [folder] = (place / "outputs" / "sweeps").iterdir()
    return folder, out


def accuracies(sweep: Path) -> list[float]:
    return [results_of(job)["val/accuracy"] for job in sorted(sweep.glob("0*"))]


@pytest.mark.extended
def test_table_has_the_mean_and_the_deviation_over_the_folds(sweep: tuple[Path, str]) -> None:
    folder, out = sweep
    [row] = csv.DictReader((folder / "cross_validation.csv").read_text().splitlines())
    values = accuracies(folder)
    assert len(set(values)) > 1
    assert (row["metric"], row["runs"]) == ("val/accuracy", "3")
    assert float(row["mean"]) == pytest.approx(statistics.fmean(values))
    assert float(row["deviation"]) == pytest.approx(statistics.stdev(values))
    assert f"{statistics.fmean(values):.4f} +- {statistics.stdev(values):.4f}" in out
    assert "objective" not in results_of(sorted(folder.glob("0*"))[0])  # no fold has chosen its checkpoint


@pytest.mark.extended
def test_interrupted_cross_validation_goes_on(sweep: tuple[Path, str]) -> None:
    copy = Path("again").absolute()
    shutil.copytree(sweep[0], copy)
    last = sorted(copy.glob("0*"))[2]
    shutil.rmtree(last)
    before = sorted(copy.glob("0*/checkpoints/*"))
    times = [path.stat().st_mtime_ns for path in before]
    assert "2 of its 3 jobs have finished" in run_well(*SWEEP, f"hydra.sweep.dir={copy}").out
    assert [path.stat().st_mtime_ns for path in before] == times
    assert accuracies(copy) == accuracies(sweep[0])


@pytest.mark.parametrize("mistake", ["data.num_folds=1", "data.num_folds=600", "data.num_folds=2 data.fold=2"])
def test_fold_that_cannot_be_is_one_line(mistake: str) -> None:
    outcome = run("model=lenet", "callbacks.checkpoint.monitor=null", *PLAIN, *mistake.split())
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert mistake.split()[-1].split("=")[0] in outcome.err


def test_an_epoch_that_is_best_on_the_fold_is_not_what_is_measured() -> None:
    outcome = run("model=lenet", "data.num_folds=3", *PLAIN, "trainer.max_epochs=1")
    assert outcome.status == 2
    assert "callbacks.checkpoint.monitor=val/accuracy: would choose an epoch by the fold" in outcome.err
    assert not Path("outputs").exists() or not [*Path("outputs").rglob("*.ckpt")]


def test_folds_of_an_own_set_have_all_its_images() -> None:
    for label, number in itertools.product("ab", range(6)):
        folder = Path("set", label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), number).save(folder / f"{number}.png")
    data = Folder("set", num_folds=3)
    data.setup()
    assert data.train_split
    assert data.val_split
    assert (len(data.train_split.labels), len(data.val_split.labels)) == (8, 4)
    assert "drawn" not in data.describe()


@pytest.mark.extended
def test_folds_that_are_named_are_those_of_the_sweep() -> None:
    assert "2 jobs" in run_well(*SWEEP, "data.fold=0,2").out
