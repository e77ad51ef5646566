"""The pairs of nets that a GAN can be built from; a pair decides what a sample is."""

from gan.networks.dcgan import DCGAN
from gan.networks.mlp import MLP
from gan.networks.pair import NetworkPair
from gan.networks.points import Points
from gan.networks.stacked import Stacked
from gan.networks.weak_generator import WeakGenerator

__all__ = ["DCGAN", "MLP", "NetworkPair", "Points", "Stacked", "WeakGenerator"]
