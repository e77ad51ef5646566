"""What all recurrent nets share: the classifiers' loop, and an image read as a sequence of rows, columns or pixels."""

from typing import Unpack

from torch import Tensor

from classic_cnn.classifier import ImageClassifier, Recipe

__all__ = ["READINGS", "Recipe", "SequenceClassifier"]

READINGS = ("rows", "columns", "pixels")


class SequenceClassifier(ImageClassifier):
    """A classifier that reads images step by step; a net adds its layers and a `forward` that calls `sequence`.

    Args:
        reading: what a time step sees: the rows from the top, the columns from the left, or single pixels, row by row.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: `reading` is none of these.
    """

    def __init__(self, reading: str = "rows", **recipe: Unpack[Recipe]) -> None:
        super().__init__(**recipe)
        if reading not in READINGS:
            raise ValueError(f"model.reading={reading}: choose one of {', '.join(READINGS)}")
        self.reading = reading
        self.num_inputs = 1 if reading == "pixels" else self.image_size  # F
        self.num_steps = self.image_size**2 if reading == "pixels" else self.image_size  # T

    def sequence(self, images: Tensor) -> Tensor:
        """Images (N, 1, S, S) as sequences (N, T, F): (N, S, S), or (N, S * S, 1) pixel by pixel.

        >>> import torch
        >>> image = torch.arange(4.0).view(1, 1, 2, 2)
        >>> [SequenceClassifier(reading).sequence(image).tolist() for reading in READINGS]
        [[[[0.0, 1.0], [2.0, 3.0]]], [[[0.0, 2.0], [1.0, 3.0]]], [[[0.0], [1.0], [2.0], [3.0]]]]
        """
        rows = images.squeeze(1)
        if self.reading == "pixels":
            return rows.flatten(1).unsqueeze(2)
        return rows.transpose(1, 2) if self.reading == "columns" else rows
