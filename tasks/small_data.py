"""task=small_data: whether images of a conditional GAN help a classifier that has few real ones."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf, open_dict
from torchvision.utils import save_image

from datamodules.contract import Count, Index
from gan.adversarial import GAN
from gan.callbacks.sample_plots import grid
from tasks.build import build
from tasks.config import CONF, check_node
from tasks.folders import short
from tasks.generate import write_set
from tasks.plots import save_plot
from tasks.results import atomic_writer
from tasks.small_data_report import ARMS, AUGMENTED, PLAIN, Settings, caption, columns_of, draw, sentence, summarize
from tasks.tables import Column, Table, escape_markdown, one_line
from tasks.train import test_model

PATHS = ("root", "seed", "train_images_per_class", "extra_train_path")  # of the data, not settings of a part


def small_data(
    cfg: DictConfig,
    folder: Path,
    per_class: list[Count],
    seeds: list[Index],
    gan: str,
    gan_network: str,
    gan_settings: dict[str, Any],
    gan_steps: Count,
    augment: dict[str, Any],
    fake_per_class: Count,
    classifier_steps: Count,
    parts: str | None,
) -> dict[str, Any]:
    """Trains the classifier of `cfg.model` on n real images per class, without and with images of a conditional GAN.

    The GAN is trained on the same n images per class and no others, augmented; two classifiers are trained on images
    as they are, two on augmented ones. All classifiers take the same number of steps, and their last weights are
    tested: to choose others by validation would take thousands of labelled images more. The images are always the
    first n of each class: a seed changes weights, order and latents. Writes small_data.md, .csv and .png.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        per_class: values of n.
        seeds: each n is repeated with each of them.
        gan: an option of the group model.
        gan_network: an option of the group model/network.
        gan_settings: values for keys of that model.
        gan_steps: of its generator.
        augment: as `cfg.data.augment`; empty = no augmented classifiers.
        fake_per_class: generated images per class.
        classifier_steps: of each classifier.
        parts: a folder; finished parts (n, seed) found there are not repeated. None = `folder`.

    Raises:
        ValueError: a list is empty, the GAN is not conditional, or the parts there were made with other settings.
    """
    if not per_class or not seeds or cfg.ckpt_path is not None:
        raise ValueError("task=small_data needs task.per_class, task.seeds and no ckpt_path: it trains from scratch")
    plain = {"gan_settings": as_plain(gan_settings), "augment": as_plain(augment)}
    settings = Settings(
        gan, gan_network, plain["gan_settings"], gan_steps, plain["augment"], fake_per_class, classifier_steps
    )
    place = Path(parts) if parts is not None else folder
    records = [run_part(cfg, folder, place / "parts", n, seed, settings) for n in per_class for seed in seeds]
    rows = summarize(records)
    table = Table(columns_of(rows), rows)
    lines = [table.to_markdown(), "", escape_markdown(caption(cfg, records[0]["metric"], settings)), ""]
    with atomic_writer(place / "small_data.md") as file:
        file.write("\n".join(lines))
    with atomic_writer(place / "small_data.csv") as file:
        file.write(Table(map(Column, rows[0]), rows).to_csv())
    save_plot(draw(rows, records[0]["metric"]), place / "small_data.png")
    table.print()
    print(f"written      {one_line(short(place.absolute()))}/small_data.md, .csv and .png, each part below parts/")
    return {"small_data": rows}


def as_plain(node: Any) -> Any:
    return json.loads(json.dumps(OmegaConf.to_container(node) if OmegaConf.is_config(node) else node))


def run_part(cfg: DictConfig, folder: Path, parts: Path, n: int, seed: int, settings: Settings) -> dict[str, Any]:
    """The record of one part: read if it is there already, otherwise made and written.

    Raises:
        ValueError: it was made with other settings, or its file cannot be read.
    """
    data = {key: value for key, value in as_plain(cfg.data).items() if key not in PATHS}
    wanted = {**settings._asdict(), "model": as_plain(cfg.model), "data": data}
    path = parts / f"{n:04d}_per_class_seed_{seed}.json"
    if path.exists():
        record = read_part(path)
        for name, value in wanted.items():
            if record["settings"].get(name) != value:
                found = record["settings"].get(name)
                raise ValueError(f"{path}: was made with {name}={found}, not {value}: use another task.parts")
    else:
        parts.mkdir(parents=True, exist_ok=True)
        record = measure(cfg, folder, n, seed, settings, path.with_suffix(".png")) | {"settings": wanted}
        with atomic_writer(path) as file:
            file.write(json.dumps(record, indent=2) + "\n")
    print(sentence(record), flush=True)
    return record


def read_part(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
        numbers = [record[name] for name in ("per_class", "seed", "seconds", *PLAIN)]
        if all(isinstance(number, int | float) for number in numbers) and isinstance(record["settings"], dict):
            return record
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: is not a part that task=small_data wrote") from error
    raise ValueError(f"{path}: is not a part that task=small_data wrote")


def measure(cfg: DictConfig, folder: Path, n: int, seed: int, settings: Settings, picture: Path) -> dict[str, Any]:
    """The accuracy of the classifiers of one part."""
    start = time.perf_counter()
    part = cfg.copy()
    with open_dict(part):
        part.seed, part.callbacks = seed, {}
        part.data.train_images_per_class = n
        part.trainer.update(max_epochs=-1, logger=False, limit_val_batches=0, log_every_n_steps=0)
        part.trainer.update(enable_checkpointing=False, enable_progress_bar=False)
    gan = fit_gan(part, folder, settings)
    with atomic_writer(picture, "wb") as file:
        save_image(grid(gan.fixed_samples(), 8), file, format="png")
    accuracies: dict[str, float] = {}
    metric = ""
    with TemporaryDirectory(dir=picture.parent, prefix=".fake-") as fakes:
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
    return {"per_class": n, "seed": seed, **accuracies, "metric": metric, "seconds": seconds}


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
    gan, _, _ = fit(cfg, folder, settings.gan_steps)
    if not isinstance(gan, GAN) or gan.num_classes is None:
        raise ValueError(f"task.gan={settings.gan}: a {type(gan).__name__} cannot generate images of a class")
    return gan


def compose_gan(settings: Settings) -> DictConfig:
    """The model part of the config of `model=GAN model/network=NETWORK`, with the settings."""
    overrides = [f"model={settings.gan}", f"model/network={settings.gan_network}"]
    if GlobalHydra.instance().is_initialized():
        composed = hydra.compose("config", overrides)
    else:  # called from Python
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("config", overrides)
    model = OmegaConf.create(OmegaConf.to_container(composed.model, resolve=True))
    return OmegaConf.merge(model, settings.gan_settings)  # type: ignore[return-value]


def fit(cfg: DictConfig, folder: Path, steps: int) -> tuple[LightningModule, LightningDataModule, Trainer]:
    """A net of that config after so many steps; for a GAN, of its generator."""
    seed_everything(cfg.seed, workers=True, verbose=False)
    cfg.trainer.max_steps = steps
    model, data, trainer = build(cfg, folder)
    trainer.fit(model, datamodule=data)
    return model, data, trainer
