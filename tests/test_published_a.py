"""AlexNet, ZFNet, NiN, VGG and GoogLeNet as published: the papers' layer sizes, parameter counts and special rules."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from classic_cnn.alexnet import AlexNet, ResponseNorm
from classic_cnn.classifier import ImageClassifier
from classic_cnn.googlenet import INCEPTIONS, GoogLeNet, Inception
from classic_cnn.nin import NiN
from classic_cnn.vgg import VGG
from classic_cnn.zfnet import ZFNet

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),  # Lightning 2.6 with torch 2.14
]

Size = tuple[int, ...]  # (maps, side) of a convolution or pooling, (units,) of a linear layer
HIDDEN: list[Size] = [(4096,), (4096,), (1000,)]


def vgg(*convolutions: int) -> list[Size]:
    """Table 1 of the VGG paper: convolutions a stage at 224, 112, 56, 28 and 14 pixels, each stage with a pooling."""
    stages = zip((64, 128, 256, 512, 512), (224, 112, 56, 28, 14), convolutions, strict=True)
    sizes = [[(maps, side)] * count + [(maps, side // 2)] for maps, side, count in stages]
    return [size for stage in sizes for size in stage] + HIDDEN


# The net for colour images and ImageNet's 1000 classes unless it says otherwise; its parameters; its layers in order.
PUBLISHED: dict[str, tuple[Callable[[], ImageClassifier], int, list[Size]]] = {
    # Krizhevsky et al., section 3.5 and Figure 2: 55x55x96, 27x27x256, 13x13x384, 13x13x384, 13x13x256; "60 million".
    "alexnet": (
        lambda: AlexNet(as_published=True, in_channels=3, num_classes=1000),
        60_965_224,
        [(96, 55), (96, 27), (256, 27), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6), *HIDDEN],
    ),
    # A. Zhang et al., "Dive into Deep Learning", section 8.1: the shapes that it prints for a gray 224x224 image.
    "alexnet_one_gpu": (
        lambda: AlexNet(as_published=True, one_gpu=True),
        46_764_746,
        [(96, 54), (96, 26), (256, 26), (256, 12), (384, 12), (384, 12), (256, 12), (256, 5), (4096,), (4096,), (10,)],
    ),
    # Zeiler and Fergus, Figure 3: 110, 55, 26, 13, 13, 13, 13 and 6 pixels.
    "zfnet": (
        lambda: ZFNet(as_published=True, in_channels=3, num_classes=1000),
        62_357_608,
        [(96, 110), (96, 55), (256, 26), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6), *HIDDEN],
    ),
    # Lin et al., the authors' configuration for CIFAR-10 (github.com/mavenlin/cuda-convnet, NIN/cifar-10_def).
    "nin": (
        lambda: NiN(as_published=True, in_channels=3),
        966_986,
        [
            *((192, 32), (160, 32), (96, 32), (96, 16)),
            *((192, 16), (192, 16), (192, 16), (192, 8)),
            *((192, 8), (192, 8), (10, 8)),
        ],
    ),
    "nin_gray": (
        lambda: NiN(as_published=True),
        957_386,
        [
            *((192, 32), (160, 32), (96, 32), (96, 16)),
            *((192, 16), (192, 16), (192, 16), (192, 8)),
            *((192, 8), (192, 8), (10, 8)),
        ],
    ),
    # Simonyan and Zisserman, Table 1; Table 2 has 133, 133, 134, 138 and 144 million parameters for A, B, C, D and E.
    "vgg_a": (
        lambda: VGG(depth=11, as_published=True, in_channels=3, num_classes=1000),
        132_863_336,
        vgg(1, 1, 2, 2, 2),
    ),
    "vgg_b": (
        lambda: VGG(depth=13, as_published=True, in_channels=3, num_classes=1000),
        133_047_848,
        vgg(2, 2, 2, 2, 2),
    ),
    "vgg_c": (
        lambda: VGG(depth=16, one_by_one=True, as_published=True, in_channels=3, num_classes=1000),
        133_638_952,
        vgg(2, 2, 3, 3, 3),
    ),
    "vgg_d": (
        lambda: VGG(depth=16, as_published=True, in_channels=3, num_classes=1000),
        138_357_544,
        vgg(2, 2, 3, 3, 3),
    ),
    "vgg_e": (
        lambda: VGG(depth=19, as_published=True, in_channels=3, num_classes=1000),
        143_667_240,
        vgg(2, 2, 4, 4, 4),
    ),
    # "Dive into Deep Learning", section 8.2: a quarter of the maps, 43.1 million parameters.
    "vgg_a_quarter": (
        lambda: VGG(depth=11, width=0.25, as_published=True),
        43_093_322,
        [
            *((16, 224), (16, 112), (32, 112), (32, 56), (64, 56), (64, 56), (64, 28)),
            *((128, 28), (128, 28), (128, 14), (128, 14), (128, 14), (128, 7), (4096,), (4096,), (10,)),
        ],
    ),
}


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def layer_sizes(net: ImageClassifier, in_channels: int) -> list[Size]:
    """What each convolution, pooling and linear layer puts out for one image of the net's size, without computing."""
    sizes: list[Size] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | nn.Linear):
            module.register_forward_hook(lambda _module, _input, output: sizes.append(tuple(output.shape[1:3])))
    net(torch.zeros(1, in_channels, net.image_size, net.image_size, device="meta"))
    return sizes


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_net_has_the_layers_of_its_paper(name: str) -> None:
    make, parameters, sizes = PUBLISHED[name]
    with torch.device("meta"):
        net = make()
    assert count(net) == parameters
    in_channels = next(net.parameters()).shape[1]
    assert layer_sizes(net, in_channels) == sizes


