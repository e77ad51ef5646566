"""Test-time augmentation: the views, their average, and task=test."""

from typing import Any

import pytest
import torch
from command_line import PLAIN, only_run, results_of, run, run_well
from conftest import small_run
from torch import Tensor
from torch.nn import functional as F

from classic_cnn.callbacks.test_time_augmentation import VIEWS, TestTimeAugmentation, flip, multi_scale, ten_crop
from classic_cnn.lenet import LeNet5


def test_ten_crop_is_corners_and_centre_and_their_mirror_images() -> None:
    images = torch.rand(3, 1, 28, 28)
    padded = F.pad(images, (2, 2, 2, 2))
    corners = [padded[..., y : y + 28, x : x + 28] for y, x in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))]
    expected = corners + [corner.flip(-1) for corner in corners]
    views = ten_crop(images)
    assert len(views) == 10
    assert all(any(torch.equal(view, other) for other in views) for view in expected)


def test_flip_is_the_image_and_its_mirror_image() -> None:
    images = torch.rand(3, 1, 28, 28)
    assert [torch.equal(view, image) for view, image in zip(flip(images), (images, images.flip(3)), strict=True)]


@pytest.mark.parametrize("side", [28, 32, 224, 227])
def test_multi_scale_keeps_size_and_centre(side: int) -> None:
    square = torch.zeros(1, 1, side, side)
    inner = side // 4
    square[..., inner : side - inner, inner : side - inner] = 1.0
    small, same, large = multi_scale(square)
    assert small.shape == same.shape == large.shape == square.shape
    assert torch.equal(same, square)
    for view, scale in ((small, 7 / 8), (large, 9 / 8)):
        torch.testing.assert_close(view, view.flip(2, 3), atol=1e-4, rtol=0)
        assert float(view.sum() / square.sum()) == pytest.approx(scale**2, rel=0.05)


@pytest.mark.parametrize("normalize", ["half", "pixel_mean"])
def test_views_are_those_of_the_stored_pixels(normalize: str) -> None:
    data = small_run(f"data.normalize={normalize}", "~callbacks.plots")[1]
    assert data.val_split is not None
    pixels = data.val_split.images
    seen: list[Tensor] = []

    class Reader(LeNet5):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().forward(images)

    trainer = small_run("~callbacks.plots")[2]
    trainer.callbacks.append(TestTimeAugmentation("ten_crop"))  # type: ignore[attr-defined]
    trainer.validate(Reader(), data, verbose=False)
    expected = [data.transform(view) for view in ten_crop(pixels)]
    assert len(seen) == 11
    torch.testing.assert_close(torch.stack(seen[1:]), torch.stack(expected))


@pytest.mark.parametrize("name", VIEWS)
def test_accuracy_over_views_is_that_of_the_averaged_probabilities(name: Any) -> None:
    model, data, trainer = small_run("~callbacks.plots")
    trainer.callbacks.append(TestTimeAugmentation(name))  # type: ignore[attr-defined]
    [metrics] = trainer.validate(model, data, verbose=False)
    assert data.val_split is not None
    right = 0
    for image, label in zip(*data.val_split, strict=True):
        views = VIEWS[name]((image.unsqueeze(0) / 255).float())
        with torch.no_grad():
            probabilities = sum(model(2 * view - 1).softmax(1) for view in views)
        right += int(probabilities.argmax()) == int(label)
    assert metrics[f"val/accuracy_{name}"] == pytest.approx(right / len(data.val_split.labels))
    assert "val/accuracy" in metrics


def test_a_run_measures_it_and_a_later_test_does_not_count_it_twice() -> None:
    run_well(*PLAIN, "trainer.max_epochs=1", "callbacks=test_time_augmentation")
    trained = only_run()
    at_end = results_of(trained)
    assert at_end["val/accuracy_flip"] != at_end["val/accuracy"]
    run_well("task=test", f"ckpt_path={trained}/checkpoints/best.ckpt", "task.test_time_augmentation=flip")
    (tested,) = (folder for folder in trained.parent.iterdir() if folder != trained)
    assert results_of(tested)["val/accuracy_flip"] == at_end["val/accuracy_flip"]


@pytest.mark.extended
def test_test_task_reports_accuracy_with_and_without_ten_crop() -> None:
    run_well(*PLAIN, "trainer.max_epochs=1")
    trained = only_run()
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    run_well("task=test", "task.test_time_augmentation=ten_crop", checkpoint)
    (tested,) = (folder for folder in trained.parent.iterdir() if folder != trained)
    results = results_of(tested)
    assert results["val/accuracy"] == results_of(trained)["val/accuracy"]
    assert 0 <= results["val/accuracy_ten_crop"] <= 1
    outcome = run("task=test", "task.test_time_augmentation=nine", checkpoint)
    assert outcome.status == 2
    assert "test_time_augmentation" in outcome.err
    assert "nine" in outcome.err
