"""How good the generated images are, measured while a GAN trains and on the test images when it has."""

import hashlib
import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from gan.scores.distances import Distances, KernelMMD, NearestNeighbour, PrecisionRecall, Wasserstein, centred
from gan.scores.metrics import ModeScore, ParzenLogLikelihood
from gan.scores.scoring_net import FOLDER, JUDGES, Judge, accuracy_of_a_pupil, judge_of

BATCH = 500  # images that a net reads or makes at a time
WASSERSTEIN_COUNT = 2000  # images a side that the exact distance is computed of
PARZEN_VALIDATION = 1000
FLOORS = FOLDER / "floors.json"


class AsTheyAre(nn.Identity):
    """For torchmetrics, which would run the judge once a metric: the features are already there."""

    num_features = Judge.num_features


class Evaluation(Callback):
    """Measures a GAN every few epochs and at the end of its run, in TensorBoard and in results.json.

    Args:
        every_n_epochs: epochs between two looks; 0 = only at the end.
        count: samples that are looked at while it trains.
        final_count: and at the end.

    Raises:
        ValueError: a number is too small.
    """

    key = "evaluation"  # among the config's callbacks

    def __init__(self, every_n_epochs: int, count: int, final_count: int) -> None:
        values = {"every_n_epochs": (every_n_epochs, 0), "count": (count, 10), "final_count": (final_count, 10)}
        for name, (value, least) in values.items():
            if value < least:
                raise ValueError(f"callbacks.{self.key}.{name}={value}: a whole number of {least} or more is needed")
        self.every_n_epochs = every_n_epochs
        self.count = count
        self.final_count = final_count

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every_n_epochs == 0 or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        if trainer.is_global_zero:
            data = trainer.datamodule  # type: ignore[attr-defined]
            scores = self.measured(pl_module, data, self.count, last=False)
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scores.items()})
            self._log(trainer, scores)
            how = f"{self.shown(scores)}, {self.account(scores, data)}"
            print(f"epoch {trainer.current_epoch + 1}: {how}", flush=True)
        trainer.strategy.barrier("evaluated")  # the other processes wait; the scores are rank 0's

    def measure(self, trainer: Trainer, model: LightningModule, data: Any) -> dict[str, Any]:
        """The final scores, and how they came about."""
        scores = self.measured(model.to(trainer.strategy.root_device), data, self.final_count, last=True)
        self._log(trainer, scores)
        return scores | {"judged": self.account(scores, data)}

    def measured(self, model: Any, data: Any, count: int, last: bool) -> dict[str, float]:
        """All scores of `count` samples by name, while it trains or, with `last`, at the end."""
        raise NotImplementedError

    def shown(self, scores: dict[str, float]) -> str:
        """The scores that are printed while it trains."""
        raise NotImplementedError

    def account(self, scores: dict[str, float], data: Any) -> str:
        """Who judged how many samples, by what."""
        raise NotImplementedError

    def _log(self, trainer: Trainer, scores: dict[str, float]) -> None:
        if trainer.logger is not None:
            trainer.logger.log_metrics(scores, step=trainer.global_step)  # which counts a GAN's generator steps


