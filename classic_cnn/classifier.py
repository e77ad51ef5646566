"""The loop that all classifiers share: cross-entropy, accuracy, optimizer and schedule."""

import inspect
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, ClassVar, Literal, Self, Unpack

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from typing_extensions import TypedDict

from datamodules.contract import CheckedArguments, Count, Share

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
Activation = Literal["relu", "tanh", "sigmoid"]
LARGEST_IMAGE = 1024  # pixels; no net needs larger images


class PixelsFirst(nn.Conv2d):
    """A 1x1 convolution with a stride that leaves out the pixels before it convolves, with equal results.

    oneDNN's own kernels for channels_last write beyond their memory where they read fewer channels than a register of
    the processor holds (github.com/uxlfoundation/oneDNN/issues/6035; seen here with torch 2.14.1 on AVX2), which ends
    the process or gives wrong gradients.

    >>> is_strided_pointwise(nn.Conv2d(4, 8, 1, stride=2)), is_strided_pointwise(nn.Conv2d(4, 8, 3, stride=2))
    (True, False)
    """

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(images[..., ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def is_strided_pointwise(layer: nn.Module) -> bool:
    """Whether a layer is a 1x1 convolution with a stride, as oneDNN would compute it."""
    if not isinstance(layer, nn.Conv2d) or isinstance(layer, PixelsFirst):
        return False
    return layer.kernel_size == (1, 1) and layer.stride != (1, 1)


class Recipe(TypedDict, total=False):
    """How to train, the same for every classifier; see `ImageClassifier`."""

    optimizer: Callable[..., Optimizer]
    lr_scheduler: Callable[..., LRScheduler | ReduceLROnPlateau] | None
    label_smoothing: Share
    channels_last: bool


class ImageClassifier(CheckedArguments, LightningModule):
    """A net that maps a batch of images to one logit per class; an architecture adds its layers and `forward`.

    Args:
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: how to train:
            `optimizer` makes the optimizer from the parameters (`functools.partial(torch.optim.SGD, lr=0.1)`); the
            default is Adam.
            `lr_scheduler` makes the schedule from the optimizer. One with an argument `total_steps` receives it and is
            stepped after every batch, any other after every epoch; ReduceLROnPlateau monitors
            val/accuracy with mode=max, val/loss otherwise.
            `label_smoothing` is the share of probability that the target spreads over all classes.
            `channels_last` stores weights as (N, H, W, C): equal results to rounding, faster on most machines.
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {}
    """The constructor's arguments for the net exactly as its paper has it; see `published`."""

    def __init__(
        self, in_channels: Count = 1, num_classes: Count = 10, image_size: Count = 28, **recipe: Unpack[Recipe]
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.image_size = image_size
        self.optimizer = recipe.get("optimizer", Adam)
        self.lr_scheduler = recipe.get("lr_scheduler")
        self.label_smoothing = recipe.get("label_smoothing", 0.0)
        self.channels_last = recipe.get("channels_last", True)
        self.example_input_array = torch.zeros(1, in_channels, image_size, image_size)
        # Sums of losses and of correct answers, with the number of images: since the last line in the log, and in the
        # epoch up to that line. The sums stay on the device, because reading them would wait for it. They are no
        # buffers, which trainer.precision would round.
        self.step_sums, self.epoch_sums = torch.zeros(2), torch.zeros(2)
        self.step_images = self.epoch_images = 0
        self.is_validated_again = False  # the checkpoint that its run chose: no point of the curve

    @classmethod
    def published(cls, **arguments: Any) -> Self:
        """The net of the paper, from the arguments in `PUBLISHED`; `arguments` are added or replace some of them."""
        return cls(**{**cls.PUBLISHED, **arguments})

    def shape_after(self, *layers: nn.Module) -> tuple[int, ...]:
        """The shape that one image has behind these layers, the first of which reads it, without the batch.

        Only shapes are computed, and no random numbers are drawn.

        Raises:
            ValueError: the layers cannot read images of `image_size`.
        """
        try:
            return self._shape_after(layers, self.image_size)
        except RuntimeError as error:
            for side in range(self.image_size + 1, LARGEST_IMAGE):
                try:
                    self._shape_after(layers, side)
                except RuntimeError:
                    continue
                raise ValueError(f"image_size must be at least {side}, got {self.image_size}") from None
            raise error

    def _shape_after(self, layers: tuple[nn.Module, ...], side: int) -> tuple[int, ...]:
        signal = torch.empty(1, self.in_channels, side, side, device="meta")
        for layer in layers:
            training = layer.training
            tensors = chain(layer.named_parameters(), layer.named_buffers())
            try:
                signal = functional_call(layer.eval(), {name: value.to("meta") for name, value in tensors}, signal)
            finally:
                layer.train(training)
        return tuple(signal.shape[1:])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, from logits (N, K) and labels (N,)."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing if self.training else 0.0)

    def training_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to minimize and the logits; a net with losses of its own (auxiliary classifiers) overrides it."""
        logits = self(images)
        return self.loss(logits, labels), logits

    def setup(self, stage: str) -> None:
        if self.channels_last:
            for layer in filter(is_strided_pointwise, self.modules()):
                if type(layer) is nn.Conv2d and layer.padding in ((0, 0), "valid"):
                    layer.__class__ = PixelsFirst
            if not any(map(is_strided_pointwise, self.modules())):  # of a class of its own, or padded
                self.to(memory_format=torch.channels_last)

    def is_logging_step(self, batch_idx: int) -> bool:
        """Whether this batch ends an optimizer step that is logged; logging costs 0.4 ms per key."""
        trainer = self.trainer
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every == 0 or (self.global_step + 1) % every:
            return False
        return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss, logits = self.training_loss(images, labels)
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            self.step_sums += torch.stack([loss.detach() * len(labels), correct])
        self.step_images += len(labels)
        if self.is_logging_step(batch_idx):
            loss_mean, accuracy = self.step_sums / self.step_images
            self.log_dict({"train/loss": loss_mean, "train/accuracy": accuracy}, prog_bar=True)
            self.epoch_sums += self.step_sums
            self.epoch_images += self.step_images
            self.step_sums.zero_()
            self.step_images = 0
        return loss

    def on_fit_start(self) -> None:
        self.step_sums, self.epoch_sums = self.step_sums.to(self.device), self.epoch_sums.to(self.device)

    def on_train_epoch_start(self) -> None:
        if self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # no line in the log ends an interval
            self.step_sums.zero_()
            self.step_images = 0
        torch.neg(self.step_sums, out=self.epoch_sums)  # what the next line in the log covers of the epoch before
        self.epoch_images = -self.step_images

    def on_train_epoch_end(self) -> None:
        """Makes the means over the epoch the metrics of the run; TensorBoard has the curve of those over some steps."""
        images = self.epoch_images + self.step_images
        if images > 0:
            loss_mean, accuracy = (self.epoch_sums + self.step_sums) / images
            metrics = {"train/loss": loss_mean, "train/accuracy": accuracy}
            self.log_dict(metrics, prog_bar=True, logger=False, batch_size=self.share_of_mean(images), sync_dist=True)

    def share_of_mean(self, images: int) -> int:
        """Of a process's mean among those of all. Lightning averages them as integers, which cuts off halves."""
        return images * self.trainer.world_size

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> dict[str, Tensor]:
        images, labels = batch
        logits = self(images)
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.log_dict(
            {f"{stage}/loss": self.loss(logits, labels), f"{stage}/accuracy": accuracy},
            batch_size=self.share_of_mean(len(labels)),
            logger=False if stage == "val" and self.is_validated_again else None,
            prog_bar=True,
            sync_dist=True,
        )
        return {"logits": logits, "labels": labels}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Class probabilities (N, K) of a batch of images, with or without their labels."""
        images = batch[0] if isinstance(batch, list | tuple) else batch
        return self(images).softmax(1)

    def warm_start(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Starts from the `weights` of another net, see `copy_layers`; a net with a rule of its own overrides it."""
        return copy_layers(self, weights)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the constructor's plain arguments, for `load_from_checkpoint`, and the sums of its epoch so far."""
        checkpoint["hyper_parameters"] = self.plain_arguments()
        counts = [self.step_images, self.epoch_images]
        checkpoint["training_sums"] = [self.step_sums.tolist(), self.epoch_sums.tolist(), counts]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with the sums of the epoch, so that a resumed run ends with the same means."""
        if sums := checkpoint.get("training_sums"):
            self.step_sums, self.epoch_sums = (torch.tensor(values, dtype=torch.float32) for values in sums[:2])
            self.step_images, self.epoch_images = sums[2]

    def parameter_groups(self) -> Any:
        """What the optimizer gets; a net whose paper treats some weights differently overrides it."""
        return self.parameters()

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameter_groups())
        if self.lr_scheduler is None:
            return optimizer
        every_batch = "total_steps" in inspect.signature(self.lr_scheduler).parameters
        total_steps = {"total_steps": int(self.trainer.estimated_stepping_batches)} if every_batch else {}
        scheduler = self.lr_scheduler(optimizer, **total_steps)
        follows_accuracy = isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode == "max"
        config = {
            "scheduler": scheduler,
            "interval": "step" if every_batch else "epoch",
            "monitor": "val/accuracy" if follows_accuracy else "val/loss",
        }
        return {"optimizer": optimizer, "lr_scheduler": config}


def copy_layers(net: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Copies each layer that has the same name and shapes in the `weights` of another net; returns their names.

    Raises:
        ValueError: there is none.
    """
    own = net.state_dict()
    new = {layer_name(name) for name in own if name not in weights or weights[name].shape != own[name].shape}
    common = {name: weights[name] for name in own if layer_name(name) not in new}
    if not common:
        raise ValueError(f"the weights have no layer in common with this {type(net).__name__}")
    net.load_state_dict(common, strict=False)
    return list(dict.fromkeys(map(layer_name, common)))


def layer_name(parameter_name: str) -> str:
    """The name of the layer that a parameter belongs to.

    >>> layer_name("features.0.weight")
    'features.0'
    """
    return parameter_name.rpartition(".")[0]
