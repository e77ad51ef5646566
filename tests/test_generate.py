"""task=generate: what each format holds, what the labels are, how it came, and that nothing unfinished is left."""

import hashlib
import json
import os
import re
import signal
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from command_line import only_run, results_of, run, run_well, start
from PIL import Image

from datamodules.formats import HEADER, WRITERS, image_set_writer
from datamodules.labelled_set import read_labelled
from datamodules.mnist import MNIST5k
from gan.adversarial import GAN
from gan.cgan import CGAN
from gan.networks import MLP
from tasks import generate
from tasks.checkpoint import load
from tasks.generate import CHUNK, write_set

pytestmark = pytest.mark.extended

BRIEF = (
    "data=mnist_5k",
    "data.train_images_per_class=20",
    "data.batch_size=40",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """4,000 real images, uint8 (N, 28, 28), and their labels, no two neighbours alike."""
    data = MNIST5k()
    data.setup()
    assert data.train_split
    order = torch.randperm(4_000, generator=torch.Generator().manual_seed(0))
    return data.train_split.images[order, 0].numpy(), data.train_split.labels[order].byte().numpy()


@pytest.fixture(scope="session")
def cgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a CGAN after a few steps."""
    return trained_gan("cgan", tmp_path_factory.mktemp("cgan"))


@pytest.fixture(scope="session")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a GAN that knows no classes."""
    return trained_gan("gan", tmp_path_factory.mktemp("gan"))


def trained_gan(name: str, folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_well(f"model={name}", *BRIEF)
        return only_run() / "checkpoints" / "last.ckpt"


def generated(checkpoint: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """The folder of a run of task=generate, and its sidecar."""
    before = set(Path().rglob("generated.json"))
    run_well("task=generate", f"ckpt_path={checkpoint}", "trainer.accelerator=cpu", *overrides)
    (sidecar,) = set(Path().rglob("generated.json")) - before
    return sidecar.parent, json.loads(sidecar.read_text())


@pytest.mark.parametrize("form", WRITERS)
def test_what_is_read_back_is_what_was_written(form: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = (part[:1_203] for part in digits)
    with image_set_writer(Path("set"), form, len(labels)) as writer:
        for i in range(0, len(labels), 500):  # the last piece is a shorter one
            writer.write(images[i : i + 500], labels[i : i + 500])
    assert [path.name for path in Path().iterdir()] == ["set"]
    back, back_labels = read_labelled("set")
    assert (back.dtype, back_labels.dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(back[:, 0].numpy(), images)
    assert np.array_equal(back_labels.numpy(), labels)


def test_csv_is_kaggles(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = (part[:50] for part in digits)
    with image_set_writer(Path("set.csv"), "csv", 50) as writer:
        writer.write(images, labels)
    header, *lines = Path("set.csv").read_text().splitlines()
    assert header == HEADER == "label," + ",".join(f"pixel{i}" for i in range(784))
    assert lines == [",".join(map(str, [label, *image.ravel()])) for image, label in zip(images, labels, strict=True)]


def test_torchvision_reads_the_idx_files(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = (part[:300] for part in digits)
    with image_set_writer(Path("set"), "idx", 300) as writer:
        writer.write(images, labels)
    theirs = torchvision.datasets.MNIST("set", train=True)
    assert np.array_equal(theirs.data.numpy(), images)
    assert np.array_equal(theirs.targets.numpy(), labels)


def test_torchvision_reads_the_folders_of_pngs(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = (part[:100] for part in digits)
    with image_set_writer(Path("set"), "png", 100) as writer:
        writer.write(images, labels)
    theirs = torchvision.datasets.ImageFolder("set")
    assert theirs.classes == list("0123456789")
    for path, label in theirs.samples:
        number = int(Path(path).stem)
        assert labels[number] == label
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), images[number])


@pytest.mark.parametrize("form", WRITERS)
def test_a_write_that_fails_leaves_nothing(form: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = (part[:10] for part in digits)
    with pytest.raises(OSError, match="disk full"), image_set_writer(Path("set"), form, 20) as writer:  # noqa: PT012
        writer.write(images, labels)
        raise OSError("disk full")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("form", WRITERS)
def test_a_conditional_gan_writes_a_balanced_set(form: str, cgan: Path) -> None:
    count = CHUNK + 25
    folder, sidecar = generated(cgan, f"task.count={count}", f"task.format={form}")
    path = folder / sidecar["path"]
    images, labels = read_labelled(path)
    assert images.shape == (count, 1, 28, 28)
    assert labels.bincount().tolist() == [103] * 5 + [102] * 5
    assert sidecar["labels"] == {str(label): 103 if label < 5 else 102 for label in range(10)}
    assert len({image.numpy().tobytes() for image in images}) > 0.9 * count
    assert {key: sidecar[key] for key in ("format", "count", "seed", "model")} == {
        **{"format": form, "count": count, "seed": 0, "model": "CGAN"}
    }
    assert sidecar["checkpoint"] == str(cgan)
    assert sidecar["checkpoint_sha256"] == hashlib.sha256(cgan.read_bytes()).hexdigest()
    assert results_of(folder)["generated"] == sidecar
    left = {entry.name for entry in folder.iterdir()} - {".lock"}
    assert left == {".hydra", "generated.json", "results.json", path.name}


def test_only_the_labels_that_are_asked_for(cgan: Path) -> None:
    folder, sidecar = generated(cgan, "task.count=21", "task.labels=[3,7]")
    _, labels = read_labelled(folder / "generated.csv")
    assert labels.tolist() == [3, 7] * 10 + [3]
    assert sidecar["labels"] == {"3": 11, "7": 10}


def test_the_seed_makes_the_set(cgan: Path) -> None:
    first, same, other = (
        (generated(cgan, "task.count=30", f"seed={seed}")[0] / "generated.csv").read_text() for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other


def test_images_without_labels_are_pngs_in_one_folder(gan: Path) -> None:
    folder, sidecar = generated(gan, "task.count=12", "task.format=png")
    assert sidecar["labels"] == {}
    files = sorted((folder / "generated").iterdir())
    assert [file.name for file in files] == [f"{i:02d}.png" for i in range(12)]
    outcome = run("data=generated", f"data.path={folder / 'generated'}", "trainer.accelerator=cpu")
    assert outcome.status == 2
    assert str(folder / "generated") in outcome.err


@pytest.mark.parametrize("option", ["task.format=csv", "task.format=idx", "task.labels=[3]"])
def test_labels_of_a_gan_that_knows_none_are_refused(option: str, gan: Path) -> None:
    assert_refused(option, f"ckpt_path={gan}", option)


@pytest.mark.parametrize(
    "option",
    [
        *("task.count=0", "task.count=true", "task.count=1.5", "task.format=zip", "task.format=null"),
        *("task.labels=[3,10]", "task.labels=[]", "task.labels=[a]", "task.labels=-1"),
    ],
)
def test_an_option_out_of_range_is_refused(option: str, cgan: Path) -> None:
    assert_refused(option.split("=")[0], f"ckpt_path={cgan}", option)


def test_a_classifier_and_no_checkpoint_are_refused(trained: Path) -> None:
    assert_refused("LeNet5", f"ckpt_path={trained / 'checkpoints' / 'best.ckpt'}")
    assert_refused("ckpt_path")


def assert_refused(says: str, *overrides: str) -> None:
    """One line, status 2, and no set."""
    outcome = run("task=generate", "trainer.accelerator=cpu", *overrides)
    assert outcome.status == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(Path().rglob("*generated*"))


def test_a_generator_that_is_stopped_leaves_no_part_of_a_set(cgan: Path) -> None:
    process = start("task=generate", f"ckpt_path={cgan}", "task.count=100000000", "trainer.accelerator=cpu")
    deadline = time.monotonic() + 100
    while not list(Path().rglob(".generated.csv.*part")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert results_of(only_run())["status"] == "interrupted"
    assert not list(Path().rglob("*generated*"))


def test_set_says_what_it_imitates_and_the_printed_command_trains_on_it(cgan: Path) -> None:
    outcome = run_well("task=generate", f"ckpt_path={cgan}", "trainer.accelerator=cpu", "task.count=100")
    (sidecar,) = Path().rglob("generated.json")
    assert json.loads(sidecar.read_text())["imitates"] == "mnist"  # what mnist_5k shows
    (command,) = re.findall("run.py (data=generated.*)", outcome.out)
    assert "data.real=mnist" in command
    run_well(*command.split(), "trainer.accelerator=cpu", "trainer.max_epochs=1", "~callbacks.plots")


def test_images_that_are_not_finite_are_refused_and_nothing_is_left(cgan: Path) -> None:
    model = load_gan(cgan)
    for parameter in model.generator.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        write_set(model, Path("set.csv"), "csv", 20, range(10), quiet=True)
    assert list(Path().iterdir()) == []


def load_gan(checkpoint: Path) -> GAN:
    model, _ = load(checkpoint)
    assert isinstance(model, GAN)
    return model


def test_memory_does_not_grow_with_the_count(cgan: Path) -> None:
    """No piece that the writer is given has more images than a chunk."""
    model = load_gan(cgan)
    peaks = []
    for count in (2 * CHUNK, 6 * CHUNK):
        tracemalloc.start()
        write_set(model, Path(f"{count}.csv"), "csv", count, range(10), quiet=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_classes_go_on_in_turn_from_one_piece_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "CHUNK", 3)
    counts = generate.write_set(CGAN(network=MLP(width=0.1)), Path("set"), "idx", 10, [4, 5, 6, 7], quiet=True)
    assert counts == {"4": 3, "5": 3, "6": 2, "7": 2}
