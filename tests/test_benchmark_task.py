"""task=benchmark: the table it leaves, what is timed, and task=small_data, which is resumed by what lies there."""

import csv
import json
from pathlib import Path

import pytest
import torch
from command_line import only_run, results_of, run, run_well
from conftest import small_run
from PIL import Image

from tasks.benchmark import COLUMNS, Stopwatch

SMALL = (
    "data=mnist_5k",
    "data.train_images_per_class=8",
    "data.batch_size=16",
    "trainer.accelerator=cpu",
)  # 5 batches an epoch
BUDGET = ("task.gan_steps=3", "task.classifier_steps=3", "task.fake_per_class=4", "task.gan_settings.network.width=0.1")
PARTS = ("data=mnist_5k", "trainer.accelerator=cpu", "task.parts=parts_of", "task.per_class=[2,3]", "task.seeds=[0,1]")


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
        *(("task=small_data", "task.per_class=[10,0]"), ("task=small_data", "task.gan_steps=0")),
        *(("task=small_data", "task.seeds=[]"), ("task=small_data", "task.seeds=[-1]")),
        ("task=small_data", "task.gan_settings.widht=1"),
        ("data=mnist_5k", *BUDGET, "task.per_class=[2]", "task=small_data", "task.gan=gan"),
    ],
)
def test_a_mistake_ends_in_one_line(overrides: tuple[str, ...]) -> None:
    outcome = run(*overrides, "trainer.accelerator=cpu", "data=mnist_5k")
    assert outcome.status == 2
    assert overrides[-1].split("=")[0] in outcome.err
    assert outcome.err.count("\n") == 1


def test_small_data_leaves_a_table_and_a_figure_and_does_no_part_twice() -> None:
    run_well("experiment=small_data", *PARTS, *BUDGET)
    folder = Path("parts_of")
    parts = sorted((folder / "parts").glob("*.json"))
    assert len(parts) == 4
    records = [json.loads(part.read_text()) for part in parts]
    assert [(record["per_class"], record["seed"]) for record in records] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert {path.suffix for path in (folder / "parts").iterdir()} == {".json", ".png"}  # no set is left
    lines = (folder / "small_data.md").read_text().splitlines()
    mean = 50 * (records[0]["alone"] + records[1]["alone"])
    assert lines[2].startswith(f"| 2 | 2 | {mean:.2f} +- ")
    assert lines[2].count("+-") == 4
    assert "4 generated images per class" in lines[-1]
    with Image.open(folder / "small_data.png") as image:
        assert image.size == (720, 504)
    before = {part: part.stat().st_mtime_ns for part in parts}
    parts[1].unlink()  # as if the experiment had been stopped in it
    run_well("experiment=small_data", *PARTS, *BUDGET)
    assert {part for part in parts if part.stat().st_mtime_ns != before[part]} == {parts[1]}
    again = json.loads(parts[1].read_text())
    assert {**again, "seconds": 0} == {**records[1], "seconds": 0}


def test_small_data_does_not_mix_parts_of_other_settings() -> None:
    few = ("data=mnist_5k", "trainer.accelerator=cpu", "task.parts=parts_of", "task.per_class=[2]", "task.seeds=[0]")
    run_well("experiment=small_data", *few, *BUDGET, "data/augment@task.augment=none")
    [record] = [json.loads(part.read_text()) for part in Path("parts_of", "parts").glob("*.json")]
    assert "augmented" not in record
    outcome = run("experiment=small_data", *few, *BUDGET, "data/augment@task.augment=none", "task.gan_steps=4")
    assert outcome.status == 2
    assert "gan_steps=3" in outcome.err
