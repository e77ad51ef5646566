"""trainer/logger: one or several loggers get config, metrics and pictures, and the last lines name their places."""

import csv
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from command_line import PLAIN, SMALL, checkpoint_of, only_run, run, run_well
from conftest import compose
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SHORT = ("model=lenet", "trainer.max_epochs=1", "trainer.log_every_n_steps=2")
PICTURES = ("train/what the net reads", "val/confusion matrix", "val/worst mistakes")


@pytest.mark.extended
def test_two_loggers_get_the_same_and_the_last_lines_name_both() -> None:
    out = run_well(*SHORT, *SMALL, "trainer/logger=[csv,tensorboard]").out
    folder = only_run()
    rows = list(csv.DictReader((folder / "csv_0" / "metrics.csv").read_text().splitlines()))
    board = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    assert set(PICTURES) <= set(board.Tags()["images"])
    for name in ("train/loss", "val/accuracy"):
        values = [float(row[name]) for row in rows if row[name]]
        assert values == pytest.approx([event.value for event in board.Scalars(name)])
    assert "LeNet5" in (folder / "csv_0" / "hparams.yaml").read_text()
    assert [line[:13].strip() for line in out.splitlines()[-3:]] == ["folder", "dashboard", "log"]
    last = f"ckpt_path={folder}/checkpoints/last.ckpt"
    assert "log          " in run_well(last).out  # a run that goes on keeps its loggers
    assert checkpoint_of(folder)["config"]["choices"]["trainer/logger"] == "[csv,tensorboard]"


@pytest.mark.parametrize(
    ("place", "logdir"),
    [
        ("outputs/kept/a run", "outputs"),
        ("kept/a run", "'kept/a run'"),
        ("outputs/../a run", "'a run'"),
        ("{elsewhere}/a run", "'{elsewhere}/a run'"),
    ],
)
def test_dashboard_is_that_of_the_folder_wherever_it_lies(
    place: str, logdir: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    place, logdir = place.format(elsewhere=elsewhere), logdir.format(elsewhere=elsewhere)
    out = run_well(*SHORT, *SMALL, "trainer/logger=tensorboard", f"hydra.run.dir='{place}'").out
    assert out.splitlines()[-1] == f"dashboard    tensorboard --logdir {logdir}"
    assert EventAccumulator(place).Reload().Tags()["scalars"]


def test_none_leaves_nothing_and_promises_nothing() -> None:
    out = run_well(*SHORT, *PLAIN, "trainer/logger=none").out
    assert {path.name for path in only_run().iterdir()} == {".hydra", ".lock", "checkpoints", "results.json"}
    assert "dashboard" not in out


@pytest.mark.parametrize(
    ("name", "package", "module"), [("wandb", "wandb", "wandb"), ("mlflow", "mlflow-skinny", "mlflow")]
)
def test_missing_package_is_one_line_with_the_command_that_installs_it(name: str, package: str, module: str) -> None:
    if find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    outcome = run(*SHORT, *PLAIN, f"trainer/logger=[csv,{name}]")
    assert outcome.status == 2
    assert outcome.err == f"Error: trainer/logger={name} needs a package: pip install {package}\n"
    assert not [path for path in Path().rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "option", ["trainer.logger.csv.save_dir=x", "trainer.logger.csv.name=x", "trainer.logger.cvs=x"]
)
def test_place_or_name_of_a_logger_that_cannot_be_is_refused(option: str) -> None:
    outcome = run(*SHORT, *PLAIN, "trainer/logger=csv", option)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert not [path for path in Path().rglob("*") if path.is_file()]


def test_mlflow_keeps_files_in_the_runs_folder() -> None:
    pytest.importorskip("mlflow")
    out = run_well(*SHORT, *SMALL, "trainer/logger=mlflow").out
    [metric] = only_run().glob("mlruns/*/*/metrics/val/accuracy")
    files = [path.name for path in metric.parents[2].rglob("artifacts/*/*.png")]
    assert {name.partition(", step")[0] for name in files} == {name.partition("/")[2] for name in PICTURES}
    assert (metric.parents[2] / "params" / "data" / "batch_size").read_text() == "40"
    assert out.splitlines()[-1].endswith(f"/{only_run().name}/mlruns")
    assert "MLFLOW_TRACKING_URI" not in os.environ  # MLflow sets it, and the next job of a sweep would follow it
    assert not Path("mlruns").exists()


def test_offline_wandb_writes_a_run_of_its_own_for_each_run_of_a_process() -> None:
    pytest.importorskip("wandb")
    for _ in range(2):
        out = run_well(*SHORT, *SMALL, "trainer/logger=[wandb,csv]").out
    folders = sorted(Path("outputs/lenet/mnist_5k").iterdir())
    for folder in folders:
        [offline] = folder.glob("wandb/offline-run-*")
        assert list(offline.glob("*.wandb"))
        pictures = {path.relative_to(offline / "files/media/images").as_posix() for path in offline.rglob("*.png")}
        assert {name.rsplit("_", 2)[0] for name in pictures} == set(PICTURES)
    assert f"dashboard    wandb sync {offline}" in out
    assert not Path("wandb").exists()


def test_logger_of_a_strangers_checkpoint_is_a_name_and_nothing_else(trained: Path) -> None:
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content["config"]["choices"]["trainer/logger"] = "[mlflow,csv]"
    torch.save(content, "theirs.ckpt")
    assert [*compose("ckpt_path=theirs.ckpt").trainer.logger] == ["mlflow", "csv"]
    assert compose("ckpt_path=theirs.ckpt").trainer.logger.mlflow.tracking_uri is None
    assert [*compose("ckpt_path=theirs.ckpt", "task=test").trainer.logger] == ["tensorboard"]
    content["config"]["trainer"]["logger"] = {"mlflow": {"_target_": "tasks.loggers.MLFlow", "tracking_uri": "file:x"}}
    torch.save(content, "hostile.ckpt")
    with pytest.raises(ValueError, match=r"^ckpt_path=hostile\.ckpt: [^\n]+$"):
        compose("ckpt_path=hostile.ckpt")
