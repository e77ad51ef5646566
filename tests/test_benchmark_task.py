"""task=benchmark: the table it leaves, what is timed, and task=small_data, a sweep of which ends with a report."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import assert_one_line, change, only_run, results_of, run, run_well
from conftest import small_run
from PIL import Image

from tasks import records, small_data
from tasks.benchmark import COLUMNS, Stopwatch
from tasks.published_runs import published_parts
from tasks.small_data_report import make_table

SMALL = (
    "data=mnist_5k",
    "data.train_images_per_class=8",
    "data.batch_size=16",
    "trainer.accelerator=cpu",
)  # 5 batches an epoch
BUDGET = ("task.gan_steps=3", "task.classifier_steps=3", "task.fake_per_class=4", "task.gan_settings.network.width=0.1")
PARTS = ("-m", "experiment=small_data", "data=mnist_5k", "trainer.accelerator=cpu", "task.per_class=2,3", "seed=0,1")


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "benchmark.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("warm_up", "steps", "images"), [(2, 3, 48), (0, 5, 80), (1, 12, 192)])
def test_a_row_for_the_cpu_with_the_rates(warm_up: int, steps: int, images: int) -> None:
    outcome = run_well("task=benchmark", *SMALL, f"task.steps={steps}", f"task.warm_up={warm_up}")
    folder = only_run()
    (row,) = table(folder)
    assert list(row) == [column.key for column in COLUMNS]
    assert (row["device"], row["ratio"]) == ("cpu", "1.0")
    assert float(row["images_per_second"]) / float(row["steps_per_second"]) == pytest.approx(images / steps)
    assert float(row["seconds_per_epoch"]) * float(row["steps_per_second"]) == pytest.approx(5)
    assert 100 < float(row["peak_mib"]) < 100_000
    assert 0 <= float(row["result"].removeprefix("val/accuracy ")) <= 1
    assert "Only the CPU was measured" in outcome.out
    assert "Only the CPU was measured" in (folder / "benchmark.md").read_text()
    assert results_of(folder)["benchmark"][0]["device"] == "cpu"


def test_of_a_gan_samples_are_drawn() -> None:
    run_well("task=benchmark", "model=cgan", "model.network.width=0.1", *SMALL, "task.steps=2", "task.warm_up=1")
    folder = only_run()
    (row,) = table(folder)
    assert row["result"] == "samples_cpu.png"
    with Image.open(folder / "samples_cpu.png") as image:
        assert image.size[0] > 8 * 28


def test_stopwatch_ends_the_fit_after_its_batches_whatever_a_gan_calls_a_step() -> None:
    model, data, trainer = small_run(
        "model=gan", "model.network.width=0.1", "model.discriminator_steps=2", "trainer.max_epochs=9"
    )
    stopwatch = Stopwatch(warm_up=1, steps=4)
    trainer.callbacks.append(stopwatch)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert (stopwatch.done, trainer.global_step) == (5, 2)
    assert stopwatch.images == 8 + 4 + 8 + 8  # batches of 8, 8 and 4 an epoch, without the first
    assert stopwatch.seconds > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_both_devices_are_compared() -> None:
    run_well("task=benchmark", *SMALL[:-1], "task.steps=5", "task.warm_up=2")
    rows = table(only_run())
    assert [row["device"] for row in rows] == ["cpu", "gpu"]
    assert float(rows[1]["ratio"]) == pytest.approx(
        float(rows[1]["images_per_second"]) / float(rows[0]["images_per_second"])
    )


@pytest.mark.parametrize(
    "overrides",
    [
        *(("task=benchmark", "task.steps=0"), ("task=benchmark", "task.warm_up=-1")),
        *(("task=small_data", "task.per_class=0"), ("task=small_data", "task.gan_steps=0")),
        ("task=small_data", "task.gan_settings.widht=1"),
        ("data=mnist_5k", *BUDGET, "task.per_class=2", "task=small_data", "task.gan=gan"),
    ],
)
def test_a_mistake_ends_in_one_line(overrides: tuple[str, ...]) -> None:
    outcome = run(*overrides, "trainer.accelerator=cpu", "data=mnist_5k")
    assert outcome.status == 2
    assert overrides[-1].split("=")[0] in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.extended
def test_sweep_of_small_data_ends_with_a_table_and_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    run_well(*PARTS, *BUDGET)
    (folder,) = Path("outputs/sweeps").iterdir()
    jobs = sorted(path for path in folder.iterdir() if path.is_dir())
    made = [results_of(job) for job in jobs]
    assert [(record["per_class"], record["seed"]) for record in made] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    for job in jobs:
        assert {path.name for path in job.iterdir()} == {".hydra", ".lock", "generated.png", "results.json"}
    lines = (folder / "small_data.md").read_text().splitlines()
    mean = 50 * (made[0]["alone"] + made[1]["alone"])
    assert lines[2].startswith(f"| 2 | 2 | {mean:.2f} +- ")
    assert lines[2].count("+-") == 4
    assert "4 generated images per class" in lines[-1]
    with Image.open(folder / "small_data.png") as image:
        assert image.size == (720, 504)
    check_publishing(folder, jobs, monkeypatch)


def check_publishing(folder: Path, jobs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs become records that give the table again; one of other settings is refused beside them."""
    monkeypatch.setattr(records, "ROOT", Path.cwd())
    Path("docs").mkdir()
    for job in jobs:
        change(job, machine=results_of(job)["machine"] | {"commit": "1234567"})
    run_well("task=records", f"task.add=[{folder}]")
    published = published_parts(Path.cwd())
    assert len(published) == 4
    assert make_table(published).to_markdown() in (folder / "small_data.md").read_text()
    change(jobs[0], settings=results_of(jobs[0])["settings"] | {"gan_steps": 4})
    assert_one_line(run("task=records", f"task.add=[{jobs[0]}]"), "not comparable", jobs[0].name)
    assert_one_line(run("task=records", f"task.add=[{folder},{jobs[1]}]"), "not comparable")
    assert_one_line(run("task=records", f"task.add=[{jobs[1]},{jobs[1]}]"), "task.per_class and seed")
    assert published_parts(Path.cwd()) == published
    shutil.rmtree("published")
    assert_one_line(run("task=records", f"task.add=[{folder}]"), "not comparable")  # of others that are added with it
    run_well("task=records", f"task.add=[{jobs[1]}]")
    [path] = Path("published/small_data").rglob("results.json")
    for content in ("{", "[]", "{}", json.dumps(results_of(path.parent) | {"augmented": "much"})):
        path.write_text(content)
        assert_one_line(run("task=records", f"task.add=[{jobs[2]}]"), "small_data")


