"""task=demo: a page on this machine alone on which one draws, and sees what trained nets make of it."""

import base64
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from lightning import LightningModule
from omegaconf import DictConfig
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from classic_cnn.classifier import ImageClassifier
from classic_cnn.explain.deconvnet import conv_layers, feature_maps
from classic_cnn.explain.plots import GAP_SHADE, normalize_each, to_unit_interval
from gan.adversarial import GAN
from gan.callbacks.sample_plots import arc
from tasks.checkpoint import load, load_trained
from tasks.demo_requests import MAX_SIDE, SampleRequest
from tasks.demo_server import HOST, DemoServer
from tasks.published import published_names

FIRST = "published/lenet_mnist"  # what the page opens with
WAYPOINTS = 6  # random latents that a walk through latent space leads along
PAGE = Path(__file__).with_name("demo.html")


class DemoNets(NamedTuple):
    """What the page shows: classifiers side by side, the first with its feature maps, and a generator if there is one.

    Attributes:
        nets: by their titles.
        generator: of images of the same kind.
        facts: of the net that was asked for, for the results.
    """

    nets: dict[str, "Net"]
    generator: "Generator | None"
    facts: dict[str, Any]


def demo(
    cfg: DictConfig,
    folder: Path,
    port: Annotated[int, Field(ge=0, le=65535)],
    maps: Annotated[int, Field(ge=1, le=100)],
) -> dict[str, Any]:
    """Serves the page for the net of `cfg.ckpt_path` and the published ones of the same data until Ctrl-C.

    Without a checkpoint the first net is the published LeNet-5. A GAN is shown beside the published classifiers.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        port: of 127.0.0.1, 0 for any that is free.
        maps: feature maps shown of each convolution of the first net.

    Raises:
        ValueError: the checkpoint cannot be used or holds neither a classifier nor a GAN, or the port cannot be used.
    """
    shown = choose(cfg, folder, maps)
    try:
        generate = shown.generator.answer if shown.generator else None
        server = DemoServer(port, PAGE.read_bytes(), partial(classify, shown.nets), generate)
    except OSError as error:
        raise ValueError(f"task.port={port}: {error.strerror}; choose another, or 0 for any") from error
    with server:
        generator = [shown.generator.title] if shown.generator else []
        print(f"nets         {', '.join([*shown.nets, *generator])}")
        print(f"draw at      http://{HOST}:{server.server_port}\nstop with    Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nstopped")
    return shown.facts | {"drawings": server.drawings}


def choose(cfg: DictConfig, folder: Path, maps: int) -> DemoNets:
    """The net of the command, and the published ones of the same data.

    Raises:
        ValueError: the checkpoint cannot be used, or there is nothing to show of it.
    """
    path = cfg.ckpt_path or FIRST
    model: Any
    data: Any
    other: Any
    facts: dict[str, Any] = {}
    if cfg.ckpt_path is None:
        if given := [text for text in cfg.overrides if text.partition("=")[0] in ("model", "data")]:
            raise ValueError(f"{given[0]}: task=demo without ckpt_path shows the published nets of MNIST, leave it out")
        model, data = load(FIRST)
    else:
        model, data, _, facts = load_trained(cfg, folder, LightningModule, reads_data=False)
    found = [(path, model, data)]
    for name in sorted(published_names(), key=lambda name: name != FIRST):
        if name != path and getattr(data, "domain", None):
            model, other = load(name)
            if (other.domain, other.class_names) == (data.domain, data.class_names):
                found.append((name, model, other))
    titled = {
        f"{type(net).__name__} ({Path(name).name if name in published_names() else 'yours'})": (net, its_data)
        for name, net, its_data in found
    }
    nets = {title: Net(net, its, maps) for title, (net, its) in titled.items() if isinstance(net, ImageClassifier)}
    gans = [Generator(title, net, data.class_names) for title, (net, _) in titled.items() if isinstance(net, GAN)]
    if not nets:
        kinds = "neither an ImageClassifier nor a GAN of images that one is published for"
        raise ValueError(f"ckpt_path={path}: {type(found[0][1]).__name__}, {kinds}")
    return DemoNets(nets, gans[0] if gans else None, facts)


