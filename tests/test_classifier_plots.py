"""The pictures of a classifier's run: which classes it takes for which, and its worst mistakes."""

import torch

from classic_cnn.callbacks.classifier_plots import confusion_figure, mistakes_figure


def test_confusion_matrix_has_the_true_classes_in_its_rows() -> None:
    probabilities = torch.eye(3)[[1, 1, 0, 2]]
    figure = confusion_figure(probabilities, torch.tensor([0, 0, 0, 2]), ["a", "b", "c"])
    axes = figure.axes[0]
    counts = {tuple(round(value) for value in text.get_position()): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "1", (1, 0): "2", (2, 2): "1"}  # (column, row): two of class a are taken for b
    assert (axes.get_ylabel(), axes.get_title()) == ("true", "2 of 4 correct")


def test_gallery_of_mistakes_begins_with_the_worst() -> None:
    probabilities = torch.tensor([[0.4, 0.6], [0.1, 0.9], [0.7, 0.3], [0.3, 0.7]])
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    figure = mistakes_figure(images, probabilities, torch.zeros(4, dtype=torch.long), ["cat", "dog"], 2)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["cat as dog\n90%", "cat as dog\n70%"]