@pytest.mark.extended
def test_parts_of_other_settings_are_not_mixed_in_a_report() -> None:
    plain = (*PARTS[:-2], "task.per_class=2", "data/augment@task.augment=none", *BUDGET[1:], "task.gan_steps=3,4")
    run_well(*plain)
    (folder,) = Path("outputs/sweeps").iterdir()
    record = results_of(next(path for path in folder.iterdir() if path.is_dir()))
    assert "augmented" not in record
    assert not (folder / "small_data.md").exists()


def test_each_arm_of_small_data_learns_from_what_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[tuple[bool, bool, int, int]] = []
    fit = small_data.fit

    def watched(part: Any, folder: Path, steps: int) -> Any:
        augmented = any(made is not None for made in part.data.augment.values())
        extra = part.data.get("extra_train_path") is not None
        learned.append((augmented, extra, part.data.train_images_per_class, steps))
        return fit(part, folder, steps)

    monkeypatch.setattr(small_data, "fit", watched)
    one = ("task=small_data", "experiment=small_data", "hydra.mode=RUN", "data=mnist_5k", "trainer.accelerator=cpu")
    run_well(*one, "task.per_class=2", *BUDGET[1:], "task.gan_steps=4", "seed=0")
    gan, *arms = learned
    assert gan == (True, False, 2, 4)
    assert arms == [(False, False, 2, 3), (False, True, 2, 3), (True, False, 2, 3), (True, True, 2, 3)]
