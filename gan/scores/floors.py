"""The floor of a score: what real images score in place of generated ones, stored for the official sets.

They are training images that the scoring net has not seen: it rates those that it was trained on too well.
"""

import hashlib
import json
from typing import Any

from torch import Tensor

from datamodules.images import ImageData
from datamodules.in_memory import Split
from gan.scores.scoring_net import FOLDER, TRAINING_IMAGES

FLOORS = FOLDER / "floors.json"


def load_floors() -> dict[str, dict[str, float]]:
    """The stored floors, by `fingerprint`."""
    return json.loads(FLOORS.read_text())


def unseen_images(data: ImageData, count: int) -> Split:
    """The training images that the scoring net was not trained on, of a set that has been read.

    All of the set's own where `count` are not left, as of MNIST with `train_images_per_class`, or of a cross-validation
    whose parts are of all images: the net may know these.
    """
    images, labels = data.own_train_split
    unseen = Split(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:])
    return unseen if len(unseen.labels) >= count and data.num_folds is None else data.own_train_split


def fingerprint(*parts: str | Tensor | None) -> str:
    """Identifies what a floor was computed from: the scoring net, and every pixel and label.

    >>> import torch
    >>> fingerprint("net", torch.zeros(2))[:8], fingerprint("net", torch.ones(2))[:8]
    ('0901a7db', '6ca6f149')
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.cpu().numpy().tobytes() if isinstance(part, Tensor) else str(part).encode())
    return digest.hexdigest()


def store_floors(model: Any, *data_sets: ImageData) -> None:
    """Computes the floors of data sets at the default counts and stores them; any conditional GAN can be the model.

    python -c "from gan.cgan import CGAN; from gan.scores.floors import store_floors
    from datamodules.mnist import MNIST, FashionMNIST; store_floors(CGAN(), MNIST(), FashionMNIST())"
    """
    from gan.scores.evaluation import GANEvaluation

    floors: dict[str, dict[str, float]] = {}
    for data in data_sets:
        data.prepare_data()
        data.setup()
        evaluation = GANEvaluation()
        evaluation.floors = floors
        evaluation.check(model, data)
        evaluation.image_scores(model, data, "val", evaluation.count)
        evaluation.image_scores(model, data, "test", evaluation.final_count)
        evaluation.gan_train_scores(model, data, "test")
    FLOORS.write_text(json.dumps(floors, indent=1) + "\n")
