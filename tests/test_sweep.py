"""A sweep goes on after a failing job, says so by its exit status, and ends with one table over all jobs."""

import csv
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from command_line import PLAIN, Outcome, finish, results_of, run, run_well, start
from omegaconf import OmegaConf
from PIL import Image

from tasks.config import ConfigError
from tasks.run_task import check_strategy

SHORT = (*PLAIN, "trainer.max_epochs=1", "model.optimizer.lr=0.01")


class Sweep:
    """A finished sweep: what it said, its folder, its jobs and its table."""

    def __init__(self, outcome: Outcome, place: Path) -> None:
        self.outcome = outcome
        (self.folder,) = (place / "outputs" / "sweeps").iterdir()
        self.jobs = sorted(path for path in self.folder.iterdir() if path.is_dir())
        self.rows = table_in(self.folder)


def table_in(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two seeds at two sizes of images; LeNet-5 cannot read the smaller one."""
    place = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return Sweep(run("-m", "model=lenet", "data.image_size=8,28", "seed=0,1", *SHORT), place)


@pytest.mark.extended
def test_failing_jobs_do_not_stop_a_sweep_but_give_it_status_1(sweep: Sweep) -> None:
    statuses = [results_of(job)["status"] for job in sweep.jobs]
    assert statuses == ["failed", "failed", "finished", "finished"]
    assert sweep.outcome.status == 1
    lines = sweep.outcome.err.splitlines()
    assert [line.split(": ")[0] for line in lines] == [job.name for job in sweep.jobs[:2]]
    assert all("image_size" in line for line in lines)


def test_table_has_mean_and_standard_deviation_over_seeds(sweep: Sweep) -> None:
    (row,) = (row for row in sweep.rows if not row["reason"])
    results = [results_of(job) for job in sweep.jobs[2:]]
    accuracies = [result["val/accuracy"] for result in results]
    assert accuracies[0] != accuracies[1]
    assert float(row["accuracy"]) == pytest.approx(statistics.fmean(accuracies))
    assert float(row["accuracy_sd"]) == pytest.approx(statistics.stdev(accuracies))
    assert float(row["seconds"]) == pytest.approx(statistics.fmean(result["seconds"] for result in results))
    shown = ("model", "data", "changes", "parameters", "macs", "seeds", "epochs", "measured_on")
    assert [row[name] for name in shown] == [
        *("lenet", "mnist_5k", "data.image_size=28", "61706", "416520", "2", "1", "validation")
    ]


def test_table_lists_failed_jobs_with_their_reason(sweep: Sweep) -> None:
    failed = [row for row in sweep.rows if row["reason"]]
    assert [(row["model"], row["changes"], row["seeds"]) for row in failed] == [
        ("lenet", "data.image_size=8", "0"),
        ("lenet", "data.image_size=8", "1"),
    ]
    for row in failed:
        assert "image_size" in row["reason"]
        assert row["status"] == "failed"
        assert not row["accuracy"]


def test_table_is_also_there_to_read_and_to_look_at(sweep: Sweep) -> None:
    text = (sweep.folder / "leaderboard.md").read_text()
    (row,) = (row for row in sweep.rows if not row["reason"])
    mean, deviation = (100 * float(row[name]) for name in ("accuracy", "accuracy_sd"))
    assert f"| {mean:.2f} +- {deviation:.2f} (val) |" in text
    assert "failed: ValueError" in text
    assert "Device: cpu" in text
    with Image.open(sweep.folder / "leaderboard.png") as picture:
        assert min(picture.size) > 300
    assert f"table        outputs/sweeps/{sweep.folder.name}/leaderboard.md" in sweep.outcome.out


@pytest.mark.extended
def test_jobs_of_a_sweep_can_be_tested_and_resumed(sweep: Sweep) -> None:
    best = sweep.jobs[2] / "checkpoints" / "best.ckpt"
    run_well("task=test", f"ckpt_path={best}")
    (tested,) = Path("outputs/lenet/mnist_5k").iterdir()
    assert results_of(tested)["val/accuracy"] == results_of(sweep.jobs[2])["val/accuracy"]
    before = results_of(sweep.jobs[2])
    run_well(f"ckpt_path={best.with_name('last.ckpt')}")
    assert results_of(sweep.jobs[2])["val/accuracy"] == before["val/accuracy"]


def test_leaderboard_over_a_folder_of_runs_gives_the_same_table(sweep: Sweep) -> None:
    outcome = run_well("task=leaderboard", f"task.runs={sweep.folder}", "task.failed=true")
    (table,) = Path("outputs").rglob("leaderboard.csv")
    tables = [
        [row | {"folder": "", "checkpoint": ""} for row in table_in(folder)] for folder in (table.parent, sweep.folder)
    ]
    assert tables[0] == tables[1]
    assert "lenet" in outcome.out


@pytest.mark.extended
def test_job_whose_value_is_refused_before_it_begins_is_in_the_table_too(tmp_path: Path) -> None:
    refused = Sweep(run("-m", "model=lenet", "compile=perhaps,false", *SHORT), tmp_path)
    assert refused.outcome.status == 1
    (reason,) = (row["reason"] for row in refused.rows if row["reason"])
    assert "compile=perhaps" in reason
    [failed] = (job for job in refused.jobs if results_of(job)["status"] == "failed")
    assert refused.outcome.err.startswith(f"{failed.name}: Error: compile=perhaps")
    run_well("task=runs", "task.delete=failed", "task.yes=true")
    assert not failed.exists()


@pytest.mark.extended
def test_sweep_without_failures_ends_with_status_0_and_objectives_for_a_sweeper(tmp_path: Path) -> None:
    done = Sweep(run_well("-m", "model=lenet", "seed=3", *SHORT), tmp_path)
    (row,) = done.rows
    assert row["accuracy_sd"] == ""  # of one seed there is none
    assert float(row["accuracy"]) == pytest.approx(results_of(done.jobs[0])["objective"])


TELLS_ITS_MODULES = """
import runpy, sys
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("loaded:", sorted({"torch", "lightning", "torchvision", "torchmetrics"} & sys.modules.keys()))
"""


@pytest.mark.extended
def test_two_jobs_at_once_share_a_sweep(tmp_path: Path) -> None:
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "data/augment=crop,none")
    outcome = finish(start("-m", "model=lenet", *SHORT, *parallel, before=("-c", TELLS_ITS_MODULES)))
    assert outcome.status == 0, outcome.err
    assert "loaded: []" in outcome.out  # the process that waits for the jobs needs none of their packages
    done = Sweep(outcome, tmp_path)
    accuracies = {str(results_of(job)["val/accuracy"]) for job in done.jobs}
    assert len(accuracies) == 2
    assert {row["accuracy"] for row in done.rows} == accuracies
    assert {row["changes"] for row in done.rows} == {"data/augment=crop", "data/augment=none"}
    assert [job.name[4:] for job in done.jobs] == [f"lenet_mnist_5k_data_augment-{name}" for name in ("crop", "none")]


def test_sweep_with_an_unknown_model_leaves_nothing_behind() -> None:
    outcome = run("-m", "model=lenet,nope")
    assert outcome.status == 2
    assert "model=nope" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(Path().glob("outputs/sweeps/*"))


@pytest.mark.parametrize("name", [".hydra", "checkpoints", "results.json"])
def test_a_sweep_does_not_go_on_through_a_link_in_a_job(name: str) -> None:
    sweep = ("-m", "task=summarize", "model=lenet", "data=mnist_5k", "hydra.sweep.dir=sweep")
    run_well(*sweep)
    (job,) = (path for path in Path("sweep").iterdir() if path.is_dir())
    (job / "results.json").unlink()
    Path("mine").mkdir()
    Path("mine", "config.yaml").write_text("mine\n")
    if (job / name).exists():
        shutil.move(job / name, f"old{name}")
    (job / name).symlink_to(Path("mine").resolve())
    outcome = run(*sweep)
    assert outcome.status == 2
    assert f"{job / name}: a link out of the run's folder" in outcome.err
    assert [path.name for path in Path("mine").iterdir()] == ["config.yaml"]
    assert Path("mine", "config.yaml").read_text() == "mine\n"


@pytest.mark.parametrize(
    "strategy", ["auto", "ddp", "ddp_find_unused_parameters_true", "fsdp", "ddp_spawn", "ddp_fork"]
)
@pytest.mark.parametrize("devices", [1, 2, "2", [0], [0, 1], "auto"])
def test_a_sweep_takes_several_devices_only_by_strategies_that_do_not_start_it_again(
    strategy: str, devices: Any
) -> None:
    trainer = OmegaConf.create({"accelerator": "cpu", "devices": devices, "strategy": strategy})
    if devices in (2, "2", [0, 1]) and strategy not in ("ddp_spawn", "ddp_fork"):
        with pytest.raises(ConfigError, match=f"trainer.strategy={strategy}.*: use ddp_spawn or ddp_fork there"):
            check_strategy(trainer)
    else:
        check_strategy(trainer)


def test_a_sweep_over_several_devices_is_refused_where_it_would_start_again() -> None:
    outcome = run("-m", "model=lenet", *PLAIN, "trainer.devices=2", "seed=0,1")
    assert outcome.status == 1
    assert outcome.err.count("trainer.strategy") == 2
    assert len([*Path("outputs/sweeps").iterdir()]) == 1
