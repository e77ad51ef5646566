"""task=small_data: whether images of a CGAN help a classifier that has few real ones."""

import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf, open_dict
from torchvision.utils import save_image

from gan.adversarial import GAN
from gan.callbacks.sample_plots import grid
from tasks.build import build
from tasks.generate import write_set
from tasks.results import read, recorded, write
from tasks.train import measure, short

BUDGET = ("gan_steps", "classifier_steps", "fake_per_class")
ARMS = {"alone": "real", "with_fake": "real and generated"}  # what a classifier learns from ...
AUGMENTED = {"augmented": "real, augmented", "augmented_with_fake": "both, augmented"}  # ... and `task.augment` beside


@recorded
def small_data(cfg: DictConfig) -> dict[str, Any]:
    """Trains the classifier of `model=` on n real images a class, without and with images of a CGAN.

    The GAN sees the same n images a class and no others, each time augmented by `task.augment`; two classifiers see
    images as they are, two augmented ones. All classifiers take the same number of steps; the last weights count, since
    choosing some by validation would take thousands of labelled images more. The images are always the first n of each
    class: a seed changes weights, order, latents. A part (n, seed) that lies finished in `task.folder` is not done
    again. Writes small_data.md and small_data.png into it.

    Raises:
        ValueError: a budget is out of its range, the GAN knows no classes, or the folder's parts were made otherwise.
    """
    check(cfg)
    folder = Path(cfg.task.folder or HydraConfig.get().runtime.output_dir)
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    settings = settings_of(cfg)
    records = []
    for per_class in cfg.task.per_class:
        for seed in cfg.task.seeds:
            path = parts / f"{per_class:04d}_a_class_seed_{seed}.json"
            record = read(path)
            if not record:
                record = {**measured(cfg, per_class, seed, path.with_suffix(".png")), "settings": settings}
                write(path, record)
            check_same(record["settings"], settings, path)
            records.append(record)
            print(sentence(record), flush=True)
    rows = summarize(records)
    (folder / "small_data.md").write_text(markdown(rows, records[0], cfg))
    draw(rows, records[0]["metric"]).savefig(folder / "small_data.png", dpi=120)
    print(markdown(rows, records[0], cfg))
    print(f"written      {short(folder)}/small_data.md and small_data.png, each part below parts/")
    return {"small_data": rows}


def check(cfg: DictConfig) -> None:
    values = {name: [cfg.task[name]] for name in BUDGET} | {"per_class": cfg.task.per_class}
    for name, numbers in values.items():
        if not numbers or any(
            isinstance(number, bool) or not isinstance(number, int) or number < 1 for number in numbers
        ):
            raise ValueError(f"task.{name}={cfg.task[name]}: whole numbers above 0 are needed")
    if not cfg.task.seeds or cfg.ckpt_path is not None:
        raise ValueError("task=small_data needs a list task.seeds, and no ckpt_path: it trains from the start")


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """What a part depends on beside its n and its seed, in plain values."""
    data = {key: value for key, value in cfg.data.items() if key not in ("root", "seed", "limit_train", "extend_with")}
    names = (*BUDGET, "gan", "gan_settings", "augment")
    chosen = {name: cfg.task[name] for name in names} | {"model": cfg.model, "data": data}
    plain: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(chosen), resolve=False)  # type: ignore[assignment]
    return json.loads(json.dumps(plain))


