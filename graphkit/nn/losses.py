"""Losses beyond torch's own: for rare classes, and for one class alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from ..errors import ConfigError, GraphError
from ..graph import has_values


class ClassBalancedFocalLoss(nn.Module):
    r"""Focal loss with classes weighed by their effective numbers of samples,
    `Class-balanced loss based on effective number of samples <https://arxiv.org/abs/1901.05555>`_.

    .. math::
        \ell = w_y \sum_c \sigma(-s_c)^\gamma \, \log(1 + e^{-s_c}), \qquad
        w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}, \quad \sum_c w_c = C

    with :math:`s_c = z_c` for the class :math:`c = y` of the sample and :math:`s_c = -z_c` for the
    others: binary losses of all C logits against the one-hot label, whose probabilities need not
    sum up to 1. A class without samples has the weight 0.

    Args:
        counts: samples of each class in training, :math:`n_c`.
        beta: from 0, where all classes weigh the same, to below 1, towards weights by
            :math:`1 / n_c`.
        gamma: at least 0; how much less certain samples count. With 0 it is plain.

    Shapes: ``logits [B, C]``, ``y [B]`` int64; returns the mean over the batch, 0 for none.

    In logarithms of sigmoids, where the official code of RQGNN overflows for logits below -88.

    Raises :class:`ConfigError` for counts and options out of range, :class:`GraphError` for logits
    and labels that do not fit.
    """

    def __init__(self, counts: Sequence[int] | Tensor, beta: float = 0.999, gamma: float = 1.5):
        super().__init__()
        numbers = [float(count) for count in counts]
        if len(numbers) < 2 or min(numbers) < 0 or max(numbers) <= 0:
            raise ConfigError(
                f"ClassBalancedFocalLoss: counts are {numbers}, but the numbers of samples of at "
                "least two classes are expected."
            )
        if not 0 <= beta < 1 or not 0 <= gamma < math.inf:
            raise ConfigError(
                f"ClassBalancedFocalLoss: beta={beta} and gamma={gamma}, but 0 <= beta < 1 and "
                "gamma >= 0 are expected."
            )
        self.beta, self.gamma = beta, gamma
        self.register_buffer("weight", _class_weights(numbers, beta))

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        if logits.dim() != 2 or logits.size(1) != len(weight) or y.shape != logits.shape[:1]:
            raise GraphError(
                f"ClassBalancedFocalLoss: logits have shape {list(logits.shape)} and y "
                f"{list(y.shape)}, but [B, {len(weight)}] and [B] are expected."
            )
        if y.is_floating_point():
            raise GraphError(f"ClassBalancedFocalLoss: y is {y.dtype}, but classes are expected.")
        if has_values(y) and y.numel():
            low, high = (int(bound) for bound in torch.aminmax(y))
            if low < 0 or high >= len(weight):
                wrong = low if low < 0 else high
                raise GraphError(
                    f"ClassBalancedFocalLoss: y holds {wrong}, but classes are 0 to "
                    f"{len(weight) - 1}. Leave out graphs without a label."
                )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        sign = 2 * one_hot(y.long(), len(weight)).to(logits.dtype) - 1
        s = sign * logits
        of_class = (self.gamma * logsigmoid(-s)).exp() * -logsigmoid(s)
        each = weight.to(logits.dtype)[y] * of_class.sum(dim=1)
        return each.sum() / max(1, len(each))

    def extra_repr(self) -> str:
        return f"beta={self.beta}, gamma={self.gamma}"


def _class_weights(counts: Sequence[float], beta: float) -> Tensor:
    n = torch.tensor(counts, dtype=torch.float64)
    # 1 - beta ** n without cancellation
    effective = -torch.expm1(n * math.log(beta)) if beta > 0 else torch.ones_like(n)
    weight = torch.where(n > 0, (1 - beta) / effective, 0)
    return (weight * len(weight) / weight.sum()).float()


class DeepSVDDLoss(nn.Module):
    r"""What training makes of squared distances ``d`` to the centre of a hypersphere, `Deep
    one-class classification <https://proceedings.mlr.press/v80/ruff18a.html>`_.

    The mean of ``d``, or, with ``nu``, the soft boundary :math:`R^2 + \frac{1}{\nu B} \sum_i
    \max(0, d_i - R^2)`.

    Args:
        nu: share of the training samples that may lie outside, above 0 and at most 1; None for the
            mean. The squared radius ``radius2`` is then set by :meth:`fit`, not by gradients.

    Shapes: ``d [B]``; returns a number, 0 for no samples.
    """

    def __init__(self, nu: float | None = None) -> None:
        super().__init__()
        if nu is not None and not 0 < nu <= 1:
            raise ConfigError(f"DeepSVDDLoss: nu is {nu}, but 0 < nu <= 1 or None is expected.")
        self.nu = nu
        self.register_buffer("radius2", torch.zeros(()))

    @torch.no_grad()
    def fit(self, d: Tensor) -> None:
        """Set the radius so that the share ``nu`` of ``d [B]`` lies outside."""
        if self.nu is not None and d.numel():
            self.get_buffer("radius2").copy_(torch.quantile(d, 1 - self.nu))

    def forward(self, d: Tensor) -> Tensor:
        count = max(1, d.numel())
        if self.nu is None:
            return d.sum() / count
        radius2 = self.get_buffer("radius2").to(d.dtype)
        return radius2 + (d - radius2).relu().sum() / (self.nu * count)
