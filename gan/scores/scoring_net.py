"""The scoring nets: one small classifier for each data set, fixed, so that scores of different people compare.

A scoring net is a VGG of 11 layers (`classic_cnn/vgg.py`) with an eighth of its channels, trained on the first 45,000
training images by `conf/experiment/scoring_net_*.yaml`, with the epoch chosen by validation; its features are the 128
units before the last layer. It has never seen the 10,000 other training images, of which the floors of the scores are
made (`gan/scores/floors.py`). The weights were taken from a run's checkpoint by

    python -c "from gan.scores.scoring_net import export; print(export('outputs/.../checkpoints/best.ckpt', 'mnist'))"

Other weights give other scores, so a score is to be quoted with its net: those with the test accuracies 0.9927 and
0.9151 are earlier nets, which were trained on all 55,000 images.
"""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import LinearLR

from classic_cnn.lenet import LeNet5
from classic_cnn.vgg import VGG
from gan.scores.progress import Report, silent

FOLDER = Path(__file__).parent / "weights"
DEPTH: Literal[11] = 11
WIDTH = 0.125
TRAINING_IMAGES = 45_000  # the first ones of the official training set
BATCH = 500  # images that a net reads at a time
LEARNER_EPOCHS, LEARNER_BATCH = 10, 100

ScoringNetName = Literal["mnist", "fashion_mnist"]


class Pretrained(NamedTuple):
    """Facts about a scoring net's weights.

    Attributes:
        sha256: of the file.
        test_accuracy: on the official test images.
        data_sets: whose images it scores, by the `name` of the data module.
        trained_on: those of them whose validation images are among its training images.
    """

    sha256: str
    test_accuracy: float
    data_sets: tuple[str, ...]
    trained_on: tuple[str, ...] = ()


PRETRAINED = {
    "mnist": Pretrained(
        "0e26a10ed687309eb55c17459ee21ae2a2a04873d7ef75e096247e8234c510e4",
        0.9943,
        data_sets=("MNIST", "MNIST sample of 5,000"),
        trained_on=("MNIST sample of 5,000",),
    ),
    "fashion_mnist": Pretrained(
        "3f6d95eb7b1c89aa4cb44c9ce24f2fce4b42324511a2b9e5265dff9b16f71fe7",
        0.9166,
        data_sets=("Fashion-MNIST",),
    ),
}


class ScoringNet(nn.Module):
    """A classifier that never changes: images (N, 1, 28, 28) in [-1, 1] -> features (N, 128), always in eval mode.

    It fits torchmetrics' interface of feature nets: `FrechetInceptionDistance(feature=ScoringNet("mnist"))`. Keep it
    out of a LightningModule's attributes, or its weights end up in checkpoints and optimizers.

    Args:
        name: one of `PRETRAINED`.

    Raises:
        ValueError: there is no such scoring net, or its file has changed.

    >>> net = ScoringNet("mnist")
    >>> features = net(torch.zeros(2, 1, 28, 28))
    >>> features.shape, net.logits(features).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 128]), torch.Size([2, 10]), 236418)
    """

    num_features = 128

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in PRETRAINED:
            raise ValueError(f"scoring_net must be one of {', '.join(PRETRAINED)}, got {name}")
        self.name = name
        path = FOLDER / f"{name}.safetensors"
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != PRETRAINED[name].sha256:
            raise ValueError(f"{path} has changed: restore it (git checkout -- {path})")
        net = VGG(depth=DEPTH, width=WIDTH)
        net.load_state_dict(load(content))
        self.features = nn.Sequential(net.features, net.classifier[:-1])
        last = net.classifier[-1]
        assert isinstance(last, nn.Linear)
        self.last = last
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # 0.65 of the time on a CPU
        self.eval()

    def train(self, mode: bool = True) -> "ScoringNet":
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of the classes (N, 10) from features (N, 128)."""
        return self.last(features)

    @torch.no_grad()
    def features_of_all(self, images: Tensor) -> Tensor:
        """Features (N, 128) of any number of images, read in batches."""
        features = images.new_empty(len(images), self.last.in_features)
        for start in range(0, len(images), BATCH):
            features[start : start + BATCH] = self(images[start : start + BATCH])
        return features

    def __str__(self) -> str:
        accuracy = PRETRAINED[self.name].test_accuracy
        return f"scoring net {self.name} (VGG-{DEPTH}, width {WIDTH}, test accuracy {accuracy:.4f})"


def scoring_net_for(data_set: str) -> str:
    """Name of the scoring net for a data set, given the set's name.

    >>> scoring_net_for("Fashion-MNIST")
    'fashion_mnist'

    Raises:
        ValueError: there is none.
    """
    for name, pretrained in PRETRAINED.items():
        if data_set in pretrained.data_sets:
            return name
    raise ValueError(f"scoring_net must be one of {', '.join(PRETRAINED)}: there is no default for {data_set}")


@isolate_rng()
def gan_train_accuracy(
    images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor, report: Report = silent
) -> float:
    """Share of test images that a LeNet-5 classifies correctly after training on other images, in [0, 1].

    It sees the images ten times, each time in a new order, in batches of 100 (of 10,000 images: 1,000 steps), with Adam
    and a learning rate that falls linearly from 0.001 to 0. Initial weights and orders are always the same, and the
    random state is left as it was.

    Args:
        images, labels: (N, 1, 28, 28) in [-1, 1] and (N,).
        test_images, test_labels: (M, 1, 28, 28) and (M,).
        report: is told how far it is.
    """
    torch.manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        images, labels = images.clone(), labels.clone()  # which may be of inference mode
        net = LeNet5().to(images.device)
        optimizer = Adam(net.parameters(), lr=1e-3)
        orders = torch.cat([torch.randperm(len(images)) for _ in range(LEARNER_EPOCHS)])
        batches = orders.to(images.device).split(LEARNER_BATCH)
        schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=len(batches))
        for number, batch in enumerate(batches):
            if number % 50 == 0:
                report(f"a classifier learns, {number / len(batches):.0%}")
            optimizer.zero_grad()
            F.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        predicted = torch.cat([net(part).argmax(1) for part in test_images.split(BATCH)])
    return (predicted == test_labels).float().mean().item()


def export(checkpoint: str | Path, name: str, folder: Path = FOLDER) -> str:
    """Writes the weights of a run's checkpoint as scoring net `name` and returns their sha256 for `PRETRAINED`.

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
