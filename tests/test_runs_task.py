"""task=runs: runs are listed, compared and deleted, and nothing that a person left in a folder is lost."""

import io
import math
import os
import pty
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import PLAIN, only_run, results_of, run, run_well
from conftest import ROOT
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from test_leaderboard import GOOD, changed, leave_run

from gan.callbacks.sample_plots import whole
from tasks.results import is_temporary
from tasks.runs import WRITTEN, fault_of
from tasks.runs_compare import compare_runs, read_config, read_curves

SHORT = ("model=lenet", *PLAIN, "~callbacks.progress_bar", "trainer.max_epochs=2", "trainer.log_every_n_steps=5")


def left(folder: Path | str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def record(*contents: bytes) -> bytes:
    """A file of TensorBoard's that holds these."""
    written = io.BytesIO()
    for content in contents:
        RecordWriter(written).write(content)
    return written.getvalue()


def scalar(step: int, value: float) -> Event:
    return Event(step=step, summary=Summary(value=[Summary.Value(tag="val/$loss", simple_value=value)]))


def leave_failed(folder: str) -> Path:
    """A run that failed, with all that it may have written."""
    path = leave_run(folder, changed(status="failed", reason="full disk"))
    (path / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    for name in ("events.out.tfevents.1.vm.1.0", "hparams.yaml", "interpolations.png", ".lock"):
        (path / name).write_text("")
    return path


def test_runs_are_listed_and_the_list_leaves_nothing_and_imports_no_framework() -> None:
    leave_run("outputs/a", changed(tags=["paper"], name="first", started="2026-01-02T00:00:00+0000"))
    leave_run("outputs/b", changed(model="vgg", status="failed", reason="x", started="2026-01-01T00:00:00+0000"))
    leave_run("outputs/c", None)
    before = left("outputs")
    code = "import sys; sys.argv = ['run.py', 'task=runs']; import runpy; "
    code += f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__'); "
    code += "print(sorted({'torch', 'lightning', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *table, modules = done.stdout.splitlines()
    assert modules == "[]"
    places = [next(n for n, line in enumerate(table) if f"outputs/{name}" in line) for name in "cba"]
    assert places == sorted(places)
    assert all(word in table[places[2]] for word in ("lenet", "first", "paper", "finished", "99.00 %"))
    assert "failed" in table[places[1]]
    assert left("outputs") - before <= {"runs"}
    assert not list(Path("outputs/runs").iterdir())


def test_list_is_filtered() -> None:
    leave_run("outputs/a", changed(tags=["paper"]))
    leave_run("outputs/b", changed(model="vgg"))
    for option, shown, hidden in (("task.tag=paper", "outputs/a", "outputs/b"), ("task.model=vgg", "/b", "/a")):
        out = run_well("task=runs", option).out
        assert shown in out
        assert hidden not in out
    refused = run("task=runs", "task.data=cifar")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "task.data=cifar" in refused.err


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("two runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run_well(*SHORT, "name=a", "tags=[first,small]", "description='a, b: c'")
        run_well(*SHORT, "name=b", "trainer/logger=csv", "model.optimizer.lr=0.01")
    return sorted((place / "outputs/lenet/mnist_5k").iterdir(), key=lambda path: path.name[-1])


@pytest.mark.extended
def test_name_tags_and_description_are_in_folder_and_results(two_runs: list[Path]) -> None:
    a, b = two_runs
    assert (a.name[-2:], b.name[-2:]) == ("_a", "_b")
    found = {key: results_of(a)[key] for key in ("name", "tags", "description")}
    assert found == {"name": "a", "tags": ["first", "small"], "description": "a, b: c"}
    assert results_of(b)["tags"] == []


def test_a_resumed_run_may_change_them_and_a_test_of_it_has_none(two_runs: list[Path]) -> None:
    last = two_runs[0] / "checkpoints" / "last.ckpt"
    run_well("task=test", f"ckpt_path={last}", "tags=[tested]")
    tested = results_of(only_run())
    assert (tested["name"], tested["tags"], tested["description"]) == (None, ["tested"], None)
    assert only_run().name.endswith("_test")
    run_well(f"ckpt_path={last}", "tags=[second]")
    again = results_of(two_runs[0])
    assert (again["name"], again["tags"], again["description"]) == ("a", ["second"], "a, b: c")


NO_NAMES = ("name=../x", "name=a b", "name=.x", "tags=a", "tags=[a/b]", "name=''", "name=x\u202e")


@pytest.mark.parametrize("option", NO_NAMES)
def test_a_name_that_is_none_is_refused(option: str) -> None:
    outcome = run(*SHORT, option)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert option.split("=")[0] in outcome.err
    assert not Path("outputs").exists()


def test_two_runs_are_compared(two_runs: list[Path]) -> None:
    a, b = two_runs
    outcome = run_well("task=runs", f"task.compare=['{a}','{b}']")
    (folder,) = Path("outputs/runs").iterdir()
    rows = {line.split(",")[0]: line.split(",")[1:] for line in (folder / "comparison.csv").read_text().splitlines()}
    assert rows["model.optimizer.lr"][1] == "0.01"
    assert rows["name"] == ["a", "b"]
    assert {"val/accuracy", "train/loss"} < rows.keys()
    assert not {"seed", "data.batch_size", "folder"} & rows.keys()
    assert "model.optimizer.lr" in outcome.out
    with Image.open(folder / "comparison.png") as picture:
        assert min(picture.size) > 300
    curves = [read_curves(path) for path in two_runs]  # TensorBoard's and CSV
    steps = [[step for step, _ in found["train/loss"]] for found in curves]
    assert steps[0][:4] == steps[1][:4] == [4, 9, 14, 19]


LONG = f"seed: 0x{'f' * 5000}\n"  # more digits than Python writes


@pytest.mark.parametrize(
    "text", ["a: &x [1]\nb: *x\n", "a: [", "!!python/object/apply:os.system [ls]", "- 1\n", "\0", LONG]
)
def test_odd_config_is_refused_in_one_line(text: str, two_runs: list[Path]) -> None:
    odd = leave_run("odd", GOOD)
    (odd / ".hydra" / "config.yaml").write_text(text)
    outcome = run("task=runs", f"task.compare=[odd,'{two_runs[0]}']")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "odd" in outcome.err
    assert not list(Path("outputs/runs").iterdir())


CURVES: dict[str, str | bytes] = {
    **{"a long cell": f"step,train/loss\n1,{'9' * 200_000}\n", "no rows": "step,train/loss\n", "nothing": ""},
    **{"zero bytes": "step,train/loss\n1,\0\n", "no text": b"\xff\xfe\x00" * 10, "an open quote": 'step,a/b\n1,"2\n3'},
    **{"more cells": "step,train/loss\n1,2,3,4\n2,3,4\n", "names twice": "step,step,a/b,a/b\n1,2,3,4\n2,3,4,5\n"},
    **{"odd numbers": "step,a/b\n1e308,1e308\n-1e308,-1e308\ninf,nan\n1e999,-0\n1e18,1e18\n0,-1e18\n"},
    **{"odd names": "step,a/$\\frac\n1,2\n2,3\n3,4\n", "carriage returns": "step,a/b\r1,2\r2,3\r3,4\r"},
}
EVENTS: dict[str, bytes] = {
    **{"nothing": b"", "noise": b"\xff" * 1000, "text": b"hello " * 100},
    "a record of noise": record(b"\xff" * 4),
    "odd numbers": record(
        *(scalar(step, value).SerializeToString() for step, value in ((2**62, 1e38), (-(2**62), -1e38), (0, math.nan)))
    ),
}


@pytest.mark.parametrize("name", CURVES)
def test_curves_of_any_csv_are_drawn_or_refused_in_one_line(
    name: str, two_runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text = CURVES[name]
    shutil.copytree(two_runs[1], "odd")
    Path("odd/csv_0/metrics.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    compare_odd("metrics.csv", is_refused=name == "a long cell")


@pytest.mark.parametrize("name", EVENTS)
def test_curves_of_any_events_are_drawn_or_refused_in_one_line(
    name: str, two_runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two_runs[0], "odd")
    for path in Path("odd").glob("events*"):
        path.unlink()
    Path("odd/events.out.tfevents.1.vm.1.0").write_bytes(EVENTS[name])
    compare_odd("events.out.tfevents", is_refused=name == "a record of noise")


def compare_odd(file: str, is_refused: bool) -> None:
    if is_refused:
        with pytest.raises(ValueError, match=rf"^odd.*{file}[^\n]+$"):
            compare_runs(Path("odd"), Path("odd"), Path())
        assert not list(Path().glob("comparison*"))
    else:
        compare_runs(Path("odd"), Path("odd"), Path())
        assert Path("comparison.csv").is_file()


@pytest.mark.extended
def test_pipe_in_the_place_of_curves_is_not_waited_for(two_runs: list[Path]) -> None:
    shutil.copytree(two_runs[1], "odd")
    Path("odd/csv_0/metrics.csv").unlink()
    os.mkfifo("odd/csv_0/metrics.csv")
    outcome = run("task=runs", "task.compare=[odd,odd]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "metrics.csv" in outcome.err


@pytest.mark.extended
def test_config_is_read_by_dotted_keys(two_runs: list[Path]) -> None:
    assert read_config(two_runs[1])["model.optimizer.lr"] == 0.01
    for value in ("[a]", "[a,b,c]", "a", "[outputs,none]"):
        assert run("task=runs", f"task.compare={value}").status == 2


def test_runs_that_ended_so_are_deleted_and_no_others() -> None:
    leave_failed("outputs/a")
    leave_failed("outputs/b")
    leave_run("outputs/good", GOOD)
    leave_run("outputs/killed", None)
    leave_run("outputs/stopped", changed(status="interrupted", reason="stopped by SIGTERM"))
    run_well("task=runs", "task.delete=failed", "task.yes=true")
    assert {path.name for path in Path("outputs").iterdir()} == {"good", "killed", "stopped", "runs"}
    run_well("task=runs", "task.delete=killed", "task.yes=true")
    assert {path.name for path in Path("outputs").iterdir()} == {
        "good",
        "killed",
        "stopped",
        "runs",
    }  # it has no config
    (Path("outputs/killed/.hydra/config.yaml")).write_text("seed: 0\n")
    run_well("task=runs", "task.delete=killed", "task.yes=true")
    assert {path.name for path in Path("outputs").iterdir()} == {"good", "stopped", "runs"}


@pytest.mark.parametrize("added", ["notes.txt", "checkpoints"])
def test_record_of_a_job_that_was_refused_is_deleted_if_nothing_else_is_there(added: str) -> None:
    for name in ("refused", "with_more"):
        leave_failed(f"outputs/{name}")
        shutil.rmtree(f"outputs/{name}/.hydra")
    for path in Path("outputs/refused").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "results.json":
            path.unlink()
    Path("outputs/with_more", added).mkdir(exist_ok=True)
    before = left(Path("outputs/with_more"))
    out = run_well("task=runs", "task.delete=failed", "task.yes=true").out
    assert not Path("outputs/refused").exists()
    assert left(Path("outputs/with_more")) == before
    assert "with_more: not the folder of a run" in out


@pytest.mark.extended
def test_nothing_is_deleted_without_being_asked_or_without_a_yes() -> None:
    folder = leave_failed("outputs/a")
    before = left(folder)
    refused = run("task=runs", "task.delete=failed")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "task.yes=true" in refused.err
    for answer, stays in ((b"n\n", True), (b"\n", True), (b"y\n", False)):
        controller, terminal = pty.openpty()
        os.write(controller, answer)
        command = [sys.executable, str(ROOT / "run.py"), "task=runs", "task.delete=failed"]
        subprocess.run(command, stdin=terminal, capture_output=True, check=True)
        os.close(controller)
        os.close(terminal)
        assert folder.exists() == stays
        assert not stays or left(folder) == before


PERSONS = {
    "a note": lambda folder: (folder / "notes.txt").write_text("good idea"),
    "a note among the checkpoints": lambda folder: (folder / "checkpoints" / "read.me").write_text("keep"),
    "a plot made later": lambda folder: touch_later(folder / "my plot.png"),
    "an old picture": lambda folder: touch_later(folder / "holiday.png", hours=-1000),
    "a checkpoint put there later": lambda folder: touch_later(folder / "checkpoints" / "mine.ckpt"),
    "a link": lambda folder: (folder / "data.png").symlink_to("/etc/hostname"),
    "a linked folder": lambda folder: (folder / "samples").symlink_to("/etc"),
    "a link to nothing": lambda folder: (folder / "events.out.tfevents.2.vm.1.0").symlink_to("missing"),
    "a last checkpoint elsewhere": lambda folder: link(folder / "checkpoints" / "last.ckpt"),
    "an empty folder": lambda folder: (folder / "ideas").mkdir(),
    "an empty folder within": lambda folder: (folder / "checkpoints" / "mine").mkdir(),
    "another run": lambda folder: leave_run(folder / "inner", GOOD),
    "no config": lambda folder: (folder / ".hydra" / "config.yaml").unlink(),
    "a config that was edited": lambda folder: touch_later(folder / ".hydra" / "config.yaml"),
    "a linked config": lambda folder: link(folder / ".hydra" / "config.yaml"),
}


def touch_later(path: Path, hours: float = 1) -> None:
    path.touch()
    later = path.stat().st_mtime + 3600 * hours
    os.utime(path, (later, later))


def link(path: Path) -> None:
    path.rename("elsewhere")
    path.symlink_to(Path("elsewhere").absolute())


@pytest.mark.parametrize("what", PERSONS)
@pytest.mark.parametrize("ended", ["failed", "killed"])
def test_folder_that_holds_something_of_a_person_stays(what: str, ended: str) -> None:
    folder = leave_failed("outputs/a")
    if ended == "killed":
        (folder / "results.json").unlink()
    PERSONS[what](folder)
    before = left(folder)
    outcome = run_well("task=runs", f"task.delete={ended}", "task.yes=true")
    assert left(folder) == before
    assert "keep " in outcome.out


@pytest.mark.parametrize("name", ["summary.md", "checkpoints/mine.ckpt", "samples/step_1.png"])
@pytest.mark.parametrize("ended", ["failed", "killed"])
def test_old_file_that_came_after_the_run_stays(name: str, ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mv`, `cp -p` and archives keep the time at which a file was written."""
    monkeypatch.setattr("tasks.runs.SECONDS", 0.3)
    folder = leave_failed("outputs/a")
    (folder / "samples").mkdir()
    if ended == "killed":
        (folder / "results.json").unlink()
    assert fault_of(folder) is None
    time.sleep(0.5)
    old = Path("mine")
    touch_later(old, hours=-1000)
    old.rename(folder / name)
    before = left(folder)
    assert "was changed after the run" in run_well("task=runs", f"task.delete={ended}", "task.yes=true").out
    assert left(folder) == before


def test_run_that_cannot_be_read_keeps_no_other_from_being_deleted() -> None:
    leave_failed("outputs/good")
    for name in ("a", "z"):
        (leave_failed(f"outputs/{name}") / "results.json").unlink()
        PERSONS["a link to nothing"](Path("outputs", name))
    (Path("outputs/good") / "results.json").unlink()
    out = run_well("task=runs", "task.delete=killed", "task.yes=true").out
    assert out.count("keep ") == 2
    assert {path.name for path in Path("outputs").iterdir()} == {"a", "z", "runs"}


@pytest.mark.parametrize("folder", ["checkpoints", "samples", "generated", "first", "first/.hydra", "csv_0"])
def test_empty_folder_that_a_killed_run_left_counts_as_the_runs(folder: str) -> None:
    run_folder = leave_failed("outputs/a")
    shutil.rmtree(run_folder / folder, ignore_errors=True)
    (run_folder / folder).mkdir(parents=True)
    assert fault_of(run_folder) is None


def test_without_standard_input_nothing_is_deleted() -> None:
    leave_failed("outputs/a")
    command = [sys.executable, str(ROOT / "run.py"), "task=runs", "task.delete=failed"]
    closed = f"unset HYDRA_FULL_ERROR; exec {shlex.join(command)} <&-"
    done = subprocess.run(["sh", "-c", closed], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "task.yes=true" in done.stderr
    assert Path("outputs/a").exists()


def test_everything_that_runs_write_counts_as_theirs(trained: Path, two_runs: list[Path]) -> None:
    gan = ("model=gan", *PLAIN, "trainer.max_epochs=1", "model.network.width=0.1", "trainer.limit_val_batches=0")
    run_well(*gan, "~callbacks.evaluation", "hydra.run.dir=outputs/gan")
    run_well("task=publish", f"ckpt_path={trained}/checkpoints/best.ckpt", "hydra.run.dir=outputs/publish")
    profilers = ("trainer.profiler=simple", "hydra.run.dir=outputs/arm")
    run_well("experiment=claim/warm", "task.arm=from_vgg_11", "seed=0", "hydra.mode=RUN", *PLAIN, *profilers)
    new = [Path("outputs", name) for name in ("gan", "publish", "arm")]
    assert (new[2] / "first" / "checkpoints" / "best.ckpt").is_file()
    for folder in (trained, *two_runs, *new):
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        assert [name for name in names if not WRITTEN.fullmatch(name)] == []
    assert [fault_of(folder) for folder in new] == [None, None, None]


def test_what_a_killed_writer_left_counts_as_the_runs() -> None:
    folder = leave_failed("outputs/a")
    (folder / "checkpoints" / ".last.ckpt.123-456").write_bytes(b"half")
    run_well("task=runs", "task.delete=failed", "task.yes=true")
    assert not folder.exists()


def test_a_picture_that_finds_no_room_leaves_nothing_and_a_killed_one_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), whole(tmp_path / "samples.gif") as new:  # noqa: PT012
        new.write_bytes(b"half")
        assert is_temporary(new)
        raise OSError("full")
    assert not [*tmp_path.iterdir()]


def test_unfinished_record_of_odd_values_is_listed() -> None:
    leave_run("outputs/a", changed(status="failed", reason="x", **{"val/accuracy": "nan", "test/accuracy": [1]}))
    assert "failed" in run_well("task=runs").out
