"""A sweep that was stopped or killed goes on with its own command: what has finished stays, the rest is done."""

import shlex
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import PLAIN, Outcome, finish, results_of, run, run_well, start
from stopping import LENET, STATUS, assert_same_end, stop, training_step

from classic_cnn.lenet import LeNet5
from tasks.sweeps import sweep_folder

pytestmark = pytest.mark.extended

SEEDS = (*LENET, "trainer.max_epochs=2", "seed=0,1,2")  # 20 steps each
LONGER = ("model=lenet", *PLAIN, "data.train_images_per_class=50", "data.batch_size=5", "trainer.max_epochs=3")
PARALLEL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def jobs(place: Path = Path()) -> list[Path]:
    """The folders of the only sweep's jobs."""
    (sweep,) = (place / "outputs" / "sweeps").iterdir()
    return sorted(path.absolute() for path in sweep.iterdir() if path.is_dir())


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def interrupted(place: Path, number: signal.Signals, jobs: tuple[str, ...], *more: str) -> Outcome:
    """The end of a sweep that gets a signal as soon as these jobs have finished an epoch."""
    process = start("-m", *LONGER, "seed=0,1", *more, place=place)
    end = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < end:
        if all(list(place.rglob(f"{job}*/checkpoints/last.ckpt")) for job in jobs):
            break
        time.sleep(0.02)
    process.send_signal(number)
    return finish(process)


@pytest.fixture(scope="module", autouse=True)
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Path, Future[Outcome]]]]:
    """A sweep that is killed and one of two jobs at once that is stopped, while the other tests do their part."""
    alone, parallel = (tmp_path_factory.mktemp(name) for name in ("alone", "parallel"))
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(interrupted, alone, signal.SIGKILL, ("001",))
        stopped = pool.submit(interrupted, parallel, signal.SIGTERM, ("000", "001"), *PARALLEL)
        yield [(alone, killed), (parallel, stopped)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run_well("-m", *SEEDS)
    return jobs(place)


def command_in(outcome: Outcome) -> list[str]:
    """What a stopped sweep says how to go on, as arguments of run.py."""
    advice, _, command = outcome.out.splitlines()[-1].partition("python run.py ")
    assert advice == "To go on with the sweep: "
    return shlex.split(command)


def test_stopped_sweep_goes_on_to_the_same_end(uninterrupted: list[Path]) -> None:
    outcome = stop(("-m", *SEEDS), training_step(34, LeNet5), signal.SIGINT)
    assert outcome.status == STATUS[signal.SIGINT]
    assert [results_of(job)["status"] for job in jobs()] == ["finished", "interrupted"]
    finished = snapshot(jobs()[0])
    done = run_well(*command_in(outcome))
    assert snapshot(jobs()[0]) == finished
    for job, reference in zip(jobs(), uninterrupted, strict=True):
        assert job.name == reference.name
        assert_same_end(job, reference)
    assert "leaderboard.md" in done.out
    before = [snapshot(job) for job in jobs()]
    run_well(*command_in(outcome))
    assert [snapshot(job) for job in jobs()] == before


def test_job_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LeNet5, "training_step", lambda *arguments: 1 / 0)
        outcome = run("-m", *SEEDS)
    assert outcome.status == 1
    assert [results_of(job)["status"] for job in jobs()] == ["failed"] * 3
    run_well("-m", *SEEDS, f"hydra.sweep.dir={jobs()[0].parent}")
    assert [results_of(job)["status"] for job in jobs()] == ["finished"] * 3


def test_another_sweep_or_no_sweep_is_refused(uninterrupted: list[Path], tmp_path: Path) -> None:
    sweep, damaged, other = uninterrupted[0].parent, tmp_path / "damaged", tmp_path / "other"
    for folder, text in ((damaged, "{"), (other, "a person's")):
        folder.mkdir()
        (folder / ("sweep.json" if folder == damaged else "note.txt")).write_text(text)
    before = [snapshot(folder) for folder in (sweep, damaged, other)]
    changed = (
        SEEDS[:-1],
        (*SEEDS[:-1], "seed=0,1"),
        (*SEEDS, "compile=true"),
        (*SEEDS, "hydra.sweeper.max_batch_size=2"),
    )
    trials = [(command, sweep) for command in changed] + [(SEEDS, damaged), (SEEDS, other)]
    for command, folder in trials:
        outcome = run("-m", *command, f"hydra.sweep.dir={folder}")
        assert outcome.status == 2
        assert outcome.err.count("\n") == 1
        assert str(folder) in outcome.err
    assert [snapshot(folder) for folder in (sweep, damaged, other)] == before


def test_sweep_does_not_write_through_a_link(uninterrupted: list[Path], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_bytes((uninterrupted[0].parent / "sweep.json").read_bytes())
    (sweep / uninterrupted[0].name).symlink_to(victim)
    outcome = run("-m", *SEEDS, f"hydra.sweep.dir={sweep}")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert str(sweep / uninterrupted[0].name) in outcome.err
    assert not list(victim.iterdir())


def test_folder_of_a_sweep_tells_its_name_and_experiment() -> None:
    assert sweep_folder(["++name=first", "experiment=lenet_relu", "seed=0,1"]).endswith("_lenet_relu_first")
    assert sweep_folder(["experiment=lenet_mnist,lenet_relu"])[-1].isdigit()


def test_killed_sweep_goes_on(ends: list[tuple[Path, Future[Outcome]]], monkeypatch: pytest.MonkeyPatch) -> None:
    place, end = ends[0]
    assert end.result().status == -signal.SIGKILL
    monkeypatch.chdir(place)
    finished, half_done = jobs()
    assert not (half_done / "results.json").exists()
    before = snapshot(finished)
    outcome = run_well("-m", *LONGER, "seed=0,1", f"hydra.sweep.dir={finished.parent}")
    assert snapshot(finished) == before
    assert results_of(half_done)["epochs"] == 3
    assert "1 of its 2 jobs" in outcome.out


def test_parallel_sweep_stops_with_all_its_jobs_and_goes_on(
    ends: list[tuple[Path, Future[Outcome]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, end = ends[1]
    outcome = end.result()
    assert (outcome.status, outcome.err) == (143, "")
    monkeypatch.chdir(place)
    assert set(PARALLEL) < set(command_in(outcome))
    assert {results_of(job)["status"] for job in jobs()} <= {"interrupted", "finished"}
    run_well(*[text for text in command_in(outcome) if text not in PARALLEL])
    assert [results_of(job)["epochs"] for job in jobs()] == [3, 3]
