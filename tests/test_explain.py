"""task=explain: the deconvnet against captum's, occlusion by hand, every classifier, and what a run leaves."""

import re
from pathlib import Path

import pytest
import torch
from captum.attr import NeuronDeconvolution
from command_line import PLAIN, only_run, results_of, run, run_well
from conftest import compose, models_of, small_run
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F

from classic_cnn.alexnet import AlexNet
from classic_cnn.classifier import ACTIVATIONS, Activation, ImageClassifier
from classic_cnn.explain import plots
from classic_cnn.explain.attribution import Attributions, attribute, guided_backpropagation
from classic_cnn.explain.deconvnet import (
    ConvLayer,
    conv_layers,
    feature_maps,
    is_chain,
    last_maps,
    project,
    strongest_responses,
)
from classic_cnn.explain.occlusion import occlude, occlusion
from classic_cnn.explain.receptive_field import ReceptiveField, receptive_field
from classic_cnn.googlenet import GoogLeNet
from classic_cnn.lenet import LeNet5
from classic_cnn.resnet import ResNet
from classic_cnn.vgg import VGG
from classic_cnn.zfnet import ZFNet
from datamodules.mnist import MNIST5k
from tasks.explain import choose_examples

QUICK = ("task=explain", "task.images=60", "task.maps=2", "task.stride=7")


def digits(count: int) -> Tensor:
    """Real digits as a net reads them, (N, 1, 28, 28), from all over the validation images."""
    data = MNIST5k()
    data.setup()
    assert data.val_split is not None
    return data.transform(data.val_split.images[:: 1000 // count][:count])


def small_chain(pool: nn.MaxPool2d) -> nn.Sequential:
    """Convolution, normalization, ReLU and pooling, twice and without an end, with statistics of real digits."""
    first = (nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), pool)
    second = (nn.Conv2d(4, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    chain = nn.Sequential(*first, *second)
    chain(digits(100))  # the running statistics
    return chain.eval()


@pytest.mark.filterwarnings("ignore:Setting backward hooks|Input Tensor 0 did not:UserWarning")
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, ceil_mode=True)], ids=["2x2", "3x3/2"])
def test_deconvnet_agrees_with_captum(pool: nn.MaxPool2d) -> None:
    chain, images = small_chain(pool), digits(5)
    activations = chain(images).detach()
    for feature in range(8):
        ours = project(chain, images, torch.full((5,), feature))
        for index in range(5):
            row, column = divmod(int(activations[index, feature].argmax()), activations.shape[-1])
            if activations[index, feature, row, column] > 0:
                neuron = NeuronDeconvolution(chain, chain[-1])
                theirs = neuron.attribute(images[index : index + 1].clone(), (feature, row, column))
                assert F.cosine_similarity(ours[index].flatten(), theirs.flatten(), dim=0) > 0.9999


@pytest.mark.parametrize("net", [AlexNet(), ZFNet(), VGG(depth=11, width=0.1)], ids=lambda net: type(net).__name__)
def test_projection_stays_in_the_receptive_field_of_its_activation(net: AlexNet | ZFNet | VGG) -> None:
    net.eval()
    images = digits(4)
    reached = 0
    for layer in conv_layers(net, images[:1]):
        chain = net.features[: list(net.features).index(layer.output) + 1]
        field = receptive_field(chain)
        outputs = chain(images).detach()
        feature = int(outputs.amax((0, 2, 3)).argmax())
        projected = project(chain, images, torch.full((4,), feature))
        for index in range(4):
            row, column = divmod(int(outputs[index, feature].argmax()), outputs.shape[-1])
            top, left = (max(0, field.start + field.jump * place) for place in (row, column))
            outside = projected[index, 0].clone()
            outside[top : field.start + field.jump * row + field.size, :][
                :, left : field.start + field.jump * column + field.size
            ] = 0
            assert outside.abs().max() == 0
            reached += int(projected[index].abs().max() > 0)
    assert reached > 4


@pytest.mark.parametrize("activation", [*ACTIVATIONS])
def test_feature_maps_are_those_behind_the_activation(activation: Activation) -> None:
    for net in (LeNet5(activation=activation), AlexNet(activation=activation)):
        outputs = {type(layer.output) for layer in conv_layers(net.eval(), digits(1))}
        assert outputs == {ACTIVATIONS[activation]}


def test_crop_is_the_field_of_a_value_and_filled_beyond_the_border() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    field = ReceptiveField().through(3, padding=1)
    assert field.crop(image, torch.tensor([1]), torch.tensor([2]), -1)[0, 0].tolist() == [
        [1, 2, 3],
        [5, 6, 7],
        [9, 10, 11],
    ]
    assert field.crop(image, torch.tensor([0]), torch.tensor([3]), -1)[0, 0].tolist() == [
        [-1, -1, -1],
        [2, 3, -1],
        [6, 7, -1],
    ]


