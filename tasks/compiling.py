"""compile=true: what of a model torch.compile takes."""

import os
import shutil

import torch
from lightning import LightningModule

from classic_cnn.classifier import ImageClassifier
from gan.adversarial import GAN
from tasks.config import ConfigError


def check_compile(model: LightningModule, device: torch.device) -> None:
    """Checks that what is trained can be compiled.

    Raises:
        ConfigError: the model or the machine cannot have it.
    """
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "c++"))):
        raise ConfigError("compile", "needs a C++ compiler, and none was found", True)
    name = type(model).__name__
    if isinstance(model, GAN):
        if model.has_double_backward:
            raise ConfigError("compile", f"torch cannot compile a {name}, whose loss is made of gradients", True)
    elif not (isinstance(model, ImageClassifier) and model.automatic_optimization):
        raise ConfigError("compile", f"nothing of a {name} is trained by gradient descent", True)


def compile_nets(model: LightningModule) -> None:
    """Compiles what is trained: a classifier with its loss, both nets of a GAN."""
    if isinstance(model, GAN):
        model.generator.compile()
        model.discriminator.compile()
    elif isinstance(model, ImageClassifier):
        model.compile()
        model.training_loss = torch.compile(model.training_loss)  # type: ignore[method-assign]
