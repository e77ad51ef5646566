"""The judges of generated images: one small classifier a data set, fixed, so that scores of different people compare.

A judge is a VGG of 11 layers (`classic_cnn/vgg.py`) with an eighth of its maps, trained on the 55,000 training images
by `conf/experiment/judge_*.yaml`, the epoch chosen by validation; its features are the 128 units before the last layer.
The weights were taken from a run's checkpoint by

    python -c "from gan.scores.scoring_net import export; print(export('outputs/.../checkpoints/best.ckpt', 'mnist'))"

Other weights make other scores: a judge that is trained anew gets a new name and its own line in `JUDGES`.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import LinearLR

from classic_cnn.lenet import LeNet5
from classic_cnn.vgg import VGG

FOLDER = Path(__file__).parent / "weights"
DEPTH, WIDTH = 11, 0.125
PUPIL_EPOCHS, PUPIL_BATCH = 10, 100


class Known(NamedTuple):
    """What is known of a judge's weights: their checksum, their accuracy on the official test images, whom they fit.

    `seen` are those of these data sets whose validation images the judge was trained on.
    """

    sha256: str
    test_accuracy: float
    data_sets: tuple[str, ...]  # by the `name` of the data module
    seen: tuple[str, ...] = ()


JUDGES = {
    "mnist": Known(
        "2592f6ca28ecdc73b6648273e811577da2633933b7621e57164ca31d17d93064",
        0.9927,
        data_sets=("MNIST", "MNIST sample of 5,000"),
        seen=("MNIST sample of 5,000",),
    ),
    "fashion_mnist": Known(
        "8ca685af95d4a41cf7b9654e1533a8e98e732cf8389f31579f352c19294a3c2c",
        0.9151,
        data_sets=("Fashion-MNIST",),
    ),
}


class Judge(nn.Module):
    """A classifier that never changes: images (N, 1, 28, 28) in [-1, 1] -> features (N, 128), always in eval mode.

    As torchmetrics wants a feature net to be: `FrechetInceptionDistance(feature=Judge("mnist"))`. Keep it out of a
    LightningModule's attributes, or its weights land in checkpoints and optimizers.

    Args:
        name: one of `JUDGES`.

    Raises:
        ValueError: there is no such judge, or its file is not the one that the scores are known of.

    >>> judge = Judge("mnist")
    >>> features = judge(torch.zeros(2, 1, 28, 28))
    >>> features.shape, judge.logits(features).shape, sum(p.numel() for p in judge.parameters())
    (torch.Size([2, 128]), torch.Size([2, 10]), 236418)
    """

    num_features = 128

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in JUDGES:
            raise ValueError(f"callbacks.evaluation.judge={name}: choose one of {', '.join(JUDGES)}")
        self.name = name
        path = FOLDER / f"{name}.safetensors"
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != JUDGES[name].sha256:
            raise ValueError(f"{path} is not the judge that it was: restore it (git checkout -- {path})")
        net = VGG(depth=DEPTH, width=WIDTH)
        net.load_state_dict(load(content))
        self.features = nn.Sequential(net.features, net.classifier[:-1])
        self.last = net.classifier[-1]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Judge":
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)

    def logits(self, features: Tensor) -> Tensor:
        """Scores of the classes (N, 10) from features (N, 128)."""
        return self.last(features)

    def __str__(self) -> str:
        return f"{self.name} (VGG-{DEPTH}, width {WIDTH}, test accuracy {JUDGES[self.name].test_accuracy:.4f})"


def judge_of(data_set: str) -> str:
    """The judge for a data set, by its name.

    >>> judge_of("Fashion-MNIST")
    'fashion_mnist'

    Raises:
        ValueError: there is none.
    """
    for name, known in JUDGES.items():
        if data_set in known.data_sets:
            return name
    raise ValueError(
        f"callbacks.evaluation.judge: none is known for {data_set}: name one of {', '.join(JUDGES)}, or train without "
        "metrics: '~callbacks.evaluation'"
    )


@isolate_rng()
@torch.enable_grad()
def accuracy_of_a_pupil(images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor) -> float:
    """How many test images a LeNet-5 knows that has learnt from other images and their labels, in [0, 1].

    It goes through the images ten times, each time in a new order, in batches of 100 (of 10,000 images: 1,000 steps),
    by Adam with a learning rate that falls from 0.001 to 0 in a straight line. First weights and orders are always the
    same, and the random state is left as it was.

    Args:
        images, labels: (N, 1, 28, 28) in [-1, 1] and (N,).
        test_images, test_labels: (M, 1, 28, 28) and (M,).
    """
    torch.manual_seed(0)
    pupil = LeNet5().to(images.device)
    optimizer = Adam(pupil.parameters(), lr=1e-3)
    batches = torch.cat([torch.randperm(len(images)) for _ in range(PUPIL_EPOCHS)]).to(images.device).split(PUPIL_BATCH)
    schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=len(batches))
    for batch in batches:
        optimizer.zero_grad()
        F.cross_entropy(pupil(images[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = torch.cat([pupil(part).argmax(1) for part in test_images.split(500)])
    return (found == test_labels).float().mean().item()


def export(checkpoint: str | Path, name: str, folder: Path = FOLDER) -> str:
    """Writes the weights of a run's checkpoint as judge `name` and returns their sha256, which belongs into `JUDGES`.

    Raises:
        ValueError: the checkpoint is of another net.
    """
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    expected = VGG(depth=DEPTH, width=WIDTH).state_dict()
    if {key: value.shape for key, value in weights.items()} != {key: value.shape for key, value in expected.items()}:
        raise ValueError(f"{checkpoint}: not a VGG with depth={DEPTH} and width={WIDTH}")
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
