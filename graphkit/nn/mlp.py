"""The multilayer perceptron: the baseline that ignores the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, nearest
from ..graph import Adj
from ..ops import dropout, relu_dropout
from .linear import linear, reset
from .sparse import SparseRows, mapped, sparse_if_few

_ACTIVATIONS = {
    "relu": functional.relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
}
_NORMS = ("batch_norm",)


class MLP(nn.Module):
    """Linear layers with normalisation, activation and dropout between them.

    Args:
        channel_list: Widths from input to output; or give the four that follow.
        in_channels: Input width, or -1 to read it off the first input.
        hidden_channels: Width of every hidden layer.
        out_channels: Output width.
        num_layers: Number of linear layers.
        dropout: Probability behind every hidden layer.
        act: ``relu``, ``elu``, ``gelu``, ``leaky_relu``, ``tanh`` or None.
        norm: ``batch_norm`` or None.
        act_first: The activation comes before the norm.
        plain_last: Leave the last layer without norm, activation and dropout.
        bias: Learn additive biases.

    Shapes: ``x [N, in]`` to ``[N, out]``. A second argument is accepted and ignored, so that an
    MLP stands where a graph network does.

    Arguments and parameters are named as in PyG (``lins.0.weight``, ``norms.0.module.weight``),
    whose other norms and keyword dictionaries are not offered.
    """

    def __init__(
        self,
        channel_list: Sequence[int] | None = None,
        *,
        in_channels: int | None = None,
        hidden_channels: int | None = None,
        out_channels: int | None = None,
        num_layers: int | None = None,
        dropout: float = 0.0,
        act: str | None = "relu",
        norm: str | None = "batch_norm",
        act_first: bool = False,
        plain_last: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.channel_list = _widths(
            channel_list, in_channels, hidden_channels, out_channels, num_layers
        )
        for name, value, known in (("act", act, _ACTIVATIONS), ("norm", norm, _NORMS)):
            if value is not None and str(value) not in known:
                raise ConfigError(f"MLP: unknown {name} {value!r}. {nearest(str(value), known)}")
        if not (isinstance(dropout, (int, float)) and 0 <= dropout <= 1):
            raise ConfigError(f"MLP: dropout is {dropout!r}, but a number from 0 to 1 is expected.")
        self.in_channels, self.out_channels = self.channel_list[0], self.channel_list[-1]
        self.dropout = dropout
        self.act = act
        self.act_first = act_first
        self.plain_last = plain_last
        pairs = zip(self.channel_list[:-1], self.channel_list[1:], strict=True)
        self.lins = nn.ModuleList(linear(a, b, bias=bias, glorot=False) for a, b in pairs)
        normed = self.channel_list[1:-1] if plain_last else self.channel_list[1:]
        self.norms = nn.ModuleList(
            # one level deeper than needed: PyG's checkpoints name it norms.0.module.weight
            nn.Identity() if norm is None else nn.ModuleDict({"module": nn.BatchNorm1d(width)})
            for width in normed
        )

    def reset_parameters(self) -> None:
        for lin in self.lins:
            reset(lin)
        for norm in self.norms:
            if isinstance(norm, nn.ModuleDict):
                reset(norm["module"])

    def forward(self, x: Tensor | SparseRows, edge_index: Adj | None = None) -> Tensor:
        h = self.hidden(x, edge_index)
        return mapped(h, self.lins[-1]) if self.plain_last else h

    def hidden(self, x: Tensor | SparseRows, edge_index: Adj | None = None) -> Any:
        """What the last layer reads: the hidden layers applied to ``x``."""
        # a whole model is given a graph and the features, a part of one what was made of them
        h: Any = x if edge_index is None else sparse_if_few(x)
        for lin, norm in zip(self.lins, self.norms, strict=False):
            h, then = mapped(h, lin), norm["module"] if isinstance(norm, nn.ModuleDict) else None
            if then is not None and not self.act_first:
                h = then(h)
            if self.act == "relu" and (then is None or not self.act_first):
                h = relu_dropout(h, self.dropout, self.training)
                continue
            h = h if self.act is None else _ACTIVATIONS[self.act](h)
            h = then(h) if then is not None and self.act_first else h
            h = dropout(h, self.dropout, self.training)
        return h

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.channel_list))


def _widths(
    channel_list: Sequence[int] | None,
    in_channels: int | None,
    hidden_channels: int | None,
    out_channels: int | None,
    num_layers: int | None,
) -> list[int]:
    if channel_list is not None:
        widths = list(channel_list)
    elif in_channels is None or out_channels is None or num_layers is None:
        raise ConfigError(
            "MLP: give channel_list, or in_channels, out_channels and num_layers together."
        )
    elif num_layers > 1 and hidden_channels is None:
        raise ConfigError(f"MLP: num_layers={num_layers} needs hidden_channels.")
    else:
        widths = [in_channels, *[hidden_channels or 0] * (num_layers - 1), out_channels]
    if len(widths) < 2:
        raise ConfigError(f"MLP: at least two widths are expected, but channel_list is {widths}.")
    return widths
