"""task=test: the metrics of a checkpoint on the official test images."""

from typing import Any

from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig

from classic_cnn.callbacks.test_time_augmentation import AveragedViews
from classic_cnn.classifier import ImageClassifier
from tasks.build import build, describe
from tasks.checkpoint import load_weights
from tasks.results import recorded
from tasks.train import judging, measure, show_metrics


@recorded
def test(cfg: DictConfig) -> dict[str, Any]:
    """Measures `ckpt_path` without training, and also with test-time augmentation where `task` names one.

    Raises:
        ValueError: there is no checkpoint to test, nothing to measure in a net of its kind, or no such augmentation.
    """
    name = cfg.task.test_time_augmentation
    callbacks = [] if name == "none" else [AveragedViews(name)]
    if cfg.ckpt_path is None:
        raise ValueError("task=test measures a checkpoint: name it with ckpt_path=outputs/.../checkpoints/best.ckpt")
    model, datamodule, trainer = build(cfg)
    if not is_overridden("test_step", model) and not judging(trainer):
        raise ValueError(f"task=test: a {type(model).__name__} has no test metrics")
    if callbacks and not isinstance(model, ImageClassifier):
        raise ValueError(f"task.test_time_augmentation={name}: a {type(model).__name__} does not classify images")
    trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    facts = describe(model, datamodule, trainer)
    load_weights(model, cfg)
    results = facts | measure(model, datamodule, trainer, None)
    show_metrics(results, trainer)
    return results
