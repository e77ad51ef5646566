"""What a FID means: the FID of real images that are changed in known ways.

The stored figures, in `weights/ladder.json`, were computed by

    python -c "from datamodules.mnist import MNIST, FashionMNIST; from gan.scores.ladder import store_ladders
    store_ladders(MNIST(), FashionMNIST())"
"""

import json
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.images import ImageData
from gan.scores.features import frechet_distances
from gan.scores.floors import unseen_images
from gan.scores.images import subsample
from gan.scores.scoring_net import FOLDER, ScoringNet, scoring_net_for

LADDER = FOLDER / "ladder.json"
BACKGROUND = -1.0  # of images in [-1, 1]
COMMAND = "store_ladders(MNIST(), FashionMNIST())"


def fid_ladder(
    data: ImageData, net: ScoringNet | None = None, count: int = 10_000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """FID and relative FID of changed training images against test images, by the name of the change.

    `floor` are training images as they are, of those that the scoring net was not trained on. The changes: blurred by a
    3x3 mean, shifted by 1 and by 2 pixels to the right, with Gaussian noise of standard deviation 0.3, without the last
    class, with classes out of balance (class k is k + 1 times as frequent as class 0), and with every fifth image
    replaced by the mean of two.

    Args:
        data: a set of gray images that has been set up, against whose test images, or where it has none validation
            images, is compared.
        net: None = the scoring net of the data set.
        count: images of each set, fewer where there are fewer, as without a class.
        seed: of the noise and of what is drawn.
    """
    split = data.test_split or data.val_split
    assert data.train_split is not None
    assert split is not None
    net = net or ScoringNet(scoring_net_for(data.name))
    count = min(count, len(split.labels), len(data.train_split.labels))
    real = net.features_of_all(data.transform(subsample(split.images, count)))
    ladder = {}
    for name, images in changed_images(data, count, torch.Generator().manual_seed(seed)):
        fake = net.features_of_all(images)
        ladder[name] = {score: value.item() for score, value in frechet_distances(real, fake).items()}
    return ladder


def changed_images(data: ImageData, count: int, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """The name of each change and the changed training images, in [-1, 1]."""
    stored, labels = unseen_images(data, count)
    images = data.transform(subsample(stored, count))
    yield "floor", images
    yield "blurred 3x3", blur(images)
    yield "shifted by 1 pixel", shift(images, 1)
    yield "shifted by 2 pixels", shift(images, 2)
    yield "noise 0.3", (images + 0.3 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)
    yield "one class missing", data.transform(subsample(stored[labels != labels.max()], count))
    chosen = torch.multinomial(labels.double() + 1, count, replacement=True, generator=generator)
    yield "classes out of balance", data.transform(stored[chosen])
    yield "20 % mixed pairs", mix_pairs(images, generator)


def blur(images: Tensor) -> Tensor:
    """The mean of 3x3 pixels.

    >>> blur(torch.ones(1, 1, 3, 3))[0, 0, 1].tolist()  # beside the background of -1
    [0.3333333432674408, 1.0, 0.3333333432674408]
    """
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), value=BACKGROUND), 3, stride=1)


def shift(images: Tensor, pixels: int) -> Tensor:
    """Images moved to the right.

    >>> shift(torch.ones(1, 1, 1, 3), 1).flatten().tolist()
    [-1.0, 1.0, 1.0]
    """
    return F.pad(images, (pixels, 0), value=BACKGROUND)[..., : images.shape[-1]]


def mix_pairs(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every fifth image replaced by its mean with another one."""
    mixed = images.clone()
    others = torch.randperm(len(images), generator=generator)[: len(mixed[::5])]
    mixed[::5] = (images[::5] + images[others]) / 2
    return mixed


def format_ladder(ladder: dict[str, dict[str, float]]) -> str:
    """A Markdown table of a ladder.

    >>> print(format_ladder({"floor": {"fid": 0.33, "fid_relative": 0.00055}}))
    | real images | FID | relative FID |
    |---|---|---|
    | floor | 0.33 | 0.00055 |
    """
    rows = [f"| {name} | {scores['fid']:.3g} | {scores['fid_relative']:.2g} |" for name, scores in ladder.items()]
    return "\n".join(["| real images | FID | relative FID |", "|---|---|---|", *rows])


def store_ladders(*data_sets: ImageData, count: int = 10_000, seed: int = 0) -> None:
    """Computes the ladders of data sets, prints them as tables and stores them."""
    stored: dict[str, object] = {"command": COMMAND, "count": count, "seed": seed}
    for data in data_sets:
        data.prepare_data()
        data.setup()
        stored[data.name] = ladder = fid_ladder(data, count=count, seed=seed)
        print(f"{data.name}\n\n{format_ladder(ladder)}\n")
    LADDER.write_text(json.dumps(stored, indent=1) + "\n")
