"""task=test: the metrics of a checkpoint on the official test images."""

from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule
from omegaconf import DictConfig

from classic_cnn.callbacks.test_time_augmentation import AveragedViews
from classic_cnn.classifier import ImageClassifier
from tasks.checkpoint import load_trained
from tasks.train import show_results, test_model


def test(
    cfg: DictConfig,
    folder: Path,
    test_time_augmentation: Literal["none", "flip", "ten_crop", "multi_scale"],
) -> dict[str, Any]:
    """Tests `cfg.ckpt_path` without training.

    Args:
        cfg: checked config.
        folder: of this run.
        test_time_augmentation: also the metrics of the average over such views of each image.

    Raises:
        ValueError: there is no checkpoint to test, or it does not classify images and is to be shown several views.
    """
    averaged = test_time_augmentation != "none"
    model, datamodule, trainer, facts = load_trained(cfg, folder, ImageClassifier if averaged else LightningModule)
    if averaged:
        trainer.callbacks.append(AveragedViews(test_time_augmentation))  # type: ignore[attr-defined]
    results = facts | test_model(trainer, model, datamodule, None)
    show_results(results, trainer)
    return results
