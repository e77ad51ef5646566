"""task=export: a trained net as one file that runs without this project, in ONNX or in torch.export's format."""

import importlib.util
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from classic_cnn.classifier import ImageClassifier
from datamodules.images import ImageData
from gan.adversarial import GAN
from rnn.esn import EchoStateNetwork
from tasks.checkpoint import load_trained
from tasks.config import ConfigError
from tasks.folders import short
from tasks.results import atomic_writer
from tasks.tables import one_line

COMPARED = 1_000  # inputs on which the file has to give the checkpoint's outputs
BATCH = 250
TOLERANCE = 1e-5
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


class ClassProbabilities(nn.Module):
    """A classifier with the fixed steps before it: pixels, uint8 (N, C, 28, 28), -> probabilities (N, K)."""

    def __init__(self, net: ImageClassifier, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.transform = transform

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.transform(images)).softmax(1)


class Samples(nn.Module):
    """The generator that a GAN samples from: latents (N, Z), and labels (N,) if it has classes, -> samples (N, ...)."""

    def __init__(self, gan: GAN) -> None:
        super().__init__()
        gan.sample(2)  # gives the averaged generator its batch statistics
        averaged = gan.averaged_generator
        self.generator = gan.generator if averaged is None else averaged.module

    def forward(self, latents: Tensor, *labels: Tensor) -> Tensor:
        return self.generator(latents, *labels)


def export(cfg: DictConfig, folder: Path, format: Literal["onnx", "torch"]) -> dict[str, Any]:
    """Writes the net of `cfg.ckpt_path` to net.onnx or net.pt2, and compares its outputs for 1,000 inputs.

    A classifier reads pixels, uint8 (N, C, 28, 28), and returns probabilities (N, K): scaling and resizing are part of
    the file. A GAN reads latents (N, Z), and labels (N,) if it has classes, and returns samples in [-1, 1]. The size of
    a batch is free.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        format: onnx, for onnxruntime and most other engines; torch, for `torch.export.load`.

    Raises:
        ValueError: there is no checkpoint, a package is missing, the format cannot express this net, or the outputs
            differ by more than 1e-5.
    """
    check_packages(format)
    model, data, _, facts = load_trained(cfg, folder, LightningModule, reads_data=False)
    module, inputs = exportable(model.cpu(), data)
    path = folder / f"net{SUFFIXES[format]}"
    described = f"ckpt_path={cfg.ckpt_path}: a {type(model).__name__}"
    try:
        content = as_bytes(trace(module, [values[:2] for values in inputs.values()]), format)
    except Exception as error:  # of many kinds: the format has no such operation
        reason = one_line(str(error).splitlines()[0])
        raise ValueError(f"{described} cannot be exported as task.format={format}: {reason}") from error
    difference = compare(module, read(content, format), list(inputs.values()))
    if not difference <= TOLERANCE:
        raise ValueError(f"{described} gives other outputs as task.format={format}, by up to {difference:.1g}")
    with atomic_writer(path, "wb") as file:
        file.write(content)
    print(f"written      {short(path)}, {len(content):,} bytes")
    count = len(next(iter(inputs.values())))
    print(f"checked      its outputs for {count:,} inputs are the checkpoint's, to {difference:.1g}")
    print("to use it:", *example(path.absolute(), inputs).splitlines(), sep="\n    ")
    return facts | {"export": {"file": path.name, "inputs": count, "difference": difference}}


def check_packages(format: str) -> None:
    """Refuses ONNX where a package is missing that writes or checks it."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(name)]
    if format == "onnx" and missing:
        names = " ".join(missing)
        raise ConfigError("task.format", f"needs `python -m pip install {names}`; task.format=torch does not", format)


def exportable(model: LightningModule, data: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """What is exported, in evaluation mode, and inputs for it by name: real images, or latents.

    Raises:
        ValueError: the model is neither a classifier nor a GAN.
    """
    if isinstance(model, EchoStateNetwork):
        raise ValueError("an EchoStateNetwork cannot be exported: the sparse sum in it fixes the size of a batch")
    if isinstance(model, ImageClassifier) and isinstance(data, ImageData):
        if not data.stores_samples:
            raise ValueError(f"a {type(model).__name__} of {data.name} has no stored images to compare a file on")
        data.prepare_data()
        data.setup("fit")
        split = data.test_split or data.val_split
        assert split is not None
        return ClassProbabilities(model, data.transform).eval(), {"images": split.images[:COMPARED]}
    if not isinstance(model, GAN):
        raise ValueError(f"a {type(model).__name__} is neither a classifier nor a GAN")
    inputs = {"latents": model.latents(COMPARED)}
    if model.num_classes is not None:
        inputs["labels"] = torch.arange(COMPARED) % model.num_classes
    return Samples(model).eval(), inputs


def trace(module: nn.Module, inputs: list[Tensor]) -> ExportedProgram:
    """The module as a graph in which the size of a batch is free."""
    size = Dim("batch")
    first, *others = [{0: size} for _ in inputs]
    shapes: dict[str, Any] = {"latents": first} if isinstance(module, Samples) else {"images": first}
    shapes |= {"labels": tuple(others)} if others else {}
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        return torch.export.export(module, tuple(inputs), dynamic_shapes=shapes)


def as_bytes(program: ExportedProgram, format: str) -> bytes:
    """The content of the file."""
    if format == "torch":
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        return buffer.getvalue()
    with warnings.catch_warnings(action="ignore"):
        written = torch.onnx.export(program, dynamo=True, verbose=False)
    assert written is not None
    return written.model_proto.SerializeToString()


def read(content: bytes, format: str) -> Callable[..., Tensor]:
    """The function of tensors that the content of a file stands for."""
    if format == "torch":
        return torch.export.load(io.BytesIO(content)).module()
    import onnxruntime  # heavy, and only needed here

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [part.name for part in session.get_inputs()]

    def outputs(*inputs: Tensor) -> Tensor:
        values = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, values)[0])

    return outputs


def compare(module: nn.Module, exported: Callable[..., Tensor], inputs: list[Tensor]) -> float:
    """The largest difference between the outputs of a module and of what it was exported to; NaN where one is."""
    batches = zip(*(values.split(BATCH) for values in inputs), strict=True)
    with torch.no_grad():
        return torch.stack([(module(*batch) - exported(*batch)).abs().max() for batch in batches]).max().item()


def example(path: Path, inputs: dict[str, Tensor]) -> str:
    """Python code that uses an exported file without this project.

    >>> print(example(Path("net.pt2"), {"images": torch.zeros(2, 1, 28, 28, dtype=torch.uint8)}))
    import torch
    images = torch.zeros((16, 1, 28, 28), dtype=torch.uint8)
    print(torch.export.load('net.pt2').module()(images))
    """
    library, packages = ("torch", "torch") if path.suffix == ".pt2" else ("numpy", "numpy, onnxruntime")
    lines = [f"import {packages}"]
    for name, values in inputs.items():
        dtype = str(values.dtype).removeprefix("torch.")
        lines.append(f"{name} = {library}.zeros({(16, *values.shape[1:])}, dtype={library}.{dtype})")
    if library == "torch":
        return "\n".join([*lines, f"print(torch.export.load({str(path)!r}).module()({', '.join(inputs)}))"])
    given = ", ".join(f"{name!r}: {name}" for name in inputs)
    return "\n".join([*lines, f"print(onnxruntime.InferenceSession({str(path)!r}).run(None, {{{given}}})[0])"])
