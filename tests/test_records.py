"""Published runs: what becomes a record and what is refused, and that docs/league.md says what the records say."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import documents
import numpy as np
import pytest
import torch
from command_line import change, change_facts, results_of, run, run_well
from conftest import ROOT
from hostile import HOSTILE, leave_evil_module
from matplotlib.text import Text

from gan.scores.scoring_net import PRETRAINED
from tasks import machine as machine_module
from tasks import published_runs, records
from tasks.callbacks import TrainingClock
from tasks.league import make_row, make_rows, page, tables
from tasks.league_plot import draw_plots
from tasks.published_runs import RECORDS, published_groups, published_parts
from tasks.small_data_report import is_alike, is_part, make_table
from tasks.stale import compared
from tasks.tables import format_mean
from tasks.tries import published_tries


@pytest.fixture(scope="module")
def published(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the record of `finished`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("published"))
        patch.setattr(records, "ROOT", Path.cwd())
        Path("docs").mkdir()
        run_well("task=records", f"task.add=[{finished}]")
        return Path.cwd()


@pytest.mark.extended
def test_run_becomes_a_record_and_a_row_of_the_page(checkout: Path) -> None:
    outcome = run_well("task=records", "task.add=[runs]")
    assert "lenet" in outcome.out
    kept = {path.name for path in (checkout / "seed-0").iterdir()}
    assert kept == {"results.json", "config.json", "curves.csv"}
    assert not any(str(Path.cwd()) in path.read_text() for path in (checkout / "seed-0").iterdir())
    [group] = published_groups(Path.cwd())
    assert (group.experiment, group.data, len(group.runs)) == ("lenet_fast", "mnist", 1)
    assert len(group.runs[0]["curves"]["val/accuracy"]) == 2
    text = Path("docs/league.md").read_text()
    accuracy = results_of(Path("runs/one"))["test/accuracy"]
    assert f"| {100 * accuracy:.2f} |" in text
    assert "python run.py experiment=lenet_fast data.train_images_per_class=10" in text
    assert Path("docs/league_accuracy.png").is_file()
    run_well("task=leaderboard", "task.runs=published/runs")


@pytest.mark.extended
def test_a_run_whose_curves_cannot_be_read_leaves_nothing(checkout: Path) -> None:
    Path("runs/one/csv_1/metrics.csv").mkdir(parents=True)
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert not checkout.exists()
    shutil.copytree("runs/one", "runs/another")  # which comes first
    shutil.rmtree("runs/another/csv_1")
    change_facts(Path("runs/another"), seed=1)
    assert run("task=records", "task.add=[runs]").status == 2
    assert not checkout.exists()
    shutil.rmtree("runs/one/csv_1")
    run_well("task=records", "task.add=[runs]")


@pytest.mark.extended
def test_seeds_share_a_row_and_a_repeated_run_takes_its_place(checkout: Path) -> None:
    shutil.copytree("runs/one", "runs/two")
    change_facts(Path("runs/two"), seed=1)
    change(Path("runs/two"), **{"test/accuracy": 0.5})
    for _ in range(2):
        run_well("task=records", "task.add=[runs/one,runs/two]")
    assert {path.name for path in checkout.iterdir()} == {"seed-0", "seed-1"}
    [table] = tables(make_rows(published_groups(Path.cwd()))).values()
    assert [row["seeds"] for row in table.rows] == [2]


@pytest.mark.extended
def test_accuracy_with_mirror_images_has_a_column_where_it_was_measured(checkout: Path) -> None:
    for measured, expected in (({}, False), ({"test/accuracy_flip": 0.75}, True)):
        change(Path("runs/one"), **measured)
        run_well("task=records", "task.add=[runs]")
        [table] = tables(make_rows(published_groups(Path.cwd()))).values()
        assert ("with mirror images (%) |" in table.to_markdown()) == expected
        assert ("| 75.00 |" in table.to_markdown()) == expected


@pytest.mark.extended
@pytest.mark.parametrize(
    "changes",
    [
        {"machine": None},
        {"machine": {"processor": "`x`"}},
        {"experiment": "lenet_slow"},
        {"model": None},
        {"model": "[x](y)"},
        {"experiment": "../../x"},
        {"experiment": "claim/../lenet_fast"},
        {"data": "../x"},
        {"overrides": ["a\nb"]},
        {"test/accuracy": None},
        {"status": "failed"},
        {"seed": -1},
        {"seed": 0.5},
        *({"machine": "${x"}, {"overrides": "${x"}, {"device": None}),
        *({"seed": 1}, {"overrides": []}, {"model": "resnet"}, {"data": "fashion_mnist"}),  # not the checkpoint's
        {"experiment": "lenet_mnist"},
    ],
    ids=str,
)
def test_run_that_is_no_evidence_is_refused_in_one_line_before_anything_is_written(
    changes: dict[str, Any], checkout: Path
) -> None:
    change(Path("runs/one"), **changes)
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert not Path("published").exists()
    assert not list(Path("docs").iterdir())


@pytest.mark.parametrize("override", HOSTILE)
def test_record_runs_no_code_that_its_command_names_and_leaves_nothing(
    override: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    override = leave_evil_module(override, monkeypatch)
    overrides = [*results_of(Path("runs/one"))["overrides"], override]
    shutil.copytree("runs/one", "runs/two")
    change_facts(Path("runs/two"), seed=1, overrides=overrides)
    outcome = run("task=records", "task.add=[runs/two]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert "runs/two" in outcome.err
    assert not Path("published").exists()
    run_well("task=records", "task.add=[runs/one]")
    change(checkout / "seed-0", overrides=overrides)  # one that has come with a change of the project
    outcome = run("task=records", "task.add=[]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert "seed-0" in outcome.err
    assert not Path("made").exists()


@pytest.mark.parametrize("commit", [None, "1234567-dirty"])
def test_run_of_files_that_are_in_no_commit_is_refused(commit: str | None, checkout: Path) -> None:
    change(Path("runs/one"), machine=results_of(Path("runs/one"))["machine"] | {"commit": commit})
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "commit" in outcome.err
    assert not Path("published").exists()


OTHER = {"command": ["experiment=lenet_fast", "seed=1"], "recipe": None}


@pytest.mark.parametrize("what", OTHER)
@pytest.mark.parametrize("at_once", [True, False])
def test_run_that_differs_in_more_than_the_seed_is_refused(what: str, at_once: bool, checkout: Path) -> None:
    if not at_once:
        run_well("task=records", "task.add=[runs]")
    shutil.copytree("runs/one", "runs/two")
    change_facts(Path("runs/two"), seed=1, **({"overrides": OTHER[what]} if OTHER[what] else {}))
    if what == "recipe":
        change_checkpoint(Path("runs/two/checkpoints/last.ckpt"), lambda content: content["config"]["model"])
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert [path.name for path in checkout.iterdir()] == ["seed-0"] if checkout.exists() else at_once


OTHER_DEVICES = {
    "a GPU": lambda machine: {"machine": machine | {"gpu": "Some GPU"}, "device": "Some GPU"},
    "another processor": lambda machine: {"machine": machine | {"capability": "NEON"}},
}


@pytest.mark.parametrize("other", OTHER_DEVICES)
def test_runs_of_different_kinds_of_devices_are_no_row(other: str, checkout: Path) -> None:
    shutil.copytree("runs/one", "runs/two")
    machine = results_of(Path("runs/one"))["machine"]
    change_facts(Path("runs/two"), seed=1)
    change(Path("runs/two"), **OTHER_DEVICES[other](machine))
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert "kind of device" in outcome.err
    change(Path("runs/two"), device="cpu, 1 thread", machine=machine)
    run_well("task=records", "task.add=[runs]")
    change(checkout / "seed-1", **OTHER_DEVICES[other](machine))
    outcome = run("task=records")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome


def test_run_that_was_resumed_by_another_commit_is_no_record(checkout: Path) -> None:
    clock = TrainingClock()
    state = {"seconds": 1.0, "images": 1, "epochs": 1, "metrics": {}}
    clock.restore({"training_clock": {**state, "commits": [machine_module.commit()]}})
    assert "commits" not in clock.cost()
    clock.restore({"training_clock": {**state, "commits": ["1234567"]}})
    change(Path("runs/one"), commits=clock.cost()["commits"])
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert "several commits" in outcome.err


def test_run_on_a_processor_names_no_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Some GPU")
    assert [machine_module.machine(kind)["gpu"] for kind in ("cpu", "gpu", "auto")] == [None, "Some GPU", "Some GPU"]


def test_two_runs_of_one_seed_are_refused_and_one_that_is_named_twice_is_not(checkout: Path) -> None:
    run_well("task=records", "task.add=[runs,runs/one]")
    shutil.copytree("runs/one", "runs/two")
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert "leave one of them" in outcome.err


def change_checkpoint(path: Path, part: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    content = torch.load(path, weights_only=True)
    part(content)["label_smoothing"] = 0.3
    torch.save(content, path)


def test_run_with_a_file_of_the_machine_is_refused(checkout: Path) -> None:
    last = Path("runs/one/checkpoints/last.ckpt")
    content = torch.load(last, weights_only=True)
    torch.save(content | {"overrides": [*content["overrides"], "data.extra_train_path=/home/me/set.csv"]}, last)
    outcome = run("task=records", "task.add=[runs]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert "extra_train_path" in outcome.err
    assert not Path("published").exists()


def test_record_holds_nothing_but_what_is_known_of_a_run(checkout: Path) -> None:
    change(Path("runs/one"), secret="/home/me", **{"a/b": "<script>", "val/x": 0.5})
    run_well("task=records", "task.add=[runs]")
    text = (checkout / "seed-0" / "results.json").read_text()
    assert "secret" not in text
    assert "<script>" not in text
    assert json.loads(text)["val/x"] == 0.5


def test_augmentations_of_one_experiment_have_folders_and_rows_of_their_own(checkout: Path) -> None:
    shutil.copytree("runs/one", "runs/two")
    change_facts(Path("runs/two"), overrides=[*results_of(Path("runs/one"))["overrides"], "data/augment=crop"])
    run_well("task=records", "task.add=[runs]")
    assert {path.name for path in checkout.iterdir()} == {"seed-0", "crop"}
    assert len(make_rows(published_groups(Path.cwd()))) == 2
    for name in ("../../../gone", "no_such", "[crop,flip]", ""):
        change(checkout / "crop" / "seed-0", overrides=[f"data/augment={name}", "data/augment=crop"])
        outcome = run("task=records")
        assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
        assert "data/augment" in outcome.err


def test_models_of_one_experiment_have_folders_and_rows_of_their_own(checkout: Path) -> None:
    small = ("data.epoch_size=512", "trainer.max_epochs=1", "trainer.accelerator=cpu", "~callbacks.plots")
    shutil.rmtree("runs/one")
    run("-m", "experiment=ring", "model=gan,dragan", *small, "hydra.sweep.dir=runs")
    for folder in Path("runs").glob("00*"):
        change(folder, machine=results_of(folder)["machine"] | {"commit": "1234567"})
    run_well("task=records", "task.add=[runs]")
    assert {path.name for path in (checkout.parents[1] / "ring").iterdir()} == {"gan", "dragan"}
    [(key, table)] = tables(make_rows(published_groups(Path.cwd()))).items()
    assert key == ("", "modes", "ring")
    assert {row["net"] for row in table.rows} == {"gan", "dragan"}
    text = Path("docs/league.md").read_text()
    assert "## Modes that GANs find, a ring of Gaussians" in text
    assert "python run.py experiment=ring model=dragan" in text


def test_record_that_lies_in_another_folder_is_one_line(checkout: Path) -> None:
    run_well("task=records", "task.add=[runs]")
    (checkout / "seed-0").rename(checkout / "seed-7")
    outcome = run("task=records")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome


def test_set_that_is_not_official_is_drawn_too() -> None:
    rows = [{**row, "data": "kmnist"} for row in ROWS if row["accuracy"] is not None]
    assert "league_accuracy.png" in draw_plots([], rows)


@pytest.mark.parametrize("name", ["results.json", "config.json", "curves.csv"])
@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "a,b\n1", "null", "\0"])
def test_damaged_record_is_one_line(name: str, content: str, published: Path) -> None:
    shutil.copytree(published / "published", "published")
    Path("published/runs/lenet_fast/mnist/seed-0", name).write_text(content)
    with pytest.raises(ValueError, match=name) as refusal:
        published_groups(Path.cwd())
    assert "\n" not in str(refusal.value)


INNER_PARTS = (("model", "network"), ("data", "augment"), ("callbacks", "ema"))
NESTED = json.loads("[" * 900 + "]" * 900)
ODD_VALUES: tuple[object, ...] = ("x", 5, [])
PARTS_OF_CONFIG: list[dict[str, Any]] = [
    *({part: wrong} for part in ("model", "data", "trainer", "callbacks") for wrong in (*ODD_VALUES, None)),
    *({part: {key: wrong}} for part, key in INNER_PARTS for wrong in ODD_VALUES),
    *({"model": {"x": NESTED}}, {"x": NESTED}, {"model": {"x": "${seed}"}}),
]


@pytest.mark.parametrize("changes", PARTS_OF_CONFIG, ids=range(len(PARTS_OF_CONFIG)))
def test_config_of_a_record_that_is_none_of_a_run_is_one_line(changes: dict[str, Any], published: Path) -> None:
    shutil.copytree(published / "published", "published")
    file = Path("published/runs/lenet_fast/mnist/seed-0/config.json")
    config = json.loads(file.read_text())
    for part, new in changes.items():
        config[part] = config[part] | new if isinstance(new, dict) else new
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json") as refusal:
        published_groups(Path.cwd())
    assert "\n" not in str(refusal.value)


def damaged_parts() -> list[dict[str, Any]]:
    """What makes a record of task=small_data one that it would not write: each of its facts and settings."""
    part = json.loads((ROOT / "published" / "small_data" / "10" / "seed-0" / "results.json").read_text())
    wrong: tuple[object, ...] = (None, "x", "${x", -1, 0.5, 1e17, [], {}, NESTED)
    texts = ("x", "${x")
    harmless: dict[str, tuple[object, ...]] = {"gan": texts, "gan_network": texts, "gan_settings": ({},)}
    facts = [{key: value} for key in ("per_class", "metric", "alone", "with_fake", "augmented") for value in wrong]
    facts = [fact for fact in facts if fact not in ({"alone": 0.5}, {"with_fake": 0.5}, {"augmented": 0.5})]
    settings = [
        {"settings": part["settings"] | {key: value}}
        for key in part["settings"]
        for value in wrong
        if value not in harmless.get(key, ())
    ]
    return [*facts, {"per_class": 10.7}, {"alone": 5}, {"per_class": 0}, *settings]


@pytest.mark.parametrize("changes", damaged_parts(), ids=str)
def test_record_that_the_task_of_small_sets_would_not_write_is_none(changes: dict[str, Any]) -> None:
    part = json.loads((ROOT / "published" / "small_data" / "10" / "seed-0" / "results.json").read_text())
    assert is_part(part)
    assert not is_part(part | changes) or changes == {"settings": part["settings"] | {"augment": {}}}


@pytest.mark.extended
def test_record_is_stale_when_its_command_composes_to_other_values(checkout: Path) -> None:
    run_well("task=records", "task.add=[runs]")
    [group] = published_groups(Path.cwd())
    assert not group.is_stale
    file = checkout / "seed-0" / "config.json"
    config = json.loads(file.read_text())
    config["model"]["label_smoothing"] = 0.3
    file.write_text(json.dumps(config))
    [group] = published_groups(Path.cwd())
    assert group.is_stale
    assert "earlier recipe" in page([group], make_rows([group]))
    assert compared(config) == compared(config | {"seed": 5, "data": config["data"] | {"seed": 5}})
    ema = {"_target_": "tasks.weight_ema.WeightEMA"}
    assert compared(config) != compared(config | {"callbacks": config["callbacks"] | {"ema": ema}})


GROUPS = published_groups(ROOT)
ROWS = make_rows(GROUPS)


def test_page_says_what_the_records_say() -> None:
    assert (ROOT / "docs" / "league.md").read_text() == page(GROUPS, ROWS, published_tries(ROOT / RECORDS))
    assert all((ROOT / "docs" / name).is_file() for name in draw_plots(GROUPS, ROWS))


def test_table_of_results_has_the_accuracies_of_its_runs() -> None:
    groups = {
        (group.data, frozenset({*group.overrides} - {"data=mnist"})): row
        for group, row in zip(GROUPS, ROWS, strict=True)
    }
    rows = documents.table(ROOT / "docs" / "results.md", "command")
    for command, data, _, accuracy, seeds, epochs in rows:
        words = command.split("`")[1].split()
        name = words[0].removeprefix("experiment=")
        data = data.lower().replace("-", "_")
        if name.startswith("scoring_net"):
            assert accuracy == f"{100 * PRETRAINED[data].test_accuracy:.2f}"
        elif "," not in seeds:
            assert accuracy == f"{100 * results_of(ROOT / 'published' / name)['test/accuracy']:.2f}"
        else:
            row = groups[data, frozenset(words)]
            assert accuracy == format_mean(row["accuracy"], row["accuracy_sd"], ".2f", 0.01)
            assert (seeds.count(",") + 1, epochs) == (row["seeds"], f"{row['epochs']:.0f}")


def test_table_of_results_has_the_multiples_of_the_plain_gans_fid_and_the_steps() -> None:
    fids = {(row["experiment"], row["data"]): row["fid"] for row in ROWS}
    configs = {(group.experiment, group.data): group.runs[0]["config"] for group in GROUPS}
    rows = documents.table(ROOT / "docs" / "results.md", "GAN | MNIST | steps")
    assert (
        len(rows) == len(list((ROOT / RECORDS / "ten_minutes").glob("*gan*"))) - 1
    )  # but for the class-conditional one
    for title, *cells in rows:
        name = re.sub("_discrimination$", "_gan", re.sub("[ -]", "_", title.lower()))
        for data, multiple, steps in zip(("mnist", "fashion_mnist"), cells[::2], cells[1::2], strict=True):
            key = (f"ten_minutes/{name}", data)
            assert multiple == f"{fids[key] / fids['ten_minutes/gan', data]:.2f}", key
            model, trainer, batch = (configs[key][part] for part in ("model", "trainer", "data"))
            batches = math.ceil(55_000 / batch["batch_size"])
            rounds = int(batches * (trainer["limit_train_batches"] or 1)) * trainer["max_epochs"]
            made = rounds * model.get("generator_steps", 1) // model["discriminator_steps"]
            assert steps == f"{made:,}", key


def test_results_have_the_table_of_the_published_small_sets() -> None:
    parts = published_parts(ROOT)
    assert is_alike(parts)
    assert f"\n{make_table(parts).to_markdown()}\n" in (ROOT / "docs" / "results.md").read_text()


def test_labels_of_the_plot_do_not_lie_on_each_other() -> None:
    figure = draw_plots(GROUPS, ROWS)["league_accuracy.png"]
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        assert len(boxes) > 5
        assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


@pytest.mark.parametrize("name", ["league_fid.png", "league_modes.png"])
def test_no_point_lies_outside_its_panel(name: str) -> None:
    for axes in draw_plots(GROUPS, ROWS)[name].axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        points: Any = [point for line in axes.lines for point in np.asarray(line.get_xydata())]
        assert len(points) > 3
        assert all(left <= x <= right and bottom <= y <= top for x, y in points)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group.experiment}-{group.data}")
def test_published_command_composes_to_what_was_run(group: published_runs.Group) -> None:
    assert not group.is_stale


def test_commit_is_that_of_the_code_only_where_no_other_code_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "CONF", tmp_path / "conf")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()
    commit = ("-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "first")
    for arguments in (("init", "-q"), ("add", "."), commit):
        machine_module.git(*arguments)
    commit_now = machine_module.commit.__wrapped__
    clean = commit_now()
    (tmp_path / "notes.txt").touch()
    assert commit_now() == clean
    (tmp_path / "conf" / "mine.yaml").touch()
    assert commit_now() == f"{clean}-dirty"
    machine_module.commit.cache_clear()
    assert machine_module.machine()["commit"] == f"{clean}-dirty"
    machine_module.git("add", ".")
    machine_module.git(*commit)
    assert machine_module.machine()["commit"] == f"{clean}-dirty"  # what is committed later is not what was imported
    machine_module.commit.cache_clear()
    now = machine_module.machine()["commit"]
    assert "dirty" not in str(now)
    (tmp_path / "run.py").touch()  # is not what this process has imported
    assert machine_module.machine()["commit"] == now
    (tmp_path / "conf" / "mine.yaml").write_text("a: 1")  # which the next job of a sweep reads
    assert machine_module.machine()["commit"] == f"{now}-dirty"
    machine_module.commit.cache_clear()


def test_sampling_error_is_the_standard_error_of_a_share_of_10_000_images() -> None:
    group = next(group for group in published_groups(ROOT) if "test/accuracy" in group.runs[0])
    row = make_row(group)
    assert row["sampling"] == pytest.approx(math.sqrt(row["accuracy"] * (1 - row["accuracy"]) / 10_000))
    assert 1e-4 < row["sampling"] < 5e-3


def test_clipped_gradients_make_another_recipe() -> None:
    config: dict[str, Any] = {"model": {}, "data": {}, "trainer": {"precision": "32-true"}, "callbacks": {}}
    for key in (
        "max_epochs",
        "max_steps",
        "max_time",
        "limit_train_batches",
        "accumulate_grad_batches",
        "gradient_clip_val",
        "precision",
    ):
        assert compared(config) != compared(config | {"trainer": {"precision": "32-true", key: 3}}), key
    assert compared(config) == compared(config | {"trainer": {"precision": "32-true", "log_every_n_steps": 3}})