@torch.no_grad()
def classify(nets: dict[str, "Net"], drawing: bytes) -> dict[str, Any]:
    """What each net makes of a drawing (an image file), and what the first one sees in it.

    Raises:
        ValueError: it is no image, or there is nothing on it.
        FloatingPointError: a net's outputs are not finite.
    """
    first = next(iter(nets.values()))
    image = first.data.read_user_image(io.BytesIO(drawing), MAX_SIDE**2)
    images = first.inputs(image)
    return {
        "classes": list(first.data.class_names),
        "nets": [{"title": title, "probabilities": net.probabilities(image)} for title, net in nets.items()],
        "image": to_url(to_unit_interval(images)),
        "layers": first.strongest_maps(images),
    }


class Net:
    """A classifier with its view of a drawing: class probabilities and feature maps.

    Args:
        model: in evaluation mode.
        data: of the data set it was trained on.
        maps: feature maps shown of each convolution.
    """

    def __init__(self, model: Any, data: Any, maps: int) -> None:
        self.model = model
        self.data = data
        self.maps = maps
        self.layers = conv_layers(model, model.example_input_array.to(model.device))

    def inputs(self, image: Tensor) -> Tensor:
        """From a stored image, uint8 (C, H, W), to what the net reads, (1, C, S, S)."""
        return self.data.transform(image.unsqueeze(0).to(self.model.device))

    def probabilities(self, image: Tensor) -> list[float]:
        """Of the classes, for a stored image.

        Raises:
            FloatingPointError: they are not finite.
        """
        probabilities = self.model(self.inputs(image)).softmax(1)[0]
        if not probabilities.isfinite().all():
            raise FloatingPointError(f"the outputs of a {type(self.model).__name__} are not finite: its run diverged")
        return probabilities.tolist()

    def strongest_maps(self, images: Tensor) -> list[dict[str, str]]:
        """Of each convolution a title and the feature maps that respond most to an image (1, C, S, S)."""
        shown = []
        for layer, (maps,) in zip(self.layers, feature_maps(self.model, self.layers, images), strict=True):
            maps = maps.float().cpu()  # (M, H, W)
            strongest = maps.flatten(1).amax(1).topk(min(self.maps, len(maps))).indices
            count, height, width = maps.shape
            title = f"{layer.name}: {count} maps of {height}x{width}"
            shown.append({"title": title, "maps": to_url(normalize_each(maps[strongest].unsqueeze(1), signed=False))})
        return shown


class Generator:
    """A GAN and a walk through its latent space.

    Args:
        title: what the page calls it.
        model: in evaluation mode.
        class_names: of its classes, if it has any.
    """

    def __init__(self, title: str, model: GAN, class_names: Sequence[str]) -> None:
        self.title = title
        self.model = model
        self.class_names = list(class_names[: model.num_classes]) if model.num_classes else []

    @torch.no_grad()
    def answer(self, request: SampleRequest) -> dict[str, Any]:
        """A sample of the class, and the samples of all classes, from the latent at that place of the walk.

        Raises:
            ValueError: there is no such class.
        """
        if self.class_names and request.label >= len(self.class_names):
            raise ValueError(f"label must be below {len(self.class_names)}, got {request.label}")
        count = max(1, len(self.class_names))
        latents = self.latent(request).expand(count, -1)
        labels = [torch.arange(count, device=self.model.device)] if self.class_names else []
        images = to_unit_interval(self.model.generate(latents, *labels))
        chosen = request.label if self.class_names else 0
        return {
            "title": self.title,
            "classes": self.class_names,
            "image": to_url(images[chosen : chosen + 1], padding=0),
            "all": to_url(images),
        }

    def latent(self, request: SampleRequest) -> Tensor:
        """The latent (1, Z) on the way from one random latent to the next."""
        random = torch.Generator().manual_seed(request.seed)
        waypoints = torch.randn(WAYPOINTS, self.model.latent_dim, generator=random).to(self.model.device)
        place = request.position * (WAYPOINTS - 1)
        start = min(int(place), WAYPOINTS - 2)
        return arc(waypoints[start : start + 1], waypoints[start + 1 : start + 2], place - start)


def to_url(images: Tensor, padding: int = 1) -> str:
    """Images (N, C, H, W) in [0, 1], side by side, as a data URL."""
    row = make_grid(images.cpu(), nrow=len(images), padding=padding, pad_value=GAP_SHADE)  # (3, H, W)
    file = io.BytesIO()
    to_pil_image(row).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