def test_alexnet_splits_the_convolutions_of_its_two_gpus() -> None:
    with torch.device("meta"):
        features = AlexNet(as_published=True).features
    assert [module.groups for module in features if isinstance(module, nn.Conv2d)] == [1, 2, 1, 2, 2]  # Figure 2


def test_alexnet_as_published_starts_from_the_weights_and_biases_of_section_5() -> None:
    net = AlexNet(as_published=True)
    weights = [parameter for parameter in net.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in net.parameters() if parameter.dim() == 1]
    assert all(weight.std().item() == pytest.approx(0.01, rel=0.02) for weight in weights)
    assert [bias.unique().tolist() for bias in biases] == [[0], [1], [0], [1], [1], [1], [1], [0]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 4, 48])
def test_response_norm_agrees_with_torch_in_values_and_gradients(
    channels: int, memory_format: torch.memory_format
) -> None:
    maps = 30 * torch.randn(3, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))
    results = []
    for norm in (ResponseNorm(channels), nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2)):
        leaf = maps.clone().to(memory_format=memory_format).requires_grad_()
        output = norm(leaf)
        output.backward(upstream)
        results.append((output.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_response_norm_is_exact_to_bfloat16_under_autocast() -> None:
    maps = (30 * torch.randn(3, 48, 5, 5, generator=torch.Generator().manual_seed(0))).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = ResponseNorm(48)(maps)
    exact = nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2)(maps.double())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), exact, rtol=2**-8, atol=0)  # half a unit in the last place


def largest_rms(net: ZFNet) -> float:
    weights = [module.weight for module in net.features if isinstance(module, nn.Conv2d)]
    return max(weight.detach().flatten(1).square().mean(1).sqrt().max().item() for weight in weights)


def fit_one_batch(net: ImageClassifier) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    batch = TensorDataset(torch.rand(16, 1, 28, 28, generator=generator) * 2 - 1, torch.arange(16) % 10)
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(batch, batch_size=16)
    trainer.fit(net, loader, loader)
    return trainer


def test_zfnet_scales_down_the_filters_above_the_bound_and_no_other() -> None:
    net = ZFNet(filter_rms=0.1)
    weight = next(module.weight for module in net.features if isinstance(module, nn.Conv2d))
    linear = next(module.weight for module in net.classifier if isinstance(module, nn.Linear))
    with torch.no_grad():
        weight[0] = 3 * torch.sign(torch.arange(25.0).view(1, 5, 5) - 12.5)  # rms 3
        weight[1] = 0.05
        weight[2] = 0
        weight[3] = 0.2
    before, linear_before = weight.detach().clone(), linear.detach().clone()
    net.renormalize_filters()
    torch.testing.assert_close(weight[0], before[0] / 30)
    assert torch.equal(weight[1:3], before[1:3])
    torch.testing.assert_close(weight[3], torch.full((1, 5, 5), 0.1))
    assert torch.equal(linear, linear_before)
    assert largest_rms(net) <= 0.1 * (1 + 1e-6)


def test_zfnet_bounds_its_filters_after_every_step() -> None:
    bounded, free = ZFNet(filter_rms=0.1), ZFNet(filter_rms=None)
    assert largest_rms(bounded) > 0.2  # He's initialization of the 5x5 stem: sqrt(2 / 25)
    fit_one_batch(bounded)
    fit_one_batch(free)
    assert largest_rms(bounded) <= 0.1 * (1 + 1e-6)
    assert largest_rms(free) > 0.2


@pytest.mark.parametrize("depth", [11, 16, 19])
def test_vgg_computes_what_torchvisions_does(depth: int) -> None:
    theirs = getattr(torchvision.models, f"vgg{depth}")(weights=None, init_weights=False, num_classes=10).eval()
    with torch.device("meta"):
        ours = VGG(depth=depth, as_published=True, in_channels=3).eval()
    weights = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(weights), assign=True)  # the same tensors, in the same order
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images))


def test_vgg_configuration_c_ends_its_last_stages_with_1x1() -> None:
    with torch.device("meta"):
        features = VGG(depth=16, one_by_one=True, as_published=True).features
    kernel_sizes = [module.kernel_size[0] for module in features if isinstance(module, nn.Conv2d)]
    assert kernel_sizes == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]