class GANEvaluation(Evaluation):
    """Scores generated against real images: validation images every few epochs, the test images at the end.

    `val/fid` and the like, in TensorBoard and in results.json. FID, KID, Inception and Mode Score, and `mmd`,
    `wasserstein_2000` (its name says of how many images a side), `nearest_neighbour_accuracy`, `precision` and `recall`
    are of the judge's features; those that begin with `pixel_` are of pixels, and so is Parzen's log-likelihood, at the
    end alone. `NAME_floor` is what real training images score at the same count, in place of the generated ones: none
    is worth much but beside it. `gan_test_accuracy` of a conditional GAN is how often the judge sees the class that was
    asked for; `gan_train_accuracy`, at the end alone, how often a LeNet-5 is right about real images that has learnt
    from generated ones, its floor one that has learnt from as many real ones (K. Shmelkov et al., "How good is my
    GAN?", 2018). The same latents are drawn each time, and training goes on as if nothing had been drawn.

    Args:
        every_n_epochs: epochs between two looks; 0 = only at the end.
        count: images a side while it trains, fewer where there are fewer real ones.
        final_count: images a side at the end.
        gan_train_count: generated images that the LeNet-5 learns from, fewer where there are fewer real ones; 0 = none.
        judge: one of `gan.scores.scoring_net.JUDGES`; null = the one of the data set.
    """

    def __init__(
        self,
        every_n_epochs: int = 5,
        count: int = 2000,
        final_count: int = 10_000,
        gan_train_count: int = 10_000,
        judge: str | None = None,
    ) -> None:
        super().__init__(every_n_epochs, count, final_count)
        if gan_train_count < 0:
            raise ValueError(
                f"callbacks.evaluation.gan_train_count={gan_train_count}: a whole number of 0 or more is needed"
            )
        self.gan_train_count = gan_train_count
        self.judge_name = judge
        self.judge: Judge | None = None
        # by fingerprint: those of the official sets are known, a run's others are measured once
        self.floors: dict[str, dict[str, float]] = json.loads(FLOORS.read_text())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._load_judge(trainer.datamodule)  # type: ignore[attr-defined]  # what cannot be judged is refused before it trains

    def measured(self, model: Any, data: Any, count: int, last: bool) -> dict[str, float]:
        """On validation images while it trains, at the end on test images, where the set has any."""
        self._load_judge(data)
        stage = "test" if last and data.test_split is not None else "val"
        scores = self.evaluate(model, data, stage, count)
        if last and self.gan_train_count and model.num_classes is not None:
            started = time.perf_counter()
            scores |= self.gan_train(model, data, stage)
            scores[f"{stage}/evaluation_seconds"] += time.perf_counter() - started
        return scores

    def shown(self, scores: dict[str, float]) -> str:
        names = ("val/fid", "val/inception_score", "val/nearest_neighbour_accuracy")
        return ", ".join(f"{name} {scores[name]:.3g} (floor {scores[f'{name}_floor']:.3g})" for name in names)

    def _load_judge(self, data: Any) -> None:
        if self.judge is None:
            self.judge = Judge(self.judge_name or judge_of(data.name))

    def account(self, scores: dict[str, float], data: Any) -> str:
        """Who judged how many images against which, and whether it had seen these before."""
        assert self.judge is not None
        [(name, count)] = [(name, count) for name, count in scores.items() if name.endswith("/count")]
        kind = "test" if name.startswith("test") else "validation"
        seen = ", which it was trained on" if data.name in JUDGES[self.judge.name].seen else ""
        learnt_from = scores.get(name.replace("count", "gan_train_count"))
        gan_train = "" if learnt_from is None else f"; GAN-train on {learnt_from:,.0f} generated images"
        of = f"{count:,.0f} generated images against as many {kind} images"
        return f"by judge {self.judge}, {of}{seen}{gan_train}"

    @torch.no_grad()
    def evaluate(self, model: Any, data: Any, stage: str, count: int) -> dict[str, float]:
        """All scores by name, `stage/...`, with their floors, the count that was possible and the seconds it took."""
        assert self.judge is not None
        started = time.perf_counter()
        split = data.test_split if stage == "test" else data.val_split
        count = min(count, len(split.labels), len(data.train_split.labels))
        device = model.device
        self.judge.to(device)
        number = model.num_classes
        with isolate_rng(), torch.autocast(device.type, enabled=False):
            torch.manual_seed(0)
            real = data.transform(spread(split.images, count).to(device))
            labels = (torch.arange(count, device=device) % (number or 1)).split(BATCH)
            parts = [model.sample(len(part), None if number is None else part) for part in labels]
            fake = torch.cat(parts).float()
            parzen = data.val_split.images[:PARZEN_VALIDATION] if stage == "test" else None
            validation = None if parzen is None else data.transform(parzen.to(device))
            scores = self.scores(real, fake, validation)
            train = data.transform(spread(data.train_split.images, count).to(device))
            of_whom = fingerprint(JUDGES[self.judge.name].sha256, real, train, validation)
            if of_whom not in self.floors:
                self.floors[of_whom] = self.scores(real, train, validation)
            if number is not None:
                seen = self.judge.logits(self.features(fake)).argmax(1)
                scores["gan_test_accuracy"] = (seen == torch.cat(labels)).float().mean().item()
        self.judge.cpu()
        scores |= {f"{name}_floor": value for name, value in self.floors[of_whom].items()}
        scores |= {"count": float(count), "evaluation_seconds": time.perf_counter() - started}
        return {f"{stage}/{name}": value for name, value in scores.items()}

    @torch.no_grad()
    def gan_train(self, model: Any, data: Any, stage: str) -> dict[str, float]:
        """GAN-train accuracy on real images, its floor and the count that was possible."""
        split = data.test_split if stage == "test" else data.val_split
        count = min(self.gan_train_count, len(data.train_split.labels))
        device = model.device
        with isolate_rng(), torch.autocast(device.type, enabled=False):
            torch.manual_seed(0)
            test = data.transform(split.images.to(device)), split.labels.to(device)
            labels = torch.arange(count, device=device) % len(data.class_names)
            fake = torch.cat([model.sample(len(part), part) for part in labels.split(BATCH)]).float()
            real, real_labels = (spread(part, count).to(device) for part in data.train_split)
            real = data.transform(real)
            accuracy = accuracy_of_a_pupil(fake, labels, *test)
            of_whom = fingerprint(real, real_labels, *test)
            if of_whom not in self.floors:
                self.floors[of_whom] = {"gan_train_accuracy": accuracy_of_a_pupil(real, real_labels, *test)}
        scores = {
            "gan_train_accuracy": accuracy,
            "gan_train_accuracy_floor": self.floors[of_whom]["gan_train_accuracy"],
            "gan_train_count": float(count),
        }
        return {f"{stage}/{name}": value for name, value in scores.items()}

    def features(self, images: Tensor) -> Tensor:
        assert self.judge is not None
        return torch.cat([self.judge(part) for part in images.split(BATCH)])

    def scores(self, real: Tensor, fake: Tensor, validation: Tensor | None) -> dict[str, float]:
        """The scores of images (N, 1, 28, 28) in [-1, 1]; with Parzen's log-likelihood where validation images are."""
        assert self.judge is not None
        torch.manual_seed(0)  # of KID's subsets
        real_features, fake_features = self.features(real), self.features(fake)
        scores = judged(self.judge.logits(real_features), self.judge.logits(fake_features))
        scores |= by_features(real_features, fake_features)
        scores |= distances(real_features, fake_features)
        scores |= {f"pixel_{name}": value for name, value in distances(real, fake).items()}
        if validation is not None:
            parzen = figures(ParzenLogLikelihood(validation).to(real.device), real, fake)
            scores |= {f"parzen_{name}": value for name, value in parzen.items()}
        return scores