def check_same(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(f"{path}: was made with {name}={found.get(name)}, not {value}: use another task.folder")


def measured(cfg: DictConfig, per_class: int, seed: int, picture: Path) -> dict[str, Any]:
    """Accuracy of the classifiers of one part."""
    start = time.perf_counter()
    part = cfg.copy()
    with open_dict(part):
        part.seed = seed
        part.data.limit_train = per_class
        part.trainer.update(max_epochs=-1, logger=False, callbacks=None, limit_val_batches=0)
        part.trainer.update(enable_checkpointing=False, enable_progress_bar=False, log_every_n_steps=0)
    of_gan = part.copy()
    of_gan.model = OmegaConf.merge(compose("config", [f"model={cfg.task.gan}"]).model, cfg.task.gan_settings)
    of_gan.data.augment = cfg.task.augment
    gan, _, _ = fitted(of_gan, cfg.task.gan_steps)
    if not isinstance(gan, GAN) or gan.num_classes is None:
        raise ValueError(f"task.gan={cfg.task.gan}: a {type(gan).__name__} cannot make images of a class")
    save_image(grid(gan.images_of_fixed_latents(), 8), picture)
    accuracies: dict[str, float] = {}
    with TemporaryDirectory(dir=picture.parent, prefix=".fake-") as folder:
        count = cfg.task.fake_per_class * gan.num_classes
        write_set(gan, Path(folder, "set"), "idx", count, range(gan.num_classes), quiet=True)
        for arm in ARMS | (AUGMENTED if cfg.task.augment else {}):
            part.data.extend_with = str(Path(folder, "set")) if arm.endswith("with_fake") else None
            part.data.augment = cfg.task.augment if arm in AUGMENTED else cfg.data.augment
            model, data, trainer = fitted(part, cfg.task.classifier_steps)
            trainer.limit_val_batches = 1.0
            results = measure(model, data, trainer, None)
            metric = next(name for name in ("test/accuracy", "val/accuracy") if name in results)
            accuracies[arm] = results[metric]
    seconds = time.perf_counter() - start
    return {"per_class": per_class, "seed": seed, **accuracies, "metric": metric, "seconds": seconds}


def fitted(cfg: DictConfig, steps: int) -> tuple[LightningModule, LightningDataModule, Trainer]:
    """A net of that config after so many steps; of a GAN they are its generator's."""
    seed_everything(cfg.seed, workers=True, verbose=False)
    cfg.trainer.max_steps = steps
    model, data, trainer = build(cfg)
    trainer.fit(model, datamodule=data)
    return model, data, trainer


def sentence(record: dict[str, Any]) -> str:
    """
    >>> sentence({"per_class": 10, "seed": 0, "alone": 0.8, "with_fake": 0.825, "metric": "val/accuracy", "seconds": 9})
    '10 a class, seed 0: val/accuracy 0.8000 real, 0.8250 real and generated (9 s)'
    """
    part = f"{record['per_class']} a class, seed {record['seed']}: {record['metric']}"
    accuracies = [f"{record[arm]:.4f} {label}" for arm, label in (ARMS | AUGMENTED).items() if arm in record]
    return f"{part} {', '.join(accuracies)} ({record['seconds']:.0f} s)"


def summarize(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each n: mean and standard deviation (n - 1) over the seeds of each arm.

    >>> part = {"per_class": 10, "alone": 0.5}
    >>> summarize([part | {"with_fake": 0.75}, part | {"with_fake": 0.75}])
    [{'per_class': 10, 'seeds': 2, 'alone': (0.5, 0.0), 'with_fake': (0.75, 0.0)}]
    """
    rows = []
    for per_class in dict.fromkeys(record["per_class"] for record in records):
        group = [record for record in records if record["per_class"] == per_class]
        arms = {arm: [record[arm] for record in group] for arm in ARMS | AUGMENTED if arm in group[0]}
        spread = {name: mean_and_deviation(values) for name, values in arms.items()}
        rows.append({"per_class": per_class, "seeds": len(group), **spread})
    return rows


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def markdown(rows: list[dict[str, Any]], record: dict[str, Any], cfg: DictConfig) -> str:
    """The table, in per cent, and what it is of."""
    arms = {arm: label for arm, label in (ARMS | AUGMENTED).items() if arm in rows[0]}
    lines = [f"| real images a class | seeds | {' | '.join(arms.values())} |", "|---" * (len(arms) + 2) + "|"]
    for row in rows:
        cells = [f"{100 * row[arm][0]:.2f}" for arm in arms]
        if row["seeds"] > 1:  # one has no deviation
            cells = [f"{cell} +- {100 * row[arm][1]:.2f}" for cell, arm in zip(cells, arms, strict=True)]
        lines.append(f"| {row['per_class']} | {row['seeds']} | {' | '.join(cells)} |")
    task = cfg.task
    gan = " ".join([task.gan, *(f"{name}={value}" for name, value in task.gan_settings.items())])
    how = f"{record['metric']} in per cent, mean +- standard deviation over seeds; {task.gan_steps:,} generator steps "
    how += f"({gan}), {task.fake_per_class:,} generated images a class, {task.classifier_steps:,} steps "
    return "\n".join([*lines, "", f"{how}of each classifier ({cfg.choices.model}, {cfg.choices.data}).", ""])


def draw(rows: list[dict[str, Any]], metric: str) -> Figure:
    """Accuracy over the number of real images, a line for each arm."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    for arm, label in (ARMS | AUGMENTED).items():
        if arm not in rows[0]:
            continue
        means, deviations = zip(*(row[arm] for row in rows), strict=True)
        heights, errors = ([100 * value for value in values] for values in (means, deviations))
        line = "--" if arm in AUGMENTED else "-"
        axes.errorbar(
            [row["per_class"] for row in rows], heights, errors, marker="o", linestyle=line, capsize=3, label=label
        )
    axes.set(xscale="log", xlabel="real images a class", ylabel=f"{metric} (%)")
    axes.set_xticks([row["per_class"] for row in rows], [str(row["per_class"]) for row in rows])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
