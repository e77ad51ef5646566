"""Scores of a GAN while it trains, in `trainer.validate` and in `trainer.test`."""

import time
from typing import Annotated, Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from pydantic import Field
from torch import Tensor

from datamodules.contract import CheckedArguments, DivergenceError, Index
from datamodules.in_memory import InMemoryData, Split
from gan.adversarial import GAN
from gan.scores.distances import NEIGHBOURS, full_precision, scoring_device
from gan.scores.floors import fingerprint, load_floors, unseen_images
from gan.scores.images import image_scores, subsample
from gan.scores.progress import Report, scoring_progress, silent
from gan.scores.scoring_net import PRETRAINED, ScoringNet, ScoringNetName, gan_train_accuracy, scoring_net_for

BATCH = 500  # samples that a generator makes at a time
PARZEN_VALIDATION = 1000
LEARNED_CLASSES = 10  # by the LeNet-5 of GAN-train

SampleCount = Annotated[int, Field(ge=10)]


class Evaluation(CheckedArguments, Callback):
    """Computes scores of a GAN every few epochs, in `trainer.validate` and in `trainer.test`.

    They are logged as val/... and test/... metrics, the same on every process, of samples that the first process makes:
    `trainer.callback_metrics` has them, so that `ModelCheckpoint(monitor="val/fid")` works. Training goes on as if no
    random number had been drawn.

    Args:
        every_n_epochs: epochs between two evaluations while it trains; 0 = none. The first epoch is evaluated too where
            a checkpoint is chosen by a val/... metric, since Lightning asks for it after every validation.
        count: samples in each of these.
        final_count: samples in `trainer.validate` and `trainer.test`.

    Attributes:
        description: how the last scores were computed, in a phrase.
    """

    def __init__(self, every_n_epochs: Index, count: SampleCount, final_count: SampleCount) -> None:
        self.every_n_epochs = every_n_epochs
        self.count = count
        self.final_count = final_count
        self.description = ""
        self.metrics: dict[str, float] = {}  # the last ones while it trains
        self.report: Report = silent

    def state_dict(self) -> dict[str, Any]:
        return {"description": self.description, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.description = str(state_dict.get("description", ""))
        metrics = state_dict.get("metrics")
        known = metrics.items() if isinstance(metrics, dict) else ()  # a checkpoint may come from elsewhere
        self.metrics = {
            name: value for name, value in known if str(name).startswith("val/") and isinstance(value, float)
        }

    def check(self, model: Any, data: Any) -> None:
        """Raises a ValueError if samples of this model cannot be compared with this data."""

    def compute_scores(self, model: Any, data: Any, stage: str, final: bool) -> dict[str, float]:
        """All scores by name, against the `stage` "val" or "test" of the data; sets `description`."""
        raise NotImplementedError

    def progress_line(self, scores: dict[str, float]) -> str:
        """The scores that are printed while it trains."""
        raise NotImplementedError

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.check(pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        training = trainer.state.fn == "fit"
        epoch = trainer.current_epoch + 1
        if training and not self.is_due(trainer, epoch):
            if not self.metrics.keys() <= trainer.callback_metrics.keys():  # of a run that was resumed since
                pl_module.log_dict(self.metrics, logger=False)  # a checkpoint is chosen by the last scores
            return
        scores = self.log_scores(trainer, pl_module, "val", final=not training)
        if training and trainer.is_global_zero:
            print(f"epoch {epoch}: {self.progress_line(scores)}", flush=True)

    def is_due(self, trainer: Trainer, epoch: int) -> bool:
        """Whether scores are computed after an epoch: every n-th, and the first if a checkpoint is chosen by them."""
        if self.every_n_epochs == 0:
            return False
        monitors = [getattr(callback, "monitor", None) or "" for callback in trainer.checkpoint_callbacks]
        is_missing = not self.description and any(monitor.startswith("val/") for monitor in monitors)
        return is_missing or epoch % self.every_n_epochs == 0

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.log_scores(trainer, pl_module, "test", final=True)

    def log_scores(self, trainer: Trainer, model: LightningModule, stage: str, final: bool) -> dict[str, float]:
        assert isinstance(model, GAN)
        model.check_divergence()
        scores: dict[str, float] = {}
        if trainer.is_global_zero:
            with (
                torch.inference_mode(False),
                torch.no_grad(),
                full_precision(),
                scoring_progress(trainer) as self.report,
            ):
                scores = self.compute_scores(model, trainer.datamodule, stage, final)  # type: ignore[attr-defined]
            self.report = silent
        scores, self.description = trainer.strategy.broadcast((scores, self.description))
        metrics = {f"{stage}/{name}": value for name, value in scores.items()}
        training = trainer.state.fn == "fit"
        self.metrics = metrics if training else self.metrics
        model.log_dict(metrics, logger=False if training else None, sync_dist=trainer.world_size > 1)
        for logger in trainer.loggers if training else ():  # Lightning would log them at the batch, not at the step
            logger.log_metrics(metrics, step=trainer.global_step)
        return scores


class GANEvaluation(Evaluation):
    """Scores generated images against validation images while it trains and against test images in `trainer.test`.

    The scores are those of `gan.scores.images.image_scores`, with a Parzen log-likelihood against test images only.
    `NAME_floor` is what real training images, `gan.scores.floors.unseen_images`, score at the same count in place of
    the generated ones: interpret each score relative to its floor. `gan_test_accuracy` of a conditional GAN is the
    share of generated images that the scoring net assigns to their class; `gan_train_accuracy`, of final evaluations
    only, is the accuracy on real images of a LeNet-5 that was trained on generated ones, its floor that of one that was
    trained on as many real ones (K. Shmelkov et al., "How good is my GAN?", 2018). The latents are the same each time.

    Args:
        every_n_epochs: epochs between two evaluations while it trains; 0 = none.
        count: images of each set while it trains, fewer where there are fewer real ones.
        final_count: images of each set in `trainer.validate` and `trainer.test`.
        gan_train_count: generated images to train the LeNet-5 on, fewer where there are fewer real ones; 0 = none.
        scoring_net: one of `gan.scores.scoring_net.PRETRAINED`; None = that of the data set.
        pixels: whether distances between pixels are computed too, and with them Parzen's log-likelihood.
    """

    def __init__(
        self,
        every_n_epochs: Index = 5,
        count: SampleCount = 2000,
        final_count: SampleCount = 10_000,
        gan_train_count: Index = 10_000,
        scoring_net: ScoringNetName | None = None,
        pixels: bool = True,
    ) -> None:
        super().__init__(every_n_epochs, count, final_count)
        self.gan_train_count = gan_train_count
        self.scoring_net_name = scoring_net
        self.pixels = pixels
        self.scoring_net: ScoringNet | None = None
        self.floors = load_floors()  # those that are not stored are computed once

    def check(self, model: Any, data: Any) -> None:
        if self.scoring_net is None:
            self.scoring_net = ScoringNet(self.scoring_net_name or scoring_net_for(data.name))
        splits = (data.train_split, data.val_split, data.test_split)
        fewest = min((len(split.labels) for split in splits if split is not None), default=self.count)
        if fewest <= NEIGHBOURS:
            reason = f"has {fewest} images in a split, scores need {NEIGHBOURS + 1}"
            raise ValueError(f"{data.name} {reason}: train without them, callbacks.evaluation=null")
        if model.num_classes is not None and self.gan_train_count and len(data.class_names) > LEARNED_CLASSES:
            raise ValueError(
                f"gan_train_count must be 0, got {self.gan_train_count}: the LeNet-5 of GAN-train has "
                f"{LEARNED_CLASSES} classes, {data.name} has {len(data.class_names)}"
            )

    def compute_scores(self, model: Any, data: Any, stage: str, final: bool) -> dict[str, float]:
        started = time.perf_counter()
        scores = self.image_scores(model, data, stage, self.final_count if final else self.count)
        if final and self.gan_train_count and model.num_classes is not None:
            scores |= self.gan_train_scores(model, data, stage)
        self.description = self.describe(scores, data, stage)
        return scores | {"evaluation_seconds": time.perf_counter() - started}

    def progress_line(self, scores: dict[str, float]) -> str:
        assert self.scoring_net is not None
        values = ("fid", "fid_floor", "inception_score", "inception_score_floor")
        halves = (f"nearest_neighbour_accuracy_{half}" for half in ("real", "fake"))
        fid, fid_floor, score, score_floor, real, fake = (
            f"{float(f'{scores[name]:.3g}'):g}" for name in (*values, *halves)
        )
        parts = f"FID {fid} (floor {fid_floor}), IS {score} ({score_floor}), 1-NN {real} real, {fake} fake"
        return f"{parts} by net {self.scoring_net.name}"

    def report_floor(self, stage: str) -> None:
        self.report(f"floor, {stage}")

    def describe(self, scores: dict[str, float], data: Any, stage: str) -> str:
        """Which scoring net compared how many images with which, and whether it was trained on these."""
        assert self.scoring_net is not None
        kind = {"test": "test", "val": "validation"}[stage]
        is_known = data.name in PRETRAINED[self.scoring_net.name].trained_on or data.num_folds is not None
        seen = " (which it was trained on)" if is_known else ""
        text = f"by {self.scoring_net}, {scores['count']:,.0f} generated images against as many {kind} images{seen}"
        if "gan_train_count" in scores:
            text += f"; GAN-train on {scores['gan_train_count']:,.0f} generated images"
        return text

    @torch.no_grad()
    def image_scores(self, model: Any, data: Any, stage: str, count: int) -> dict[str, float]:
        """Scores of generated images, their floors and the count that was possible."""
        assert self.scoring_net is not None
        split = split_of(data, stage)
        count = min(count, len(split.labels), len(data.own_train_split.labels))
        device = scoring_device(model.device)
        net = self.scoring_net.to(device)
        labels = None if model.num_classes is None else torch.arange(count) % model.num_classes
        fake = fixed_seed_samples(model, count, labels).to(device)
        real = data.transform(subsample(split.images, count).to(device))
        train = data.transform(subsample(unseen_images(data, count).images, count).to(device))
        with_parzen = stage == "test" and data.val_split is not None
        parzen_images = data.val_split.images[:PARZEN_VALIDATION].to(device) if with_parzen else None
        validation = None if parzen_images is None else data.transform(parzen_images)
        with torch.autocast(device.type, enabled=False):
            scores = image_scores(net, real, fake, validation, self.pixels, self.report)
            key = fingerprint(PRETRAINED[net.name].sha256, real, train, validation)
            if key not in self.floors:
                self.floors[key] = image_scores(net, real, train, validation, self.pixels, self.report_floor)
            if labels is not None and data.name in PRETRAINED[net.name].data_sets:  # its classes are the net's
                predicted = net.logits(net.features_of_all(fake)).argmax(1)
                scores["gan_test_accuracy"] = (predicted == labels.to(device)).float().mean().item()
        net.cpu()
        floors = {f"{name}_floor": value for name, value in self.floors[key].items() if name in scores}
        return scores | floors | {"count": float(count)}

    @torch.no_grad()
    def gan_train_scores(self, model: Any, data: Any, stage: str) -> dict[str, float]:
        """GAN-train accuracy on real images, its floor and the count that was possible."""
        split = split_of(data, stage)
        count = min(self.gan_train_count, len(data.own_train_split.labels))
        device = scoring_device(model.device)
        labels = torch.arange(count) % len(data.class_names)
        fake, labels = fixed_seed_samples(model, count, labels).to(device), labels.to(device)
        test = data.transform(split.images.to(device)), split.labels.to(device)
        real, real_labels = (subsample(part, count).to(device) for part in data.own_train_split)
        real = data.transform(real)
        with torch.autocast(device.type, enabled=False):
            accuracy = gan_train_accuracy(fake, labels, *test, self.report)
            key = fingerprint(real, real_labels, *test)
            if key not in self.floors:
                floor = gan_train_accuracy(real, real_labels, *test, self.report_floor)
                self.floors[key] = {"gan_train_accuracy": floor}
        floor = self.floors[key]["gan_train_accuracy"]
        return {
            "gan_train_accuracy": accuracy,
            "gan_train_accuracy_floor": floor,
            "gan_train_count": float(count),
        }


def split_of(data: InMemoryData, stage: str) -> Split:
    """The images of a stage, "val" or "test"."""
    split = data.test_split if stage == "test" else data.val_split
    assert split is not None
    return split


def fixed_seed_samples(model: GAN, count: int, labels: Tensor | None = None) -> Tensor:
    """The same samples (count, ...) of a GAN each time, of classes `labels` (count,); keeps the random state.

    Raises:
        DivergenceError: samples are not finite.
    """
    with isolate_rng(), torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        torch.manual_seed(0)
        parts = []
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            parts.append(model.sample(size, None if labels is None else labels[start : start + size]))
    samples = torch.cat(parts).float()
    if not samples.isfinite().all():
        raise DivergenceError("generator", model.global_step)
    return samples
