"""task=test: the metrics of a checkpoint on the official test images."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule
from omegaconf import DictConfig

from classic_cnn.callbacks.test_time_augmentation import TestTimeAugmentation
from classic_cnn.classifier import ImageClassifier
from tasks.checkpoint import check_finite, load_trained
from tasks.config import ConfigError
from tasks.report import show_results
from tasks.train import test_model

Views = Literal["none", "flip", "ten_crop", "multi_scale"]


def test(cfg: DictConfig, folder: Path, test_time_augmentation: Views) -> dict[str, Any]:
    """Tests the net of `cfg.ckpt_path`, on validation images where the set has no test images.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        test_time_augmentation: views of each image that a classifier's probabilities are averaged over; the metrics
            of the average come beside those of the plain images.

    Raises:
        ValueError: the checkpoint is missing or cannot be used, nothing can be measured in a net of its kind, or it is
            no classifier and there is an augmentation.
    """
    for key in ("limit_test_batches", "limit_val_batches"):
        if cfg.trainer.get(key) == 0:
            raise ConfigError(f"trainer.{key}", "leaves nothing to test", 0)
    family = LightningModule if test_time_augmentation == "none" else ImageClassifier
    model, datamodule, trainer, facts = load_trained(cfg, folder, family)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    has_it = any(isinstance(one, TestTimeAugmentation) and one.views == test_time_augmentation for one in callbacks)
    if test_time_augmentation != "none" and not has_it:  # its run may have had it
        callbacks.append(TestTimeAugmentation(test_time_augmentation))
    metrics = test_model(trainer, model, datamodule, None)
    for loss in (value for key, value in metrics.items() if key.endswith("/loss")):
        check_finite(torch.tensor(loss), f"ckpt_path={cfg.ckpt_path}")
    if not metrics:
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} has no test metrics")
    results = facts | metrics
    show_results(results, trainer)
    return results