def test_search_finds_the_images_with_the_strongest_responses() -> None:
    chain, images = small_chain(nn.MaxPool2d(2)), digits(50)
    layers = conv_layers(chain, images[:1])
    assert [layer.output for layer in layers] == [chain[1], chain[5]]
    _, responses = strongest_responses(chain, layers, images.split(20))
    channels, top = responses.strongest(3)
    peaks = chain(images).amax((2, 3))  # (50, 8)
    for feature, indices in zip(channels.tolist(), top, strict=True):
        assert peaks[indices, feature].tolist() == peaks[:, feature].sort(descending=True).values[:9].tolist()
    means = peaks.sort(0, descending=True).values[:9].mean(0)
    assert means[channels].tolist() == means.sort(descending=True).values[:3].tolist()
    (deep,) = feature_maps(chain, layers[1:], images)
    assert torch.equal(deep.flatten(2).gather(2, responses.positions.unsqueeze(2)).squeeze(2), responses.values)


@pytest.mark.parametrize(
    ("net", "maps"),
    [
        (LeNet5(), (16, 10, 10)),
        (LeNet5.published(), (16, 5, 5)),  # C5's maps are of one pixel
        (GoogLeNet(width=0.125), (128, 3, 3)),  # all four branches
        (ResNet(width=0.25), (16, 7, 7)),  # behind the sum with the shortcut
        (VGG(depth=11, width=0.1), (51, 3, 3)),  # in front of the pooling
    ],
    ids=lambda value: type(value).__name__,
)
def test_grad_cam_is_of_the_maps_that_the_classifier_reads(net: ImageClassifier, maps: tuple[int, ...]) -> None:
    net.eval()
    example = net.example_input_array
    assert isinstance(example, Tensor)
    layer = last_maps(net, example[:1])
    assert layer is not None
    (outputs,) = feature_maps(net, [ConvLayer("", layer, layer)], example)
    assert outputs.shape[1:] == maps
    outputs = outputs.detach().requires_grad_()
    replaced = layer.register_forward_hook(lambda module, inputs, output: outputs)
    logits = net(example)[:, 3]
    replaced.remove()
    (gradient,) = torch.autograd.grad(logits.sum(), outputs)
    weights = gradient.mean((2, 3), keepdim=True)
    coarse = (weights * outputs).sum(1, keepdim=True).relu()
    by_hand = F.interpolate(coarse, example.shape[-2:], mode="bilinear")[:, 0]
    found = attribute(net, example, torch.full((len(example),), 3)).grad_cam
    assert found is not None
    assert torch.allclose(found, by_hand.detach(), atol=1e-6)


def test_pictures_of_colour_images_have_colours() -> None:
    images = torch.rand(4, 3, 5, 5)
    assert plots.tiles(images, 2, 0.0).shape == (13, 13, 3)
    assert plots.tiles(images[:, :1], 2, 0.0).shape == (13, 13)
    titles, none = ["one"] * 4, torch.rand(4, 5, 5)
    drawn = plots.attributions_figure(images, titles, Attributions(none, none, none), "gradient")
    pixels = drawn.axes[0].images[0].get_array()
    assert pixels is not None
    assert pixels.shape == (5, 5, 3)


@pytest.mark.extended
@pytest.mark.parametrize("name", models_of(ImageClassifier))
def test_every_classifier_can_be_explained(name: str) -> None:
    model, _, _ = small_run(f"model={name}")
    model.eval()
    images = digits(2)
    layers = conv_layers(model, images[:1])
    found = attribute(model, images, torch.tensor([3, 5]))
    assert (found.grad_cam is None) == (not layers)
    for part in found:
        if part is None:
            continue
        assert part.shape == (2, 28, 28)
        assert part.isfinite().all()
    assert found.saliency.max() > 0
    assert found.guided.abs().max() > 0
    assert all(outputs.dim() == 4 for outputs in feature_maps(model, layers, images))
    if layers:
        back = guided_backpropagation(model, layers[0], images, torch.tensor([0, 1]))
        assert back.shape == images.shape
        assert back.abs().max() > 0
    chains = {"lenet", "alexnet", "zfnet", "vgg", "nin"}
    assert is_chain(getattr(model, "features", None)) == (name in chains)


