"""What each score of generated images sees and misses, on real images that are altered in known ways; no training.

After Q. Xu et al., "An Empirical Study on Evaluation Metrics of Generative Adversarial Networks", 2018.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.contract import Count
from datamodules.images import ImageData
from datamodules.mnist import MNIST, FashionMNIST
from gan.scores.classes import inception_score, mode_score
from gan.scores.distances import (
    PairwiseDistances,
    kernel_mmd,
    nearest_neighbour_accuracy,
    precision_recall,
    wasserstein_distance,
)
from gan.scores.features import frechet_distance, frechet_distances, kernel_inception_distance
from gan.scores.images import class_scores
from gan.scores.parzen import parzen_log_likelihood
from gan.scores.scoring_net import ScoringNet, scoring_net_for
from tasks.claims.alterations import (
    Scene,
    blur_images,
    collapse_classes,
    copy_images,
    draw_scene,
    drop_classes,
    held_out_images,
    mix_in_foreign,
    mix_in_noise,
    shift_images,
)
from tasks.claims.claim import MeasuredRun
from tasks.claims.score_changes import COPIED, COUNT, GAP, WORSE, change, gap_curve
from tasks.runs_compare import Curve

COMPARED = (
    "inception_score",
    "mode_score",
    "fid",
    "mmd",
    "nearest_neighbour_accuracy",
)  # with Wasserstein, by Xu et al.
WASSERSTEIN_COUNT = 1000  # images of each set that the exact distance is computed for
KID_SUBSETS = 10
PARZEN_VALIDATION = 500  # images that choose sigma


class Alteration(NamedTuple):
    """How images are altered: the function, and the strengths that are tried beside 0."""

    apply: Callable[[Scene, float], Tensor]
    strengths: tuple[float, ...]


SHARES = (0.03, 0.1, 0.3, 1.0)
ALTERATIONS = {
    "dropped": Alteration(drop_classes, (1, 2, 4, 8)),
    "collapsed": Alteration(collapse_classes, (1, 2, 4, 10)),
    "noise": Alteration(mix_in_noise, SHARES),
    "foreign": Alteration(mix_in_foreign, SHARES),
    "shifted": Alteration(shift_images, (1, 2, 3, 4)),
    "blurred": Alteration(blur_images, (1, 2, 3, 4)),
    "copies": Alteration(copy_images, SHARES),  # against held-out images
}


def score_panel(
    run: MeasuredRun,
    effects: list[str],
    count: Count = 2000,
    floors: Count = 10,
    counts: Sequence[int] = (100, 300, 1000, 5000),
) -> dict[str, Any]:
    """`SCORE/ALTERATION/STRENGTH`: by how many floor deviations a score gets worse; `wasserstein_seconds_ratio`: the
    seconds of the Wasserstein distance over those of the slowest of the other scores that Xu et al. compare.

    The images are those of validation and test, on which the scoring net has not been trained, divided at random: a
    reference, as many that are altered, as many that are copied. `copies` are scored against the reference,
    `copies_to_copied` against the images that were copied, and `copies_gap` is the difference of the two, positive
    where the images that were copied score better. SCORE/floor are scores of unaltered images, SCORE/count over the
    number of images, and seconds/SCORE what a score takes.

    Args:
        run: of any net; its data is MNIST or Fashion-MNIST, and the other one of both is foreign.
        effects: SCORE/ALTERATION/STRENGTH, each a number of that name, the `change`.
        count: images of each set.
        floors: pairs of sets of unaltered images, whose deviation is the unit of a change.
        counts: images of each set in SCORE/count; seconds/SCORE has those below `count`, and `count`.
    """
    data = run.trained[1]
    assert isinstance(data, ImageData)
    net = ScoringNet(scoring_net_for(data.name))
    images, labels = held_out_images(data)
    foreign, _ = held_out_images(other_set(data))
    generator = torch.Generator().manual_seed(run.cfg.seed)
    scene = draw_scene(images, labels, foreign, count, generator)
    curves = {f"{score}/floor": curve for score, curve in floor_curves(net, images, count, floors, generator).items()}
    curves |= altered_curves(net, scene)
    curves |= count_curves(net, images[torch.randperm(len(images), generator=generator)], counts)
    numbers = {effect: change(curves, *effect.split("/")) for effect in effects}
    times = seconds_curves(net, scene, [*(number for number in counts if number < count), count])
    seconds = {score: curve[-1][1] for score, curve in times.items()}
    numbers["wasserstein_seconds_ratio"] = seconds["wasserstein"] / max(seconds[score] for score in COMPARED)
    return curves | numbers | {f"seconds/{score}": curve for score, curve in times.items()}


def other_set(data: ImageData) -> ImageData:
    """The one of MNIST and Fashion-MNIST that a data set is not, read."""
    other = MNIST(data.root) if isinstance(data, FashionMNIST) else FashionMNIST(data.root)
    other.prepare_data()
    other.setup()
    return other


@torch.no_grad()
def panel_scores(net: ScoringNet, real: Tensor, fake: Tensor, validation: Tensor) -> dict[str, float]:
    """The scores of `WORSE` of images (N, 1, 28, 28) against as many real ones, all in [-1, 1].

    The Wasserstein distance is of `WASSERSTEIN_COUNT` images of each set, or all where there are fewer.
    """
    real_features, fake_features = net.features_of_all(real), net.features_of_all(fake)
    subset = torch.randperm(len(fake), generator=torch.Generator().manual_seed(0))[:WASSERSTEIN_COUNT]
    distances, pixel_distances = PairwiseDistances(real_features, fake_features), PairwiseDistances(real, fake)
    pixel_scores = pixel_distances.scores()
    scores = class_scores(net.logits(real_features), net.logits(fake_features)) | {
        **frechet_distances(real_features, fake_features),
        "kid": kernel_inception_distance(real_features, fake_features, KID_SUBSETS),
        "wasserstein": wasserstein_distance(real_features[subset], fake_features[subset]),
        **distances.scores(),
        "pixel_mmd": pixel_scores["mmd"],
        "pixel_nearest_neighbour_accuracy": pixel_scores["nearest_neighbour_accuracy"],
        "parzen_log_likelihood": parzen_log_likelihood(real, fake, validation)["log_likelihood"],
    }
    return {name: float(scores[name]) for name in WORSE}


def floor_curves(
    net: ScoringNet, images: Tensor, count: int, floors: int, generator: torch.Generator
) -> dict[str, Curve]:
    """The scores of `count` unaltered images against as many others, over the number of the draw."""
    found: dict[str, Curve] = {}
    for number in range(floors):
        chosen = images[torch.randperm(len(images), generator=generator)[: 2 * count + PARZEN_VALIDATION]]
        add_point(found, number, panel_scores(net, *chosen.split([count, count, PARZEN_VALIDATION])))
    return found


def altered_curves(net: ScoringNet, scene: Scene) -> dict[str, Curve]:
    """The scores over the strength of each alteration, by SCORE/ALTERATION."""
    validation = scene.spare[-PARZEN_VALIDATION:]
    unaltered = panel_scores(net, scene.reference, scene.source, validation)
    curves: dict[str, Curve] = {}
    for name, alteration in ALTERATIONS.items():
        found: dict[str, Curve] = {}
        add_point(found, 0, unaltered)
        for strength in alteration.strengths:
            fake = alteration.apply(scene, strength)
            add_point(found, strength, panel_scores(net, scene.reference, fake, validation))
        curves |= {f"{score}/{name}": curve for score, curve in found.items()}
    to_copied: dict[str, Curve] = {}
    for strength in (0.0, *ALTERATIONS["copies"].strengths):
        add_point(to_copied, strength, panel_scores(net, scene.copied, copy_images(scene, strength), validation))
    curves |= {f"{score}/{COPIED}": curve for score, curve in to_copied.items()}
    return curves | {f"{score}/{GAP}": gap_curve(curves, score) for score in WORSE}


def count_curves(net: ScoringNet, images: Tensor, counts: Sequence[int]) -> dict[str, Curve]:
    """The scores of unaltered images over their number, by SCORE/count; `images` are in random order."""
    found: dict[str, Curve] = {}
    for count in counts:
        real, fake = images[:count], images[count : 2 * count]
        scores = panel_scores(net, real, fake, images[-PARZEN_VALIDATION:])
        if count > WASSERSTEIN_COUNT:
            del scores["wasserstein"]
        add_point(found, count, scores)
    return {f"{score}/{COUNT}": curve for score, curve in found.items()}


@torch.no_grad()
def seconds_curves(net: ScoringNet, scene: Scene, counts: Sequence[int]) -> dict[str, Curve]:
    """What each score takes from features on, in seconds, over the number of images."""
    real, fake = net.features_of_all(scene.reference), net.features_of_all(scene.source)
    functions: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "inception_score": lambda real, fake: inception_score(net.logits(fake)),
        "mode_score": lambda real, fake: mode_score(net.logits(real), net.logits(fake)),
        "fid": frechet_distance,
        "kid": kernel_inception_distance,
        "mmd": kernel_mmd,
        "wasserstein": wasserstein_distance,
        "nearest_neighbour_accuracy": nearest_neighbour_accuracy,
        "precision_recall": precision_recall,
    }
    found: dict[str, Curve] = {}
    for count in counts:
        for score, function in functions.items():
            start = time.perf_counter()
            function(real[:count], fake[:count])
            found.setdefault(score, []).append((count, time.perf_counter() - start))
    return found


def add_point(curves: dict[str, Curve], x: float, scores: Mapping[str, float]) -> None:
    for name, value in scores.items():
        curves.setdefault(name, []).append((x, value))
