"""MagNet: convolution with the magnetic Laplacian, whose phases hold the directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import ConfigError, GraphError
from ..graph import Adj, Graph
from ..ops import dropout, spmm
from ..structure.directed import edge_counts, once
from ..structure.normalize import inverse_root, weighted_in_degree
from .directed import edge_factors, read_directed
from .inputs import check_features
from .linear import reset
from .sparse import SparseRows, apart, dropped, sparse_if_few, times
from .spectral import Operator, check_terms, clenshaw


class MagNetConv(nn.Module):
    r"""Magnetic Chebyshev convolution, `MagNet: a neural network for directed graphs
    <https://arxiv.org/abs/2102.11391>`_.

    .. math::
        Z = \sum_{k=0}^{K} T_k(\tilde L) X W_k + (1 + i) b, \qquad
        \tilde L = -D_s^{-1/2} A_s D_s^{-1/2} \odot \exp(i \Theta^{(q)})

    with :math:`A_s = (A + A^\top) / 2`, :math:`D_s` its row sums and :math:`\Theta^{(q)} = 2 \pi q
    (A - A^\top)`: the normalised magnetic Laplacian, whose eigenvalues lie in [0, 2], less 1. X and
    Z are complex, the weights and the bias are real and serve both parts.

    Args:
        in_channels: Features of each node.
        out_channels: Features of each output row, in the real and in the imaginary part.
        K: Order of the Chebyshev polynomials, at least 1.
        q: Charge, from 0 to 0.25. At 0 the operator is real and blind to directions; at 0.25 an
            edge without reverse is purely imaginary.
        bias: Learn an additive bias.

    Shapes: ``x_real [N, in]`` and ``x_imag [N, in]`` (the same tensor twice for real features),
    ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns both parts ``[N, out]``.
    ``edge_mask [E]`` multiplies every edge's message after normalisation.

    The product is the complex one: :math:`T_k = P_k + i Q_k` gives :math:`P_k X_r - Q_k X_i` and
    :math:`Q_k X_r + P_k X_i`, as in the official code; PyTorch Geometric Signed Directed computes
    something else. Both parts lie side by side in real products with the graph and its other side,
    no second graph is made. The polynomials are summed up by Clenshaw's rule behind the maps, so
    that products are as wide as the output.

    Phases read whether an edge is there, not its weight or how often it is there, so that large
    weights do not wrap around: they are :math:`2 \pi q` for an edge without reverse and 0 for one
    with. A node without edges has :math:`\tilde L = 0`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int = 1,
        q: float = 0.25,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise ConfigError(
                f"MagNetConv: in_channels={in_channels} and out_channels={out_channels} must both "
                "be at least 1; they cannot be read off the input."
            )
        check_terms("MagNetConv", "K", K)
        if isinstance(q, bool) or not isinstance(q, (int, float)) or not 0 <= q <= 0.25:
            raise ConfigError(f"MagNetConv: q is {q!r}, but a number from 0 to 0.25 is expected.")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.K = K
        self.q = float(q)
        self.weight = nn.Parameter(torch.empty(K + 1, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.out_channels)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x_real: Tensor | SparseRows,
        x_imag: Tensor | SparseRows,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        of_real, dense_real = apart(x_real)
        of_imag, imag = apart(x_imag)
        real, graph = read_directed(
            "MagNetConv", dense_real, edge_index, self.in_channels, edge_weight is not None
        )
        check_features("MagNetConv", "x_imag", imag, self.in_channels)
        if imag.shape != real.shape:
            raise GraphError(
                f"MagNetConv: x_imag has shape {list(imag.shape)}, but that of x_real is "
                f"expected: {list(real.shape)}."
            )
        operator = self._operator(graph, edge_weight, edge_mask, real.dtype)
        # [N, 2 out] for each k: the real part beside the imaginary one
        if x_imag is x_real:
            halves = [times(of_real or real, weight) for weight in self.weight]
            terms = [torch.cat([half, half], dim=1) for half in halves]
        else:
            both = of_real or real, of_imag or imag
            terms = [torch.cat([times(x, w) for x in both], dim=1) for w in self.weight]
        out = clenshaw(terms.__getitem__, self.K, operator)
        if self.bias is not None:
            out = out + torch.cat([self.bias, self.bias]).to(out.dtype)
        out_real, out_imag = out.chunk(2, dim=1)
        return out_real, out_imag

    def _operator(
        self,
        graph: Graph,
        edge_weight: Tensor | None,
        edge_mask: Tensor | None,
        dtype: torch.dtype,
    ) -> Operator:
        r"""The product with :math:`\tilde L` of complex columns, real parts beside imaginary ones.

        Edge (u, v) is in row u with the phase of its direction and in row v with the opposite one.
        """
        edge_weight, w = edge_factors("MagNetConv", edge_weight, edge_mask, graph)
        turned = graph.t()
        dtype = torch.promote_types(dtype, torch.float32)
        degree = weighted_in_degree(graph, edge_weight, dtype)
        degree = (degree + weighted_in_degree(turned, edge_weight, dtype)) / 2
        scale = inverse_root(degree)
        left = -scale / 2
        even, odd = w, None
        if self.q > 0:
            lone = once(graph, "without_reverse", lambda: edge_counts(graph)[1] == 0)
            lone = lone.to(dtype if w is None else w.dtype)
            angle = 2 * math.pi * self.q
            even, odd = 1 - (1 - math.cos(angle)) * lone, math.sin(angle) * lone
            even, odd = (even, odd) if w is None else (even * w, odd * w)

        def product(x: Tensor, factor: float) -> Tensor:
            to = left if factor == 1 else factor * left
            out = spmm(turned, x, even, left=to, right=scale)
            out = out.add_(spmm(graph, x, even, left=to, right=scale))
            if odd is None:
                return out
            # i x, because i stands before the imaginary part of the operator
            real, imag = x.chunk(2, dim=1)
            x = torch.cat([-imag, real], dim=1)
            out = out.add_(spmm(turned, x, odd, left=to, right=scale))
            return out.sub_(spmm(graph, x, odd, left=to, right=scale))

        return product

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, K={self.K}, q={self.q:g}"


class MagNet(nn.Module):
    """MagNet: :class:`MagNetConv` layers, and a linear classifier on both parts.

    Behind every convolution a row's number passes, with its imaginary part, if its real part is not
    negative (the complex ReLU). The features are real and imaginary part of the first input alike.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features of every convolution, in each part.
        out_channels: Number of classes; None leaves the classifier out, and gives both parts side
            by side, ``[N, 2 * hidden]``.
        num_layers: Number of convolutions.
        dropout: Probability in front of the classifier.
        K: Order of the polynomials, as in :class:`MagNetConv`.
        q: Charge, as in :class:`MagNetConv`.
        drop_input: Also drop features (the official code does not).

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns logits
    ``[N, out]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int | None,
        num_layers: int = 2,
        dropout: float = 0.5,
        K: int = 1,
        q: float = 0.25,
        drop_input: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = 2 * hidden_channels if out_channels is None else out_channels
        self.dropout, self.drop_input = dropout, drop_input
        widths = [in_channels, *[hidden_channels] * num_layers]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.convs = nn.ModuleList(MagNetConv(a, b, K, q) for a, b in pairs)
        self.lin = None if out_channels is None else nn.Linear(2 * hidden_channels, out_channels)

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)

    def forward(self, x: Tensor, edge_index: Adj, edge_weight: Tensor | None = None) -> Tensor:
        is_weighted = edge_weight is not None
        x, graph = read_directed("MagNet", x, edge_index, self.in_channels, is_weighted)
        real = dropped(sparse_if_few(x), self.dropout, self.training and self.drop_input)
        imag = real
        for conv in self.convs:
            real, imag = conv(real, imag, graph, edge_weight)
            real, imag = real.relu(), torch.where(real >= 0, imag, 0)
        x = torch.cat([real, imag], dim=1)
        return x if self.lin is None else self.lin(dropout(x, self.dropout, self.training))