# Szegedy et al., Table 1: output size and millions of multiply-adds of each module. 5a is printed with 54, but the
# widths of its row give 51.
TABLE_1 = {
    **{"3a": (256, 28, 128), "3b": (480, 28, 304)},
    **{"4a": (512, 14, 73), "4b": (512, 14, 88), "4c": (512, 14, 100), "4d": (528, 14, 119), "4e": (832, 14, 170)},
    **{"5a": (832, 7, 51), "5b": (1024, 7, 71)},
}


def test_googlenet_has_the_modules_of_table_1() -> None:
    with torch.device("meta"):
        net = GoogLeNet(as_published=True, in_channels=3, num_classes=1000)
    found: list[tuple[int, int, int]] = []
    modules = [module for module in net.modules() if isinstance(module, Inception)]
    for module in modules:
        module.register_forward_hook(lambda _module, _input, output: found.append(tuple(output.shape[1:])))
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 224, 224, device="meta"))
    names = [name for name, module in net.named_modules() if isinstance(module, Inception)]
    flops = counter.get_flop_counts()
    multiply_adds = [sum(flops[f"GoogLeNet.{name}"].values()) / 2e6 for name in names]
    assert list(INCEPTIONS) == list(TABLE_1)
    assert found == [(maps, side, side) for maps, side, _ in TABLE_1.values()]
    assert multiply_adds == pytest.approx([millions for _, _, millions in TABLE_1.values()], abs=0.7)


def test_googlenet_has_the_stem_of_table_1() -> None:
    with torch.device("meta"):
        net = GoogLeNet(as_published=True, in_channels=3)
    sizes = layer_sizes(net, in_channels=3)
    assert sizes[:5] == [(64, 112), (64, 56), (64, 56), (192, 56), (192, 28)]


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "auxiliary", "parameters"),
    # Without the auxiliary classifiers 6.8 million in the paper's own figures; each has a 1x1 convolution to 128 maps,
    # 1024 hidden units that read 4x4 of them, and an output layer (section 5).
    [
        (3, 1000, False, 6_998_552),
        (1, 10, False, 5_977_530),
        (1, 10, True, 5_977_530 + (512 + 528) * 128 + 2 * (128 + (128 * 16 + 1) * 1024 + 1025 * 10)),
    ],
)
def test_googlenet_has_the_parameters_of_its_paper(
    in_channels: int, num_classes: int, auxiliary: bool, parameters: int
) -> None:
    with torch.device("meta"):
        net = GoogLeNet(as_published=True, in_channels=in_channels, num_classes=num_classes, auxiliary=auxiliary)
    assert count(net) == parameters


def test_googlenet_has_5x5_convolutions_where_torchvision_has_3x3() -> None:
    with torch.device("meta"):
        ours = GoogLeNet(as_published=True, auxiliary=False)
        theirs = torchvision.models.GoogLeNet(aux_logits=False, init_weights=False)
    module = next(module for module in ours.modules() if isinstance(module, Inception))
    convolutions = [layer for layer in module.branch3 if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in convolutions] == [(1, 1), (5, 5)]
    assert theirs.inception3a.branch3[1].conv.kernel_size == (3, 3)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in ours.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in theirs.modules())


def test_googlenet_adds_three_tenths_of_each_auxiliary_loss() -> None:
    net = GoogLeNet().eval()  # no dropout, so that two passes agree
    logits: dict[nn.Module, Tensor] = {}
    for module in (*net.auxiliary, net.classifier):
        module.register_forward_hook(lambda module, _input, output: logits.update({module: output}))
    images, labels = torch.rand(4, 1, 28, 28) * 2 - 1, torch.arange(4)
    loss, scores = net.training_loss(images, labels)
    first, second, main = (F.cross_entropy(logits[module], labels) for module in (*net.auxiliary, net.classifier))
    torch.testing.assert_close(loss, main + 0.3 * (first + second))
    torch.testing.assert_close(scores, net(images))
    torch.testing.assert_close(net.auxiliary_losses, torch.stack([first, second]).detach())


def test_googlenet_leaves_the_auxiliary_classifiers_out_of_its_predictions() -> None:
    net = GoogLeNet().eval()
    calls = []
    for module in net.auxiliary:
        module.register_forward_hook(lambda *_: calls.append(1))
    net(torch.zeros(2, 1, 28, 28))
    assert not calls


@pytest.mark.parametrize("auxiliary", [True, False])
def test_googlenet_logs_each_auxiliary_loss(auxiliary: bool) -> None:
    trainer = fit_one_batch(GoogLeNet(auxiliary=auxiliary))
    logged = {name for name in trainer.callback_metrics if "auxiliary" in name}
    assert logged == ({"train/auxiliary_1_loss", "train/auxiliary_2_loss"} if auxiliary else set())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VGG(depth=17), "model.depth=17: choose one of 11, 13, 16, 19"),
        (lambda: VGG(depth=11, one_by_one=True), "only 16 layers"),
        (lambda: VGG(width=0), "model.width=0"),
        (lambda: GoogLeNet(width=-1), "model.width=-1"),
        (lambda: ZFNet(filter_rms=0), "model.filter_rms=0"),
        (lambda: AlexNet(one_gpu=True), "model.as_published=true"),
    ],
)
def test_refused_arguments_say_what_is_allowed(make: Callable[[], ImageClassifier], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
