"""Scores of generated images from the classes that a scoring net sees in them."""

import torch
from torch import Tensor

from gan.scores.distances import as_double, require_finite


def inception_score(logits: Tensor) -> Tensor:
    """exp(E KL(p(y|x) || p(y))) of generated images, from their logits (N, K), all images at once.

    T. Salimans et al., "Improved Techniques for Training GANs", 2016, section 4. From 1 to K.

    >>> inception_score(torch.tensor([[99.0, 0.0], [0.0, 99.0]]))
    tensor(2., dtype=torch.float64)
    """
    require_finite(generated=logits)
    logits = as_double(logits)
    probabilities = logits.softmax(1)
    mean = probabilities.mean(0)
    negative_entropy = (probabilities * logits.log_softmax(1)).sum(1).mean()
    return (negative_entropy - torch.xlogy(mean, mean).sum()).exp()


def mode_score(real: Tensor, fake: Tensor) -> Tensor:
    """exp(E KL(p(y|x) || p(y)) - KL(p(y) || p*(y))), from logits (N, K) of real and (M, K) of generated images.

    x is generated, p* the mean of p(y|x) over real images. The first term is the Inception Score's; the second is 0
    when the classes are as frequent as among real images. This is the form of Q. Xu et al. 2018. T. Che et al., "Mode
    Regularized Generative Adversarial Networks", 2017, print E KL(p(y|x) || p*(y)) for the first term, which makes the
    second one cancel: the Inception Score again. It is at most K, which only classes that are equally frequent
    among real images allow; of others the generator that scores best does not have their frequencies. The worst is
    below 1.

    >>> mode_score(torch.tensor([[99.0, 0.0], [0.0, 99.0]]), torch.tensor([[99.0, 0.0], [0.0, 99.0]]))
    tensor(2.)
    """
    require_finite(real=real, generated=fake)
    real, fake = as_double(real), as_double(fake)
    real_mean, probabilities = real.softmax(1).mean(0), fake.softmax(1)
    fake_mean = probabilities.mean(0)
    negative_entropy = (probabilities * fake.log_softmax(1)).sum(1).mean()
    divergence = negative_entropy - torch.xlogy(fake_mean, fake_mean).sum()
    missing = (torch.xlogy(fake_mean, fake_mean) - torch.xlogy(fake_mean, real_mean)).sum()
    return (divergence - missing).exp().float()


def count_triples(logits: Tensor) -> Tensor:
    """How often each of the 1,000 triples of digits is in logits (N, 3, 10) of an image's three channels: (1000,).

    The most probable digit of each channel counts.

    >>> count_triples(torch.eye(10)[:2].unsqueeze(1).expand(-1, 3, -1)).nonzero().flatten()  # 000 and 111
    tensor([  0, 111])
    """
    require_finite(generated=logits)
    digits = logits.argmax(2)  # (N, 3)
    triples = digits[:, 0] * 100 + digits[:, 1] * 10 + digits[:, 2]  # a GPU has no matrix product of integers
    return triples.bincount(minlength=1000)


def mode_coverage(counts: Tensor) -> dict[str, Tensor]:
    """How many modes occur, and KL(their frequencies || uniform) in nats, from the count of each mode (K,).

    L. Metz et al., "Unrolled Generative Adversarial Networks", 2017, section 3.3.1.

    >>> {name: round(value.item(), 3) for name, value in mode_coverage(torch.tensor([3, 3, 0, 0])).items()}
    {'modes': 2.0, 'modes_kl': 0.693}
    """
    if not counts.any():  # as far from uniform as all samples in one mode
        return {"modes": torch.tensor(0.0), "modes_kl": torch.tensor(float(len(counts))).log()}
    frequencies = as_double(counts) / counts.sum().item()
    divergence = torch.xlogy(frequencies, frequencies * len(frequencies)).sum()
    return {"modes": (counts > 0).sum().float(), "modes_kl": divergence.float()}
