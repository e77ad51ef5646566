"""The table over finished runs, and what it says of those that did not finish or left something odd."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import PLAIN, run, run_well
from conftest import ROOT

from tasks.folders import lock
from tasks.leaderboard import SHOWN, write_table
from tasks.leaderboard_plot import draw
from tasks.leaderboard_rows import make_rows, summarize
from tasks.plots import save_plot
from tasks.run_records import collect, read_run
from tasks.tables import Table

RECORD = {
    **{"status": "finished", "task": "train", "model": "lenet", "data": "mnist", "experiment": None, "seed": 0},
    **{"overrides": ["model=lenet"], "parameters": 61_706, "macs": 416_520, "seconds": 9.5, "epochs": 3},
    **{"images_per_second": 9_000.0, "device": "cpu, 1 thread", "precision": "32-true", "test/accuracy": 0.99},
}


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv", newline="") as file:
        return list(csv.DictReader(file))


def leave_run(folder: Path | str, content: str | bytes | None, overrides: str = "- model=lenet\n- seed=3\n") -> Path:
    """A run's folder with this results.json, or without one."""
    folder = Path(folder)
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(overrides)
    if content is not None:
        (folder / "results.json").write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def changed(**changes: Any) -> str:
    return json.dumps(RECORD | {key.replace("__", "/"): value for key, value in changes.items()})


def write_all(runs: str) -> None:
    write_table(Path(runs), Path(), make_rows(collect(Path(runs))))


