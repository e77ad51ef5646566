"""What all recurrent nets share: the classifiers' loop, and an image read as a sequence of rows, columns or pixels."""

from typing import Literal, Unpack

from torch import Tensor

from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count

__all__ = ["Reading", "Recipe", "SequenceClassifier"]

Reading = Literal["rows", "columns", "pixels"]


class SequenceClassifier(ImageClassifier):
    """A classifier that reads images step by step; a net adds its layers and a `forward` that calls `sequence`.

    Args:
        reading: what a time step sees: the rows from the top, the columns from the left, or single pixels, row by row.
        in_channels: 1 for gray images, 3 for colour; a step sees all of them.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.
    """

    def __init__(
        self,
        reading: Reading = "rows",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        self.reading = reading
        self.num_inputs = in_channels * (1 if reading == "pixels" else image_size)  # F
        self.num_steps = image_size**2 if reading == "pixels" else image_size  # T

    def sequence(self, images: Tensor) -> Tensor:
        """Images (N, C, S, S) as sequences (N, T, F): (N, S, C * S), or (N, S * S, C) pixel by pixel.

        >>> import torch
        >>> image = torch.arange(4.0).view(1, 1, 2, 2)
        >>> for reading in ("rows", "columns", "pixels"):
        ...     SequenceClassifier(reading).sequence(image).tolist()
        [[[0.0, 1.0], [2.0, 3.0]]]
        [[[0.0, 2.0], [1.0, 3.0]]]
        [[[0.0], [1.0], [2.0], [3.0]]]
        """
        if self.reading == "pixels":
            return images.flatten(2).transpose(1, 2)
        steps = images.transpose(2, 3) if self.reading == "columns" else images  # (N, C, T, S)
        return steps.transpose(1, 2).flatten(2)
