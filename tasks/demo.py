"""task=demo: a page on this machine alone on which one draws, and sees what a trained classifier makes of it."""

import base64
import io
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from classic_cnn.explain.deconvnet import conv_layers, feature_maps
from classic_cnn.explain.plots import PAPER, each_to, to_common
from datamodules.user_image import read_photo
from tasks.build import build, describe
from tasks.checkpoint import load_weights
from tasks.results import recorded

HOST = "127.0.0.1"
LARGEST = 2_000_000  # bytes of a drawing
# the browser itself is told to ask nobody but this server
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


@recorded
def demo(cfg: DictConfig) -> dict[str, Any]:
    """Serves the page for `ckpt_path` until Ctrl-C.

    Raises:
        ValueError: the checkpoint is missing or of no classifier, or the port is in use.
    """
    if cfg.ckpt_path is None:
        raise ValueError("task=demo shows a trained net: name it with ckpt_path=outputs/.../checkpoints/best.ckpt")
    for name, least, most in ("port", 0, 65535), ("maps", 1, 100):
        if not isinstance(cfg.task[name], int) or not least <= cfg.task[name] <= most:
            raise ValueError(f"task.{name}={cfg.task[name]}: a whole number from {least} to {most} is needed")
    model, data, trainer = build(cfg)
    if not is_overridden("predict_step", model):
        raise ValueError(f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__} classifies no images")
    load_weights(model, cfg)
    facts = describe(model, data, trainer)
    net = Net(model.to(trainer.strategy.root_device).eval(), data, cfg.task.maps)
    try:
        server = ThreadingHTTPServer((HOST, cfg.task.port), partial(Handler, net))
    except OSError as error:
        raise ValueError(f"task.port={cfg.task.port}: {error.strerror}: choose another, or 0 for any") from error
    with server:
        print(f"draw at      http://{HOST}:{server.server_port}\nstop with    Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nstopped")
    return facts | {"drawings": net.drawings}


class Net:
    """A classifier that says all it thinks of a drawing."""

    def __init__(self, model: Any, data: Any, maps: int) -> None:
        self.model = model
        self.data = data
        self.maps = maps
        self.layers = conv_layers(model, model.example_input_array.to(model.device))
        self.lock = threading.Lock()  # feature maps are taken by hooks, which all requests share
        self.drawings = 0

    def look(self, drawing: bytes) -> dict[str, Any]:
        """What the net reads in an image file, its class probabilities and its feature maps.

        Raises:
            ValueError: it is no image, or nothing is on it.
        """
        image = read_photo(io.BytesIO(drawing), self.data.centred_digits)
        with self.lock, torch.no_grad():
            self.drawings += 1
            read = self.data.transform(image.unsqueeze(0).to(self.model.device))
            probabilities = self.model(read).softmax(1)[0].tolist()
            maps = [layer[0].float().cpu() for layer in feature_maps(self.model, self.layers, read)]
        layers = []
        for layer, of_layer in zip(self.layers, maps, strict=True):
            strongest = of_layer.flatten(1).amax(1).topk(min(self.maps, len(of_layer))).indices
            count, height, width = of_layer.shape
            title = f"{layer.name}: {count} maps of {height}x{width}"
            layers.append({"title": title, "maps": picture(each_to(of_layer[strongest].unsqueeze(1), signed=False))})
        classes = list(self.data.class_names)
        return {"classes": classes, "probabilities": probabilities, "read": picture(to_common(read)), "layers": layers}


def picture(images: Tensor) -> str:
    """Images (N, C, H, W) in [0, 1], side by side, as a URL that holds them."""
    row = make_grid(images.cpu(), nrow=len(images), padding=1, pad_value=PAPER)[0]
    file = io.BytesIO()
    Image.fromarray((row * 255).round().byte().numpy()).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Handler(BaseHTTPRequestHandler):
    """GET / is the page; POST /look takes a drawing as PNG and answers in JSON."""

    def __init__(self, net: Net, *arguments: Any) -> None:
        self.net = net
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path != "/":
            self.answer(404, "text/plain", b"")
            return
        self.answer(200, "text/html; charset=utf-8", Path(__file__).with_suffix(".html").read_bytes())

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/look" or length > LARGEST:
            self.answer(404, "text/plain", b"")
            return
        try:
            found = self.net.look(self.rfile.read(length))
        except ValueError:
            found = {}  # nothing on it yet
        self.answer(200, "application/json", json.dumps(found).encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": POLICY}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each stroke would hide the address."""