WRONG: list[Any] = ["nan", "", [], {}, True, [[[]]], {"a": {"b": []}}, float("nan"), float("inf"), -1, 10**400, 1e308]
GOOD = json.dumps(RECORD)
ODD: list[str | bytes] = [
    *(
        "",
        " ",
        "null",
        "3",
        '"finished"',
        "[]",
        "[{}]",
        "{}",
        "{]",
        "\0",
        GOOD[:-1],
        GOOD[: len(GOOD) // 2],
        GOOD + "}",
    ),
    *(b"\xff\xfe\0", GOOD.encode("utf-16"), "[" * 100_000, '{"status":' * 50_000, f'{{"seed": {"9" * 10_000}}}'),
    *(changed(status=value) for value in (None, "done", *WRONG)),
    *(changed(test__accuracy=value) for value in (None, 1.01, *WRONG)),
    *(changed(parameters=value) for value in WRONG),
    *(changed(seconds=value) for value in WRONG),
    *(changed(test__fid=value) for value in WRONG if value != -1),
    *(changed(model=value) for value in WRONG if not isinstance(value, str)),
    *(changed(overrides=value) for value in (None, "model=lenet", [1], [None], {"a": 1}, 5)),
    *(changed(seed=value) for value in [*WRONG[:1], *WRONG[2:4]]),
    *(changed(**{key: "\ud800"}) for key in ("model", "data", "name", "best_checkpoint")),
    *(changed(task=value) for value in (None, *WRONG[2:4])),
]


def test_a_repeated_run_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    for number, (seed, accuracy) in enumerate([(0, 0.9), (1, 0.7), (0, 0.8)]):
        started = f"2026-01-01T00:00:0{number}+0000"
        leave_run(f"runs/{number}", changed(seed=seed, test__accuracy=accuracy, started=started))
    write_all("runs")
    (row,) = rows(Path())
    assert row["seeds"] == "2"
    assert float(row["accuracy"]) == pytest.approx(0.75)


@pytest.mark.parametrize("number", range(len(ODD)))
def test_odd_record_is_named_and_left_out_and_the_others_are_shown(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_run("runs/good", GOOD)
    odd = leave_run("runs/odd", ODD[number])
    record = read_run(odd)
    assert (record["status"], record["folder"]) == ("unknown", str(odd))
    assert record["reason"].startswith("results.json: ")
    assert len(record["reason"]) < 200
    table = make_rows([read_run(Path("runs/good")), record])
    assert [(row["status"], row["model"]) for row in table] == [("finished", "lenet"), ("unknown", "lenet")]


def test_run_of_a_checkpoint_with_a_name_longer_than_a_file_can_have_is_shown_without_it() -> None:
    leave_run("runs/one", changed(best_checkpoint="a" * 300))
    [row] = make_rows([read_run(Path("runs/one"))])
    assert (row["status"], row["checkpoint"]) == ("finished", "")


def test_table_with_odd_runs_is_written_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    leave_run("runs/good", GOOD)
    leave_run("runs/a_list", "[]")
    leave_run("runs/killed", None)
    leave_run("runs/no_words", changed(status="interrupted", reason="stopped by SIGTERM"), overrides="\0- [\n: {")
    (leave_run("runs/folder", None) / "results.json").mkdir()
    (leave_run("runs/link", None) / "results.json").symlink_to("results.json")
    write_all("runs")
    out = capsys.readouterr().out
    for name in ("a_list", "killed", "no_words", "folder", "link"):
        assert f"(runs/{name})" in out
    assert [row["status"] for row in rows(Path())].count("unknown") == 3
    assert "99.00" in Path("leaderboard.md").read_text()


def test_text_from_outside_is_shown_as_it_is_and_breaks_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "+x=[/red]|<img src=http://example.org>\n![a](b)\x1b[2J$\\frac$"
    leave_run("runs/a", changed(overrides=[hostile], model=hostile))
    leave_run("runs/b", changed(status="failed", reason=hostile, overrides=[hostile]))
    leave_run("runs/c", GOOD)
    write_all("runs")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[/red]" in out
    lines = Path("leaderboard.md").read_text().splitlines()
    cells = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert len(cells) == 1
    assert not any("<" in line or "![" in line or "\x1b" in line for line in lines)
    assert f"'{hostile}" in {row["changes"] for row in rows(Path())}


@pytest.mark.parametrize("name", ["a\udce9b", "c\u202ed", "e\nf"])
def test_folder_of_an_odd_name_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(Path(name, "run"), None)
    write_all(name)
    capsys.readouterr().out.encode()
    assert len(rows(Path())) == 1


@pytest.mark.extended
def test_leaderboard_task_collects_every_finished_run_below_a_folder() -> None:
    small = (*PLAIN, "~callbacks.progress_bar", "trainer.max_epochs=1")
    run_well(*small)
    run_well(*small, "seed=1")
    run_well(*small, "model.optimizer.lr=0.01")
    outcome = run_well("task=leaderboard")
    (folder,) = Path("outputs/leaderboard").iterdir()
    table = rows(folder)
    assert sorted((row["changes"], row["seeds"]) for row in table) == [("", "2"), ("model.optimizer.lr=0.01", "1")]
    assert "61.7 k" in outcome.out


@pytest.mark.extended
def test_runs_are_filtered_and_failed_ones_shown_only_on_request() -> None:
    leave_run("outputs/a", changed(tags=["paper", "old"], name="first"))
    leave_run("outputs/b", changed(data="fashion_mnist", tags=["paper"]))
    leave_run("outputs/c", changed(model="vgg", status="failed", reason="out of memory", tags=["paper"]))
    cases: list[tuple[str, list[str], int]] = [
        ("task.model=lenet", ["fashion_mnist", "mnist"], 0),
        ("task.data=mnist", ["mnist"], 1),
        ("task.tag=old", ["mnist"], 0),
        ("task.failed=true", ["fashion_mnist", "mnist", "mnist"], 0),
    ]
    for number, (option, data, hidden) in enumerate(cases):
        outcome = run_well("task=leaderboard", option, f"name=table{number}")
        (folder,) = Path("outputs/leaderboard").glob(f"*_table{number}")
        table = rows(folder)
        assert [row["data"] for row in table] == data
        assert ("task.failed=true" in outcome.out) == bool(hidden)
        assert [row["folder"] for row in table if row["status"] == "failed"] == ["outputs/c"] * (number == 3)
    assert (table[1]["name"], table[1]["tags"]) == ("first", "paper old")
    for option in ("task.model=alexnet", "task.tag=new"):
        refused = run("task=leaderboard", option)
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert option in refused.err


@pytest.mark.extended
def test_row_names_the_best_checkpoint_of_its_seeds_where_it_lies_now(trained: Path) -> None:
    for seed, objective in ((0, 0.98), (1, 0.99), (2, 0.97)):
        best = {
            "best_checkpoint": "/elsewhere/checkpoints/best.ckpt",
            "objective": objective,
            "val/accuracy": objective,
        }
        folder = leave_run(f"runs/{seed}", json.dumps(RECORD | best | {"seed": seed}))
        (folder / "checkpoints").symlink_to(trained / "checkpoints")
    write_all("runs")
    (row,) = rows(Path())
    assert (row["folder"], row["checkpoint"]) == ("runs/1", "runs/1/checkpoints/best.ckpt")
    metrics = {"objective": 20.0, "val/fid": 20.0}
    better = RECORD | {"best_checkpoint": "x", "objective": 10.0, "val/fid": 10.0, "folder": "better"}
    assert summarize(("gan", "mnist", "", "", "cpu"), [RECORD | metrics | {"folder": "a"}, better | {"seed": 1}])[
        "folder"
    ] == ("better")


def test_folder_is_shown_where_the_terminal_is_wide_enough(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_run("runs/in_a_folder", GOOD)
    write_all("runs")
    monkeypatch.setenv("COLUMNS", "80")
    Table(SHOWN, make_rows(collect(Path("runs")))).without_empty_columns().print(min_width=60)
    wide, narrow = capsys.readouterr().out.split("dashboard")
    assert "runs/in_a_folder" in wide
    assert "not shown" not in wide
    assert "in_a_folder" not in narrow
    assert "not shown    folder: " in narrow
    assert "lenet" in narrow


def test_leaderboard_imports_no_framework() -> None:
    leave_run("outputs/a", GOOD)
    code = "import sys; sys.argv = ['run.py', 'task=leaderboard']; import runpy; "
    code += f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__'); "
    code += "print(sorted({'torch', 'lightning', 'pandas', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_run_that_was_killed_is_listed_as_such() -> None:
    leave_run("outputs/a", None)
    outcome = run("task=leaderboard", "task.failed=true")
    assert "no results.json: killed, or the computer stopped" in outcome.out


def test_run_in_progress_is_listed_as_such() -> None:
    leave_run("outputs/a", None)
    (Path("outputs/a") / ".hydra" / "config.yaml").touch()
    held = lock(Path("outputs/a"))
    assert read_run(Path("outputs/a"))["status"] == "running"
    assert "a process is writing into it" in run("task=leaderboard", "task.failed=true").out
    held.release()
    assert read_run(Path("outputs/a"))["status"] == "killed"


def test_killed_run_is_found_by_the_model_that_its_config_names() -> None:
    leave_run("outputs/a", None, "- seed=3\n")
    config = Path("outputs/a/.hydra/config.yaml")
    config.write_text("model:\n  model: no\nchoices:\n  model: vgg\n  data: mnist_5k\n  experiment: null\nseed: 0\n")
    record = read_run(Path("outputs/a"))
    assert (record["status"], record["model"], record["data"]) == ("killed", "vgg", "mnist_5k")
    config.write_text("choices:\n  model: [1]\n\x1b")
    assert "data" not in read_run(Path("outputs/a"))
    config.unlink()
    assert read_run(Path("outputs/a"))["status"] == "killed"


def test_plot_shows_the_rows_that_have_what_it_needs() -> None:
    needed = ("status", "task", "model", "data", "macs")
    for number, key in enumerate(RECORD.keys() - {"status", "macs"}):
        leave_run(f"runs/{number}-lacks", json.dumps({name: RECORD[name] for name in RECORD if name != key}))
        leave_run(f"runs/{number}-has", json.dumps({name: RECORD[name] for name in RECORD if name in (*needed, key)}))
    records = collect(Path("runs"))
    assert len(records) == 2 * (len(RECORD) - 2)
    for shown in [records, *([record] for record in records)]:
        draw(make_rows(shown))
    save_plot(draw(make_rows(records)), Path("plot.png"))


def test_leaderboard_of_a_run_without_a_score_is_written() -> None:
    leave_run("outputs/a", json.dumps({"status": "finished", "task": "train", "model": "m", "data": "d", "macs": 5}))
    assert "leaderboard.md" in run_well("task=leaderboard").out


def test_plot_has_a_panel_per_data_set_and_measure_and_keeps_to_its_limits() -> None:
    for number in range(12):
        long_name = ["model.optimizer.lr=0.0123 $x$ " * 10, f"n={number}"]
        record = changed(seed=number, overrides=long_name, test__accuracy=1.0 - number / 1000)
        leave_run(f"runs/{number}", record)
    leave_run("runs/again", changed(overrides=["n=3"], test__accuracy=0.9))
    gan = {key: value for key, value in RECORD.items() if key != "test/accuracy"}
    leave_run("runs/gan", json.dumps(gan | {"model": "gan", "test/fid": 30.0, "test/fid_floor": 2.0}))
    table = make_rows([read_run(path) for path in sorted(Path("runs").iterdir())])
    figure = draw(table)
    accuracy, fid = figure.axes
    assert accuracy.get_ylim()[1] <= 100
    assert "FID" in fid.get_ylabel()
    figure.savefig("plot.png")
    box = figure.bbox
    for axes in figure.axes:
        for text in [*axes.texts, *(legend.get_texts() if (legend := axes.get_legend()) else [])]:
            place = text.get_window_extent()
            assert box.x0 <= place.x0
            assert place.x1 <= box.x1
            others = [other.get_tightbbox() for other in figure.axes if other is not axes]
            assert not any(place.overlaps(other) for other in others if other is not None)


def test_rows_of_one_cost_stand_side_by_side_in_the_plot() -> None:
    for number, accuracy in enumerate((0.97, 0.98, 0.99)):
        leave_run(f"runs/{number}", changed(overrides=[f"model.dropout={number}"], test__accuracy=accuracy))
    [axes] = draw(make_rows(collect(Path("runs")))).axes
    assert sorted(np.asarray(dots.get_offsets())[0, 0] for dots in axes.collections) == [1, 2, 3]
    assert "number of the row" in axes.get_xlabel()


def test_rows_are_ranked_by_what_each_kind_of_net_is_judged_by() -> None:
    scores: list[tuple[str, float]] = [
        *(("accuracy", 0.9), ("accuracy", 0.99), ("fid", 30.0), ("fid", 9.0), ("modes", 5.0), ("modes", 8.0))
    ]
    plain = {key: value for key, value in RECORD.items() if key != "test/accuracy"}
    records = [
        plain | {"data": name, f"test/{name}": value, "seed": n, "overrides": [f"n={n}"], "folder": f"{n}"}
        for n, (name, value) in enumerate(scores)
    ]
    rows = [(row["data"], row[row["data"]]) for row in make_rows(records)]
    assert rows == [("accuracy", 0.99), ("accuracy", 0.9), ("fid", 9), ("fid", 30), ("modes", 8), ("modes", 5)]