def fingerprint(*parts: str | Tensor | None) -> str:
    """Tells what a floor was measured on: which judge, and every pixel and label.

    >>> fingerprint("judge", torch.zeros(2))[:8], fingerprint("judge", torch.ones(2))[:8]
    ('b5de0313', '044b2cb6')
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.cpu().numpy().tobytes() if isinstance(part, Tensor) else str(part).encode())
    return digest.hexdigest()


def store_floors(model: Any, *data_sets: Any) -> None:
    """Measures the floors of data sets at the usual counts, for all runs to come; any conditional GAN will do.

    python -c "from gan import cgan, evaluation; from datamodules.mnist import MNIST, FashionMNIST
    evaluation.store_floors(cgan.CGAN(), MNIST(), FashionMNIST())"
    """
    floors: dict[str, dict[str, float]] = {}
    for data in data_sets:
        data.prepare_data()
        data.setup()
        evaluation = GANEvaluation(judge=judge_of(data.name))
        evaluation._load_judge(data)
        evaluation.floors = floors
        evaluation.evaluate(model, data, "val", evaluation.count)
        evaluation.evaluate(model, data, "test", evaluation.final_count)
        evaluation.gan_train(model, data, "test")
    FLOORS.write_text(json.dumps(floors, indent=1) + "\n")


def spread(images: Tensor, count: int) -> Tensor:
    """`count` images, or all where there are fewer, at even distances: of a set that is sorted, some of each class.

    >>> spread(torch.arange(10), 4)
    tensor([0, 2, 5, 7])
    """
    count = min(count, len(images))
    return images[torch.arange(count) * len(images) // count]


def figures(metric: Any, real: Tensor, fake: Tensor) -> dict[str, float]:
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return {name: value.item() for name, value in metric.compute().items()}


@contextmanager
def without_advice() -> Iterator[None]:
    """Keeps torchmetrics from saying that features take memory and that one split has no standard deviation."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Metric `.*` will save all extracted features|std\(\): degrees of")
        yield


@without_advice()
def judged(real_logits: Tensor, fake_logits: Tensor) -> dict[str, float]:
    """Inception Score, of all images at once, and Mode Score."""
    inception = InceptionScore(feature=nn.Identity(), splits=1, sync_on_compute=False).to(fake_logits.device)
    inception.update(fake_logits.double())
    mode = ModeScore(fake_logits.shape[1], sync_on_compute=False).to(fake_logits.device)
    mode.update(real_logits, real=True)
    mode.update(fake_logits, real=False)
    return {"inception_score": inception.compute()[0].item(), "mode_score": mode.compute().item()}


@without_advice()
def by_features(real: Tensor, fake: Tensor) -> dict[str, float]:
    """FID, and KID as the mean over 100 subsets of up to 1,000 images: with 10 its error is four times as large."""
    fid = FrechetInceptionDistance(feature=AsTheyAre(), sync_on_compute=False).to(real.device)
    size = min(1000, len(real))
    kid = KernelInceptionDistance(feature=AsTheyAre(), subset_size=size, sync_on_compute=False).to(real.device)
    for metric in (fid, kid):
        metric.update(real, real=True)
        metric.update(fake, real=False)
    return {"fid": max(0.0, fid.compute().item()), "kid": kid.compute()[0].item()}


def distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    """What gan/distances.py measures; the Wasserstein distance is that of as many images a side as its name says."""
    wasserstein = Wasserstein(sync_on_compute=False).to(real.device)
    # drawn at random: made in turn for each class, every fifth generated image would be of two classes of ten
    few = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:WASSERSTEIN_COUNT].to(real.device)
    wasserstein.update(real[few], real=True)
    wasserstein.update(fake[few], real=False)
    precision_recall = PrecisionRecall()
    between = Distances(*centred(real.flatten(1), fake.flatten(1)), precision_recall.neighbours)
    neighbour = NearestNeighbour().of(between)
    scores = {
        **KernelMMD().of(between),
        f"wasserstein_{len(few)}": wasserstein.compute(),
        "nearest_neighbour_accuracy": neighbour["total"],
        "nearest_neighbour_accuracy_real": neighbour["real"],
        "nearest_neighbour_accuracy_fake": neighbour["fake"],
        **precision_recall.of(between),
    }
    return {name: value.item() for name, value in scores.items()}
