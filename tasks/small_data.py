"""task=small_data: whether images of a conditional GAN help a classifier that has few real ones."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf, open_dict
from torchvision.utils import save_image

from classic_cnn.classifier import ImageClassifier
from datamodules.contract import Count
from gan.adversarial import GAN
from gan.callbacks.sample_plots import grid
from tasks.budget import check_length_is_its_own
from tasks.build import build, check_all_images
from tasks.config import ConfigError, check_node, compose
from tasks.generate import write_set
from tasks.results import atomic_writer
from tasks.small_data_report import ARMS, AUGMENTED, PLAIN, Settings, sentence
from tasks.train import test_model


def small_data(
    cfg: DictConfig,
    folder: Path,
    per_class: Count,
    gan: str,
    gan_network: str,
    gan_settings: dict[str, Any],
    gan_steps: Count,
    augment: dict[str, Any],
    fake_per_class: Count,
    classifier_steps: Count,
) -> dict[str, Any]:
    """Trains the classifier of `cfg.model` on n real images per class, without and with images of a conditional GAN.

    The GAN is trained on the same n images per class and no others, augmented; two classifiers are trained on images
    as they are, two on augmented ones. All classifiers take the same number of steps, and their last weights are
    tested: to choose others by validation would take thousands of labelled images more. The images are always the
    first n of each class: a seed changes weights, order and latents. A sweep over n and seeds ends with small_data.md,
    .csv and .png.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        per_class: n.
        gan: an option of the group model.
        gan_network: an option of the group model/network.
        gan_settings: values for keys of that model.
        gan_steps: of its generator.
        augment: as `cfg.data.augment`; empty = no augmented classifiers.
        fake_per_class: generated images per class.
        classifier_steps: of each classifier.

    Raises:
        ValueError: the GAN is not conditional, or its settings are refused.
    """
    if cfg.ckpt_path is not None:
        raise ValueError("task=small_data takes no ckpt_path: it trains from scratch")
    check_length_is_its_own(cfg, "small_data")
    for key in (text.partition("=")[0] for text in cfg.overrides):
        if key in ("trainer.max_epochs", "trainer.max_steps"):
            raise ConfigError(key, "task.gan_steps and task.classifier_steps say how long is trained: leave it out")
    check_all_images(cfg.trainer, "all nets are compared", "limit_train_batches", "limit_test_batches")
    for key in ("extra_train_path", "train_images_per_class", "train_images", "num_folds"):
        if cfg.data.get(key) is not None:
            raise ConfigError(f"data.{key}", "task.per_class says which images there are: leave it out", cfg.data[key])
    plain = {"gan_settings": as_plain(gan_settings), "augment": as_plain(augment)}
    settings = Settings(
        gan, gan_network, plain["gan_settings"], gan_steps, plain["augment"], fake_per_class, classifier_steps
    )
    record = measure(cfg, folder, per_class, settings) | {"settings": settings._asdict()}
    print(sentence(record | {"seed": cfg.seed}), flush=True)
    return record


def as_plain(node: Any) -> Any:
    return json.loads(json.dumps(OmegaConf.to_container(node) if OmegaConf.is_config(node) else node))


def measure(cfg: DictConfig, folder: Path, n: int, settings: Settings) -> dict[str, Any]:
    """The accuracy of the classifiers, and a picture of the GAN's images."""
    start = time.perf_counter()
    part = cfg.copy()
    with open_dict(part):
        part.callbacks = {}
        part.data.train_images_per_class = n
        part.trainer.update(max_epochs=-1, logger=False, limit_val_batches=0, log_every_n_steps=0)
        part.trainer.update(enable_checkpointing=False, enable_progress_bar=False)
    check_classifier(part, folder)
    gan = fit_gan(part, folder, settings)
    with atomic_writer(folder / "generated.png", "wb") as file:
        save_image(grid(gan.fixed_samples(), 8), file, format="png")
    accuracies: dict[str, float] = {}
    metric = ""
    with TemporaryDirectory(dir=folder, prefix=".fake-") as fakes:
        classes = range(gan.num_classes or 0)
        write_set(gan, Path(fakes, "set"), "idx", settings.fake_per_class * len(classes), classes, quiet=True)
        for arm in ARMS if settings.augment else PLAIN:
            with open_dict(part):
                part.data.extra_train_path = str(Path(fakes, "set")) if arm.endswith("with_fake") else None
                part.data.augment = settings.augment if arm in AUGMENTED else cfg.data.augment
            model, data, trainer = fit(part, folder, settings.classifier_steps)
            trainer.limit_val_batches = 1.0
            results = test_model(trainer, model, data, None)
            metric = next(name for name in ("test/accuracy", "val/accuracy") if name in results)
            accuracies[arm] = results[metric]
    seconds = time.perf_counter() - start
    return {"per_class": n, **accuracies, "metric": metric, "seconds": seconds}


def fit_gan(part: DictConfig, folder: Path, settings: Settings) -> GAN:
    """The GAN, trained on augmented images of the part.

    Raises:
        ValueError: it is not a conditional GAN, or its settings are refused.
    """
    cfg = part.copy()
    with open_dict(cfg):
        cfg.model = compose_gan(settings)
        cfg.data.augment = settings.augment
    check_node("task.gan_settings", OmegaConf.to_container(cfg.model))  # type: ignore[arg-type]
    gan, _, _ = build(cfg, folder)
    if not isinstance(gan, GAN) or gan.num_classes is None:
        raise ValueError(f"task.gan={settings.gan}: a {type(gan).__name__} cannot generate images of a class")
    gan, _, _ = fit(cfg, folder, settings.gan_steps)
    assert isinstance(gan, GAN)
    return gan


def check_classifier(cfg: DictConfig, folder: Path) -> None:
    """Refuses a model that is no classifier of images, before anything is trained.

    Raises:
        ConfigError: names it.
    """
    model, _, _ = build(cfg, folder)
    if not isinstance(model, ImageClassifier) or not model.automatic_optimization:
        raise ConfigError("model", f"a {type(model).__name__} is no classifier that is trained for a number of steps")


def compose_gan(settings: Settings) -> DictConfig:
    """The model part of the config of `model=GAN model/network=NETWORK`, with the settings."""
    composed = compose([f"model={settings.gan}", f"model/network={settings.gan_network}"])
    model = OmegaConf.create(OmegaConf.to_container(composed.model, resolve=True))
    return OmegaConf.merge(model, settings.gan_settings)  # type: ignore[return-value]


def fit(cfg: DictConfig, folder: Path, steps: int) -> tuple[LightningModule, LightningDataModule, Trainer]:
    """A net of that config after so many steps; for a GAN, of its generator."""
    seed_everything(cfg.seed, workers=True, verbose=False)
    cfg.trainer.max_steps = steps
    model, data, trainer = build(cfg, folder)
    trainer.fit(model, datamodule=data)
    return model, data, trainer
