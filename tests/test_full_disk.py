"""A disk that is full: the message names the file, nothing half-written stays, the earlier checkpoint loads."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import PLAIN, run

from datamodules.formats import WRITERS, image_set_writer
from tasks.results import atomic_writer

SMALL_RUN = ("model=lenet", *PLAIN, "trainer.max_epochs=6")


@pytest.fixture(params=["300k", "1500k", "2200k"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system with room for none, one or two and a part of LeNet's checkpoints, in which the test runs."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    monkeypatch.chdir(place)
    yield place
    monkeypatch.undo()
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_run_on_a_full_disk_names_the_file_and_leaves_whole_files_alone(small_disk: Path) -> None:
    outcome = run(*SMALL_RUN)
    assert outcome.status == 2, outcome.err
    assert outcome.err.count("\n") == 1
    assert "No space left on device" in outcome.err
    assert str(small_disk) in outcome.err or "outputs/" in outcome.err
    for path in small_disk.rglob("*"):
        if path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
        if path.suffix == ".json":
            json.loads(path.read_text())
        assert not (path.name.startswith(".") and path.is_file() and path.name != ".lock"), path


def test_file_that_cannot_be_written_whole_is_not_written(small_disk: Path) -> None:
    target = small_disk / "large.bin"
    target.write_bytes(b"before")
    with pytest.raises(OSError, match="No space left") as caught, atomic_writer(target, "wb") as file:
        file.write(bytes(3_000_000))
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"before"
    assert [path.name for path in small_disk.iterdir()] == ["large.bin"]


@pytest.mark.parametrize("form", WRITERS)
def test_image_set_that_finds_no_room_leaves_nothing(small_disk: Path, form: str) -> None:
    images, labels = np.full((500, 28, 28), 200, np.uint8), np.arange(500) % 10
    with (  # noqa: PT012
        pytest.raises(OSError, match="No space left") as caught,
        image_set_writer(Path("set"), form, 5_000) as writer,
    ):
        for _ in range(10):
            writer.write(images, labels)
    assert str(caught.value.filename).startswith("set")
    assert not [*small_disk.iterdir()]