def test_occluding_square_is_centred_and_ends_at_the_border() -> None:
    image = torch.zeros(1, 5, 5, dtype=torch.uint8)
    [copies] = occlude(image, side=3, stride=2, shade=0.5)  # middles at 0, 2 and 4
    assert [int((copy == 128).sum()) for copy in copies] == [4, 6, 4, 6, 9, 6, 4, 6, 4]
    assert image.max() == 0
    covered = occlusion(lambda part: (part == 128).flatten(1).sum(1, keepdim=True).float(), image, 3, 2)
    assert covered[..., 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def picture_tags(folder: Path) -> set[str]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return set(events.Tags()["images"])


@pytest.mark.extended
def test_explain_leaves_figures_a_page_of_its_own_and_pictures_on_the_board(trained: Path) -> None:
    outcome = run_well(*QUICK, f"ckpt_path={trained}/checkpoints/best.ckpt", "task.examples=3")
    folder = only_run()
    names = {"filters", "feature_maps", "excites_01_features.0", "excites_02_features.3", "occlusion", "attributions"}
    assert {file.stem for file in folder.glob("*.png")} == names
    assert picture_tags(folder) == {f"explain/{name}" for name in names}
    page = (folder / "explain.html").read_text()
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert len(headings) == len(names)
    assert not any("_" in heading for heading in headings)
    assert page.count("data:image/png;base64,") == len(names)
    assert not re.findall(r"https?:|//|url\(|@import|<script|<link", re.sub(r"base64,[^\"]*", "", page))
    assert f"written      outputs/lenet/mnist_5k/{folder.name}/explain.html and 6 plots" in outcome.out
    results = results_of(folder)
    assert (results["task"], results["status"]) == ("explain", "finished")
    assert [row["class"] for row in results["examples"]] == ["0", "1", "2"]
    for row in results["examples"]:
        assert 0 <= row["lowest_when_occluded"] <= row["probability"] + 1e-6 <= 1.00001


@pytest.mark.extended
def test_erasing_the_stroke_of_a_one_lowers_its_probability(trained: Path) -> None:
    best = f"ckpt_path={trained}/checkpoints/best.ckpt"
    square = ("task.square=12", "task.shade=0", "task.stride=2", "task.examples=2", "task.images=20")
    run_well("task=explain", best, *square)
    one = results_of(only_run())["examples"][1]
    assert one["class"] == one["predicted"] == "1"
    assert one["lowest_when_occluded"] < 0.7 * one["probability"]


@pytest.mark.extended
def test_explain_reads_a_persons_own_image(trained: Path) -> None:
    stroke = Image.new("L", (200, 200), 255)
    stroke.paste(0, (90, 30, 110, 170))
    stroke.save("one.png")
    run_well(*QUICK, f"ckpt_path={trained}/checkpoints/best.ckpt", "input=one.png")
    (row,) = results_of(only_run())["examples"]
    assert (row["example"], row["predicted"]) == ("one.png", "1")


@pytest.mark.extended
def test_net_with_branches_is_explained_by_guided_backpropagation() -> None:
    run_well("model=googlenet", "model.width=0.125", *PLAIN, "data.train_images_per_class=2", "trainer.max_epochs=1")
    checkpoint = only_run() / "checkpoints" / "last.ckpt"
    few = ("task.layers=2", "task.examples=1", "task.stride=14", "task.images=10")
    run_well(*QUICK[:1], f"ckpt_path={checkpoint}", *few, "task.maps=2")
    (page,) = Path("outputs").rglob("explain.html")
    assert page.read_text().count("guided backpropagation, since this net is not a plain chain") == 2
    assert len(list(page.parent.glob("excites_*.png"))) == 2


MISTAKES: tuple[str, ...] = (
    "ckpt_path=null",
    "ckpt_path=none.ckpt",
    "input=none.png",
    "task.square=29",
    "task.stride=0",
)
MISTAKES += ("task.maps=many", "task.shade=2", "task.shade=true", "task.images=0", "task.examples=11", "task.layers=0")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_answered_in_one_line(mistake: str, trained: Path) -> None:
    checkpoint = () if mistake.startswith("ckpt_path") else (f"ckpt_path={trained}/checkpoints/best.ckpt",)
    outcome = run(*QUICK, *checkpoint, mistake)
    assert outcome.status == 2
    assert mistake.split("=")[0] in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.extended
def test_file_of_an_odd_name_is_shown_by_it(trained: Path) -> None:
    name = "[/数$a$ [b]|<c>.png"
    stroke = Image.new("L", (200, 200), 255)
    stroke.paste(0, (90, 30, 110, 170))
    Path(name).parent.mkdir(exist_ok=True)
    stroke.save(name)
    best = f"ckpt_path={trained}/checkpoints/best.ckpt"
    for task in (QUICK, ("task=predict",)):
        outcome = run_well(*task, best, f"input='{name}'")
        assert Path(name).name in outcome.out
    (csv_file,) = Path().rglob("predictions.csv")
    assert name in csv_file.read_text()


def test_checkpoint_of_a_gan_is_refused() -> None:
    run_well(
        "model=gan", "data=mnist_5k", "data.train_images_per_class=4", "trainer.max_epochs=1", "trainer.accelerator=cpu"
    )
    outcome = run(*QUICK, f"ckpt_path={only_run()}/checkpoints/last.ckpt")
    assert outcome.status == 2
    assert "VanillaGAN" in outcome.err
    assert outcome.err.count("\n") == 1


def test_examples_are_of_classes_that_have_validation_images() -> None:
    data = MNIST5k()
    data.prepare_data()
    data.setup()
    assert data.val_split is not None
    images, labels = data.val_split
    data.val_split = data.val_split._replace(images=images[labels > 0], labels=labels[labels > 0])
    assert choose_examples(compose("model=lenet", "data=mnist_5k"), data, 3).labels == [1, 2, 3]


def test_projection_keeps_the_scale_and_the_sign_of_batch_normalization() -> None:
    """For one layer it is the gradient of the strongest activation, times that activation."""
    norm = nn.BatchNorm2d(2)
    norm.load_state_dict(norm.state_dict() | {"running_var": torch.tensor([4.0, 0.25]), "bias": torch.tensor([9.0, 9])})
    norm.weight.data = torch.tensor([-3.0, 0.5])
    chain = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU()).eval()
    images = torch.rand(3, 1, 8, 8, requires_grad=True)
    for feature in (0, 1):
        peaks = chain(images)[:, feature].flatten(1).amax(1)
        [gradient] = torch.autograd.grad(peaks.sum(), images)
        expected = gradient * peaks.detach().view(-1, 1, 1, 1)
        torch.testing.assert_close(project(chain, images.detach(), torch.full((3,), feature)), expected)


