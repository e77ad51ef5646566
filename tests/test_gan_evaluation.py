"""The nets that score GANs, and the scores of a run and its checkpoint beside what real images get."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import checkpoint_of, only_run, results_of, run_well
from conftest import compose, flat, small_run
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_claim_measures import KnownData
from test_gan_metrics import digits
from torch import Tensor
from torch.optim import Adam

from classic_cnn.vgg import VGG
from datamodules.formats import image_set_writer
from datamodules.mnist import MNIST, MNIST5k
from gan.cgan import CGAN
from gan.scores.evaluation import GANEvaluation
from gan.scores.floors import unseen_images
from gan.scores.ladder import changed_images
from gan.scores.scoring_net import (
    FOLDER,
    PRETRAINED,
    TRAINING_IMAGES,
    ScoringNet,
    export,
    gan_train_accuracy,
    scoring_net_for,
)
from tasks.process import configure_process


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_scoring_net_has_the_accuracy_of_its_table_and_is_small(name: str) -> None:
    data = instantiate(compose(f"data={name}").data)
    data.prepare_data()
    data.setup()
    net = ScoringNet(name).train()  # which stays in eval mode
    with torch.no_grad():
        images = data.transform(data.test_split.images)
        predicted = net.logits(net.features_of_all(images)).argmax(1)
    accuracy = (predicted == data.test_split.labels).float().mean().item()
    assert accuracy == pytest.approx(PRETRAINED[name].test_accuracy, abs=5e-4)
    assert scoring_net_for(data.name) == name
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 1_000_000


def test_an_exported_scoring_net_is_the_same_net_and_a_changed_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = VGG(depth=11, width=0.125).eval()
    torch.save({"state_dict": net.state_dict()}, "some.ckpt")
    sha256 = export("some.ckpt", "mnist", folder=tmp_path)
    monkeypatch.setattr("gan.scores.scoring_net.FOLDER", tmp_path)
    with pytest.raises(ValueError, match="has changed"):
        ScoringNet("mnist")
    monkeypatch.setitem(PRETRAINED, "mnist", PRETRAINED["mnist"]._replace(sha256=sha256))
    exported, images = ScoringNet("mnist"), torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(exported.logits(exported(images)), net(images))
    torch.save({"state_dict": VGG(depth=11, width=0.25).state_dict()}, "some.ckpt")
    with pytest.raises(ValueError, match=r"some.ckpt: not a VGG with depth=11"):
        export("some.ckpt", "mnist", folder=tmp_path)


def test_a_scoring_net_or_data_set_that_is_not_known_is_refused() -> None:
    for build in (lambda: ScoringNet("cifar"), lambda: GANEvaluation(scoring_net="cifar")):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"scoring_net .*cifar"):
            build()
    with pytest.raises(ValueError, match=r"mnist, fashion_mnist.* shapes"):
        scoring_net_for("shapes")
    for name, value in {"every_n_epochs": -1, "count": 9, "final_count": 0, "gan_train_count": -1}.items():
        with pytest.raises(ValueError, match=f"{name} .*{value}"):
            GANEvaluation(**{name: value})  # type: ignore[arg-type]


SHORT = (
    "data=mnist_5k",
    "data.train_images_per_class=40",
    "data.batch_size=40",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
)


def test_a_resumed_run_is_scored_in_the_same_epochs() -> None:
    """Its checkpoint is chosen by the scores, and is one of the same candidates."""
    often = ("callbacks.evaluation.every_n_epochs=3", "callbacks.evaluation.count=20", "model.network.width=0.1")
    best = ("callbacks.checkpoint.monitor=val/fid", "callbacks.checkpoint.mode=min", "trainer.limit_test_batches=0")
    whole = (*SHORT, *often, *best, "trainer.max_epochs=4")
    scored = [f"epoch {epoch}: FID" for epoch in (1, 2, 3, 4)]
    said = run_well("model=gan", *whole).out
    assert [text in said for text in scored] == [True, False, True, False]
    uninterrupted = checkpoint_of(only_run())
    shutil.rmtree("outputs")
    run_well("model=gan", *whole[:-1], "trainer.max_epochs=1")
    said = run_well(f"ckpt_path={only_run()}/checkpoints/last.ckpt", "trainer.max_epochs=4").out
    assert [text in said for text in scored] == [False, False, True, False]
    one, other = (content["callbacks"] for content in (uninterrupted, checkpoint_of(only_run())))
    [key] = [key for key in one if key.startswith("ModelCheckpoint{'monitor': 'val/fid'")]
    assert torch.equal(one[key]["best_model_score"], other[key]["best_model_score"])


@pytest.mark.parametrize("state", [{}, {"metrics": [1]}, {"metrics": {"val/fid": "much"}, "description": 3}])
def test_state_of_an_evaluation_is_numbers_only(state: dict[str, Any]) -> None:
    evaluation = GANEvaluation()
    evaluation.load_state_dict(state)
    assert evaluation.metrics == {}


def test_scores_are_computed_with_all_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that rounds the factors of a product finds copies of an image at some distance from it."""
    seen = []

    def compute_scores(*_: Any, **__: Any) -> dict[str, float]:
        seen.append(torch.get_float32_matmul_precision())
        return {}

    monkeypatch.setattr(GANEvaluation, "progress_line", lambda self, scores: "")
    monkeypatch.setattr(GANEvaluation, "compute_scores", compute_scores)
    model, data, trainer = small_run("model=gan", "callbacks.evaluation.every_n_epochs=1", "model.network.width=0.25")
    torch.set_float32_matmul_precision("high")
    trainer.fit(model, data)
    assert {*seen} == {"highest"}
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.extended
@pytest.mark.parametrize("model", ["gan", "cgan"])
def test_a_run_and_its_checkpoint_have_the_same_scores_beside_their_floors(model: str) -> None:
    often = (
        "callbacks.evaluation.every_n_epochs=2",
        "callbacks.evaluation.count=100",
        "trainer.max_epochs=2",
        "model.network.width=0.25",
    )
    at_the_end = ("callbacks.evaluation.final_count=200", "callbacks.evaluation.gan_train_count=200")
    said = run_well(f"model={model}", *SHORT, *often, *at_the_end).out
    folder = only_run()
    results = results_of(folder)
    for name in (
        "fid",
        "fid_relative",
        "kid",
        "inception_score",
        "mode_score",
        "mmd",
        "wasserstein_200",
        "nearest_neighbour_accuracy",
    ):
        assert math.isfinite(results[f"val/{name}"])
        assert math.isfinite(results[f"val/{name}_floor"])
    assert results["val/fid"] > results["val/fid_floor"]
    assert results["val/count"] == 200
    conditional = ("gan_test_accuracy", "gan_train_accuracy", "gan_train_accuracy_floor", "gan_train_count")
    assert {f"val/{name}" in results for name in conditional} == {model == "cgan"}
    assert "200 generated images against as many validation images" in " ".join(said.split())
    assert re.search(r"^epoch 2: FID \S+ \(floor .* by net mnist$", said, re.MULTILINE)
    assert "nearest_neighbour_accuracy" in said
    board = EventAccumulator(str(folder)).Reload()
    assert {event.step for event in board.Scalars("val/fid")} == {20}  # the last generator step
    weights = checkpoint_of(folder)["state_dict"]
    assert not [name for name in weights if "scoring" in name]
    run_well("task=test", f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.accelerator=cpu")
    [tested] = [other for other in Path("outputs").rglob("results.json") if other.parent.resolve() != folder]
    again = results_of(tested.parent)
    assert again["val/fid"] == pytest.approx(results["val/fid"], rel=1e-3)
    if model == "cgan":
        assert again["val/gan_train_accuracy"] == pytest.approx(results["val/gan_train_accuracy"], abs=0.02)


def test_evaluation_changes_nothing_in_training() -> None:
    model, data, trainer = small_run("model=gan", "callbacks.evaluation.every_n_epochs=1", "model.network.width=0.25")
    trainer.fit(model, data)
    other, data, trainer = small_run("model=gan", "~callbacks.evaluation", "model.network.width=0.25")
    trainer.fit(other, data)
    assert torch.equal(flat(model), flat(other))


class Copies:
    """A conditional GAN that makes the first real images of each class."""

    num_classes, device = 10, torch.device("cpu")

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images_by_class = [images[labels == label] for label in range(10)]
        self.made = [0] * 10

    def sample(self, count: int, labels: Tensor) -> Tensor:
        chosen = []
        for label in labels.tolist():
            chosen.append(self.images_by_class[label][self.made[label]])
            self.made[label] += 1
        return torch.stack(chosen)


@pytest.mark.extended
def test_gan_train_of_real_images_is_its_floor_and_of_noise_a_guess() -> None:
    data, _ = digits()
    assert data.train_split is not None
    images = data.transform(data.train_split.images[:6000])
    labels = data.train_split.labels[:6000]
    noise = torch.rand_like(images) * 2 - 1
    evaluation, state = GANEvaluation(gan_train_count=1000), torch.get_rng_state()
    with_copies = evaluation.gan_train_scores(Copies(images, labels), data, "test")
    with_noise = evaluation.gan_train_scores(Copies(noise, labels), data, "test")
    assert torch.equal(state, torch.get_rng_state())
    assert with_copies["gan_train_count"] == 1000
    floor = with_copies["gan_train_accuracy_floor"]
    assert floor == with_noise["gan_train_accuracy_floor"] > 0.8
    assert with_copies["gan_train_accuracy"] == pytest.approx(floor, abs=0.05)
    assert with_noise["gan_train_accuracy"] < 0.3


@pytest.mark.extended
def test_gan_train_accuracy_is_the_same_twice() -> None:
    data, images = digits()
    assert data.test_split is not None
    labels = data.test_split.labels
    learn, know = slice(0, 1000), slice(1000, 2000)
    first, _, second = (
        gan_train_accuracy(images[learn], labels[learn], images[know], labels[know]),
        torch.rand(1),
        gan_train_accuracy(images[learn], labels[learn], images[know], labels[know]),
    )
    assert first == second > 0.5


@pytest.mark.extended
@pytest.mark.parametrize(("stage", "count"), [("val", 2000), pytest.param("test", 10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PRETRAINED)
def test_stored_floors_are_what_would_be_computed(name: str, stage: str, count: int) -> None:
    data = instantiate(compose(f"data={name}").data)
    data.prepare_data()
    data.setup()
    model = instantiate(compose("model=cgan", "model.network.width=0.1").model)
    stored, recomputed = GANEvaluation(), GANEvaluation()
    known = set(stored.floors)
    recomputed.floors.clear()
    scores: list[dict[str, float]] = []
    for evaluation in (stored, recomputed):
        evaluation.check(model, data)
        scores.append(evaluation.image_scores(model, data, stage, count))
        if stage == "test":
            scores[-1] |= evaluation.gan_train_scores(model, data, stage)
    assert set(stored.floors) == known >= set(recomputed.floors)
    assert scores[0].keys() == scores[1].keys()
    for score in scores[0]:
        assert scores[0][score] == pytest.approx(scores[1][score], rel=1e-2, abs=5e-3), score


def test_floors_are_of_the_sets_own_images() -> None:
    labels = torch.arange(60) % 10
    with image_set_writer(Path("set.csv"), "csv", 60) as writer:
        writer.write(np.full((60, 28, 28), 255, np.uint8), labels.numpy())
    plain, extended = MNIST5k(train_images=60), MNIST5k(train_images=60, extra_train_path="set.csv")
    for data in (plain, extended):
        data.setup()
    assert extended.train_split
    assert len(extended.train_split.labels) == 120
    for count in (60, 100):
        assert all(map(torch.equal, unseen_images(extended, count), unseen_images(plain, count)))
    net = CGAN()
    found = [GANEvaluation(gan_train_count=100).gan_train_scores(net, data, "val") for data in (plain, extended)]
    assert found[0] == found[1]
    assert found[0]["gan_train_count"] == 60


def test_images_of_a_fold_may_be_known_to_the_scoring_net() -> None:
    data = MNIST(num_folds=5)
    data.prepare_data()
    data.setup()
    assert len(unseen_images(data, 100).labels) == 48_000
    evaluation = GANEvaluation()
    evaluation.check(CGAN(), data)
    assert "(which it was trained on)" in evaluation.describe({"count": 10}, data, "val")


def test_a_set_of_too_few_images_for_scores_is_refused_before_training() -> None:
    data = MNIST5k(train_images=3)
    data.setup()
    with pytest.raises(ValueError, match=r"has 3 images in a split.*callbacks\.evaluation=null"):
        GANEvaluation().check(CGAN(), data)


def test_floors_are_of_images_that_the_scoring_net_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = digits()
    train = data.train_split
    assert train is not None
    unseen = unseen_images(data, 10_000)
    assert torch.equal(unseen.images, train.images[45_000:])
    assert torch.equal(unseen.labels, train.labels[45_000:])
    assert len(unseen_images(data, 10_001).labels) == 55_000
    monkeypatch.setattr(data, "extra_count", 7_000)  # generated images, the last ones
    assert len(unseen_images(data, 3_000).labels) == 3_000
    assert len(unseen_images(data, 3_001).labels) == 48_000


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_scoring_net_is_trained_on_the_first_images_as_its_experiment_says(name: str) -> None:
    assert compose(f"experiment=scoring_net_{name}").data.train_images == TRAINING_IMAGES


def test_without_pixels_the_other_scores_and_their_floors_are_the_same() -> None:
    data, _ = digits()
    model = instantiate(compose("model=gan", "model.network.width=0.1").model)
    both, features = GANEvaluation(), GANEvaluation(pixels=False)
    scores = []
    for evaluation in (both, features):
        evaluation.check(model, data)
        scores.append(evaluation.image_scores(model, data, "test", 100))
    assert scores[1].items() <= scores[0].items()
    assert not [name for name in scores[1] if name.startswith(("pixel_", "parzen_"))]
    assert {"fid", "fid_floor", "precision", "count"} < scores[1].keys()


def test_the_test_images_are_read_at_the_end_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = digits()
    evaluation = GANEvaluation()
    model = instantiate(compose("model=gan", "model.network.width=0.25").model)
    evaluation.check(model, data)
    scores = evaluation.image_scores(model, data, "test", 60)
    assert scores["count"] == 60
    assert scores["parzen_log_likelihood"] < scores["parzen_log_likelihood_floor"]
    monkeypatch.setattr(data, "test_split", None)
    assert evaluation.image_scores(model, data, "val", 60)["count"] == 60


@pytest.mark.parametrize("name", ["gan", "cgan"])
def test_trainer_test_scores_a_gan_and_a_checkpoint_is_chosen_by_fid(name: str, tmp_path: Path) -> None:
    """Without Hydra: a plain trainer, a data module, a callback."""
    evaluation, best = (
        GANEvaluation(every_n_epochs=2, count=60, final_count=80, gan_train_count=100),
        ModelCheckpoint(tmp_path, monitor="val/fid", mode="min"),
    )
    model = instantiate(compose(f"model={name}", "model.network.width=0.1").model)
    data = small_run("model=gan")[1]
    data.test_split = data.val_split
    trainer = Trainer(
        max_epochs=4,
        callbacks=[evaluation, best],
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    configure_process()
    trainer.fit(model, data)
    fid = trainer.callback_metrics["val/fid"]
    assert best.best_model_score is not None
    assert best.best_model_score <= fid
    assert Path(best.best_model_path).is_file()
    [scores] = trainer.test(model, data, verbose=False)
    assert scores.keys() == trainer.callback_metrics.keys()
    assert {"test/fid", "test/fid_relative", "test/fid_floor", "test/nearest_neighbour_accuracy_real"} <= scores.keys()
    assert ("test/gan_train_accuracy" in scores) == (name == "cgan")
    assert "test images" in evaluation.description
    assert trainer.test(model, data, verbose=False)[0]["test/fid"] == scores["test/fid"]
    [scores] = trainer.validate(model, data, verbose=False)
    assert "val/fid" in scores
    assert "validation images" in evaluation.description


def test_evaluation_compares_with_test_images_and_chooses_by_validation_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, _ = digits()
    given: list[tuple[Tensor, Tensor | None]] = []

    def scores(net: Any, real: Tensor, fake: Tensor, validation: Tensor | None, *_: Any) -> dict[str, float]:
        given.append((real, validation))
        return {}

    monkeypatch.setattr("gan.scores.evaluation.image_scores", scores)
    model = instantiate(compose("model=gan", "model.network.width=0.1").model)
    evaluation = GANEvaluation()
    evaluation.check(model, data)
    evaluation.floors.clear()
    evaluation.image_scores(model, data, "test", 60)
    evaluation.image_scores(model, data, "val", 60)
    assert data.val_split is not None
    assert data.test_split is not None
    (test, chosen_by), _, (val, none), _ = given  # each followed by its floor
    assert torch.equal(test, data.transform(data.test_split.images[torch.arange(60) * 10_000 // 60]))
    assert torch.equal(val, data.transform(data.val_split.images[torch.arange(60) * 5_000 // 60]))
    assert chosen_by is not None
    assert torch.equal(chosen_by, data.transform(data.val_split.images[:1000]))
    assert none is None


def test_gan_test_accuracy_is_of_the_classes_that_were_asked_for() -> None:
    data, _ = digits()
    assert data.train_split is not None
    images, labels = data.transform(data.train_split.images[:2000]), data.train_split.labels[:2000]
    evaluation = GANEvaluation(pixels=False)
    for asked, least, most in ((labels, 0.95, 1.0), ((labels + 1) % 10, 0.0, 0.05)):
        model: Any = Copies(images, asked)
        evaluation.check(model, data)
        assert least <= evaluation.image_scores(model, data, "val", 100)["gan_test_accuracy"] <= most


def test_learner_of_gan_train_has_a_rate_that_falls_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Watched(Adam):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr("gan.scores.scoring_net.Adam", Watched)
    data, images = digits()
    assert data.test_split is not None
    labels = data.test_split.labels
    gan_train_accuracy(images[:200], labels[:200], images[200:300], labels[200:300])
    assert rates == pytest.approx([1e-3 * (1 - step / 20) for step in range(20)])  # ten times two batches of 100


def test_ladder_changes_images_as_its_names_say() -> None:
    labels = (torch.arange(2000) % 10)[torch.randperm(2000)]
    stored = (labels * 10 + 90).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 28, 28)  # a gray for each class
    data = KnownData(stored, labels)
    changed = dict(changed_images(data, 1000, torch.Generator().manual_seed(0)))
    floor = changed["floor"]
    assert (changed["noise 0.3"] - floor).std().item() == pytest.approx(0.3, rel=0.02)
    classes = {name: ((images[:, 0, 14, 14] / 2 + 0.5) * 255 - 90).round() / 10 for name, images in changed.items()}
    assert {*classes["one class missing"].tolist()} == {*range(9)}
    counts = classes["classes out of balance"].long().bincount(minlength=10)
    expected = 1000 * torch.arange(1.0, 11) / 55
    assert ((counts - expected) ** 2 / expected).sum() < 30  # chi squared with 9 degrees of freedom
    is_mixed = (changed["20 % mixed pairs"] != floor).flatten(1).any(1)
    assert 150 < is_mixed.sum() <= 200
    assert not is_mixed[torch.arange(1000) % 5 != 0].any()
