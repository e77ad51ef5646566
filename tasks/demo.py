"""task=demo: a page on this machine alone on which one draws, and sees what a trained classifier makes of it."""

import base64
import io
from pathlib import Path
from typing import Annotated, Any

import torch
from omegaconf import DictConfig
from PIL import Image
from pydantic import Field
from torch import Tensor
from torchvision.utils import make_grid

from classic_cnn.classifier import ImageClassifier
from classic_cnn.explain.deconvnet import conv_layers, feature_maps
from classic_cnn.explain.plots import GAP_SHADE, normalize_each, to_unit_interval
from tasks.checkpoint import load_trained
from tasks.demo_server import HOST, MAX_SIDE, DemoServer

PAGE = Path(__file__).with_name("demo.html")


def demo(
    cfg: DictConfig,
    folder: Path,
    port: Annotated[int, Field(ge=0, le=65535)],
    maps: Annotated[int, Field(ge=1, le=100)],
) -> dict[str, Any]:
    """Serves the page for the classifier of `cfg.ckpt_path` until Ctrl-C.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        port: of 127.0.0.1, 0 for any that is free.
        maps: feature maps shown of each convolution.

    Raises:
        ValueError: the checkpoint is missing or holds no classifier, or the port cannot be used.
    """
    model, data, _, facts = load_trained(cfg, folder, ImageClassifier, reads_data=False)
    net = Net(model, data, maps)
    try:
        server = DemoServer(port, PAGE.read_bytes(), net.classify)
    except OSError as error:
        raise ValueError(f"task.port={port}: {error.strerror}; choose another, or 0 for any") from error
    with server:
        print(f"draw at      http://{HOST}:{server.server_port}\nstop with    Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nstopped")
    return facts | {"drawings": server.drawings}


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

    @torch.no_grad()
    def classify(self, drawing: bytes) -> dict[str, Any]:
        """The class probabilities of a drawing (an image file) and the feature maps that respond most to it.

        Raises:
            ValueError: it is no image, or there is nothing on it.
        """
        image = self.data.read_user_image(io.BytesIO(drawing), MAX_SIDE**2)
        images = self.data.transform(image.unsqueeze(0).to(self.model.device))  # (1, C, S, S)
        return {
            "classes": list(self.data.class_names),
            "probabilities": self.model(images).softmax(1)[0].tolist(),
            "image": to_url(to_unit_interval(images)),
            "layers": self.strongest_maps(images),
        }

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


def to_url(images: Tensor) -> str:
    """Images (N, C, H, W) in [0, 1], side by side, as a data URL."""
    row = make_grid(images.cpu(), nrow=len(images), padding=1, pad_value=GAP_SHADE)[0]
    file = io.BytesIO()
    Image.fromarray((row * 255).round().byte().numpy()).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