def guided_by_hand(weights: Tensor, maps: Tensor, first: nn.Conv2d, shape: torch.Size) -> Tensor:
    """Springenberg et al. 2014, Figure 1: what goes back passes a ReLU where it and the activation are positive."""
    back = (weights.clamp(min=0) * (maps > 0)).double()
    return torch.nn.grad.conv2d_input(list(shape), first.weight.double(), back).float()


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_backpropagation_is_that_of_its_paper() -> None:
    first, second = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3)
    net, images = nn.Sequential(first, nn.ReLU(), second), torch.randn(4, 1, 9, 9)
    channels = torch.tensor([0, 1, 1, 0])
    with torch.no_grad():
        maps = first(images)
        outputs = second(maps.relu())
        back = torch.zeros_like(maps)
        for index, channel in enumerate(channels.tolist()):
            row, column = divmod(int(outputs[index, channel].argmax()), outputs.shape[-1])
            back[index, :, row : row + 3, column : column + 3] = second.weight[channel]
        expected = guided_by_hand(back, maps, first, images.shape)
    found = guided_backpropagation(net, ConvLayer("2", second, second), images, channels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_attributions_of_a_class_are_the_gradients_and_the_guided_ones() -> None:
    first, last = nn.Conv2d(1, 3, 3), nn.Linear(3 * 49, 4)
    net, images = nn.Sequential(first, nn.ReLU(), nn.Flatten(), last), torch.randn(2, 1, 9, 9)
    classes = torch.tensor([3, 1])
    with torch.no_grad():
        maps = first(images)
        weights = last.weight[classes].view_as(maps)
        guided = guided_by_hand(weights, maps, first, images.shape)
    leaf = images.clone().requires_grad_()
    [gradient] = torch.autograd.grad(net(leaf)[torch.arange(2), classes].sum(), leaf)
    found = attribute(net, images, classes)
    torch.testing.assert_close(found.guided, guided[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.saliency, gradient[:, 0].abs())


def test_signed_images_are_scaled_so_that_zero_is_gray() -> None:
    images = torch.tensor([[-4.0, 0.0, 2.0], [0.0, 1.0, 4.0]]).view(2, 1, 1, 3)
    assert plots.normalize_each(images, signed=True).flatten(1).tolist() == [[0, 0.5, 0.75], [0.5, 0.625, 1]]
    unsigned = plots.normalize_each(images, signed=False).flatten(1)
    torch.testing.assert_close(unsigned, torch.tensor([[0, 2 / 3, 1], [0, 0.25, 1]]))
