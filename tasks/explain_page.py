"""The page that task=explain writes: plots with readable titles and a few sentences each, in one file."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from tasks.results import atomic_writer

PAGE = "explain.html"
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "img{max-width:100%;border:1px solid #ddd}h2{margin-top:2em}nav a{margin-right:1em}"
)


class Picture(NamedTuple):
    """A plot of the page. Its name is that of its file and of its place in TensorBoard; title and text are plain."""

    name: str
    title: str
    figure: Figure
    text: str


def write_page(folder: Path, title: str, source: str, pictures: Sequence[Picture]) -> None:
    """Writes one file that needs no other: the pictures saved in the folder are embedded.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    links, sections = [], []
    for picture in pictures:
        encoded = base64.b64encode((folder / f"{picture.name}.png").read_bytes()).decode()
        name, heading, text = (html.escape(part) for part in (picture.name, picture.title, picture.text))
        image = f'<img alt="{heading}" src="data:image/png;base64,{encoded}">'
        links.append(f'<a href="#{name}">{heading}</a>')
        sections.append(f'<section id="{name}"><h2>{heading}</h2><p>{text}</p>{image}</section>')
    head = f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    body = f"<h1>{html.escape(title)}</h1><p>{html.escape(source)}</p><nav>{' '.join(links)}</nav>{''.join(sections)}"
    page = f'<!doctype html><html lang="en"><meta charset="utf-8">{head}<body>{body}</body></html>\n'
    with atomic_writer(folder / PAGE, "wb") as file:
        file.write(page.encode("utf-8", "backslashreplace"))


FILTERS = (
    "The weights of the first convolution, all on one scale. Edges and bars show as neighbouring black and white; the "
    "filters of colour images are drawn in colours, of which gray is zero."
)
FEATURE_MAPS = "The most active feature maps of each layer for {example}, each map on its own scale."
DECONVNET = (
    "The most active feature maps among {images} validation images. Left: the nine strongest responses projected back "
    "to pixels by a deconvnet (Zeiler and Fergus 2013); gray pixels contribute nothing. Right: what the net saw there. "
    "Above it: how many of the nine are of their most frequent class."
)
GUIDED = (
    "The most active feature maps among {images} validation images. Left: the nine strongest responses by {method}, "
    "since this net is not a plain chain of layers. Right: the images. Above them: how many of the "
    "nine are of their most frequent class."
)
OCCLUSION = (
    "A gray square of {side}x{side} pixels (its size is shown at the upper left) is moved over the image. Each pixel "
    "of a map stands for the square centred there; white lines are the outline of the image."
)
ATTRIBUTIONS = (
    "Saliency is the magnitude of the gradient of the class score. {second}: red raises the score and blue lowers it. "
    "Grad-CAM weights the last feature maps of more than one pixel, those that the net's classifier or pooling reads."
)
GUIDED_RULE = "Guided backpropagation passes back positive gradients only"
NO_RELU = "The gradient has its sign here; guided backpropagation would be the same, since this net has no ReLU"
