"""Networks whose propagation has no parameters and is done once: SGC, SIGN, DGMLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from ..graph import Adj, Graph
from ..ops import dropout, relu_dropout, spmm
from ..ops.components import components
from ..ops.scatter import reduce
from ..structure.normalize import gcn_scales
from .inputs import one_set_of_nodes, read_input
from .linear import reset
from .mlp import MLP
from .propagate import Hop, check_hops


def _read(name: str, x: Tensor, edge_index: Adj, K: int, loops: bool) -> tuple[Tensor, Graph, Hop]:
    check_hops(name, K)
    one_set_of_nodes(name, x)
    x, _, graph = read_input(name, x, edge_index)
    dtype = torch.promote_types(x.dtype, torch.float32)
    scale, diagonal = gcn_scales(graph, add_self_loops=loops, dtype=dtype)
    return x, graph, partial(spmm, graph, left=scale, right=scale, diagonal=diagonal)


def smooth(x: Tensor, edge_index: Adj, K: int, add_self_loops: bool = True) -> Tensor:
    r""":math:`\hat A^K X`, what SGC learns a linear map of.

    :math:`\hat A` is the normalised adjacency of GCN. ``x [N, F]``, ``edge_index [2, E]`` or Graph;
    returns ``[N, F]``. Cost: K products. Paper: `Simplifying graph convolutional networks
    <https://arxiv.org/abs/1902.07153>`_.
    """
    x, _, hop = _read("smooth", x, edge_index, K, add_self_loops)
    for _ in range(K):
        x = hop(x)
    return x


def hops(x: Tensor, edge_index: Adj, K: int, add_self_loops: bool = True) -> Tensor:
    r""":math:`[X, \hat A X, \ldots, \hat A^K X]`, what SIGN learns a map of.

    Arguments as :func:`smooth`; returns ``[N, (K + 1) F]``. PyG's transform ``SIGN`` adds no
    self-loops, which is ``add_self_loops=False``. Paper: `SIGN: scalable inception graph neural
    networks <https://arxiv.org/abs/2004.11198>`_.
    """
    x, _, hop = _read("hops", x, edge_index, K, add_self_loops)
    found = [x]
    for _ in range(K):
        found.append(hop(found[-1]))
    return torch.cat(found, dim=1)


def stationary(x: Tensor, edge_index: Adj) -> Tensor:
    r""":math:`\hat A^\infty X`, what :func:`smooth` comes to after many hops, ``[N, F]``.

    In a connected component of an undirected graph with :math:`n` nodes and :math:`m` edges this is
    :math:`u\, (u^\top X) / (2m + n)` with :math:`u_i = \sqrt{d_i + 1}`: each component has its own.
    """
    x, graph, hop = _read("stationary", x, edge_index, 0, True)
    root = sqrt_degree(hop)
    return root * _direction(x, graph, root)


def sqrt_degree(hop: Hop) -> Tensor:
    """The root of each node's degree, its self-loop among it, ``[N, 1]``."""
    return hop.keywords["left"].reciprocal().unsqueeze(1)


def _direction(x: Tensor, graph: Graph, root: Tensor) -> Tensor:
    """Each node's row of the stationary features, but for the factor ``root``: ``[N, F]``."""
    first, rows = components(graph), graph.num_dst
    root = root.to(x.dtype)
    columns = torch.cat([root * x, root.square()], dim=1)
    sums = reduce(columns, first, 0, rows, "sum").index_select(0, first)
    return sums[:, :-1] / sums[:, -1:]


def check_temperature(name: str, temperature: float) -> float:
    """``temperature`` if it is above 0, else a :class:`ConfigError`."""
    if not temperature > 0:
        raise ConfigError(f"{name}: temperature is {temperature}, but it must be above 0.")
    return temperature


def node_smoothing(x: Tensor, edge_index: Adj, K: int, temperature: float = 1.0) -> Tensor:
    r"""Features of 0 to K hops, weighed for each node by how far they are smoothed (DGMLP).

    `Evaluating deep graph neural networks <https://arxiv.org/abs/2108.00955>`_:

    .. math::
        \hat x_v = \sum_{k=0}^K \mathrm{softmax}_k\big(\mathrm{NSL}_v(k) / T\big)\, x^{(k)}_v,
        \qquad \mathrm{NSL}_v(k) = \cos(x^{(k)}_v, x^{(0)}_v)\,
        \big(1 - \cos(x^{(k)}_v, x^{(\infty)}_v)\big)

    with :math:`X^{(k)} = \hat A^k X` and the :func:`stationary` features :math:`X^{(\infty)}`. The
    graph should be undirected, since only there they are the limit.

    Args:
        x: ``[N, F]``.
        edge_index: ``[2, E]`` or Graph.
        K: Number of hops; with 0 the result is ``x``.
        temperature: :math:`T`, above 0; the larger it is, the more equal are the weights.

    Returns ``[N, F]``. Cost: K products, and a few passes over ``[N, F]`` for each; the sum grows
    hop by hop. The cosine with a row of zeros is 0. The published code is of another model.
    """
    check_temperature("node_smoothing", temperature)
    x, graph, hop = _read("node_smoothing", x, edge_index, K, True)
    # cosines do not see the factor that is left out
    limit = _direction(x, graph, sqrt_degree(hop))
    h, out, total, top = x, x, x.new_ones(x.size(0), 1), _level(x, x, limit) / temperature
    for _ in range(K):
        h = hop(h)
        level = _level(h, x, limit) / temperature
        # the largest so far is what exponentials are relative to
        most = torch.maximum(top, level).detach()
        old, new = (top - most).exp(), (level - most).exp()
        out, total, top = torch.addcmul(old * out, new, h), old * total + new, most
    return out / total


def _level(h: Tensor, x: Tensor, limit: Tensor) -> Tensor:
    """The node smoothing level, ``[N, 1]``."""
    near = functional.cosine_similarity(h, x, dim=1)
    return (near * (1 - functional.cosine_similarity(h, limit, dim=1))).unsqueeze(1)


class Precomputed(nn.Module):
    """A network on rows of propagated features: SGC, SIGN, DGMLP.

    Args:
        in_channels: Features of each node before they are propagated.
        propagation: ``(x [N, in], edge_index)`` to ``[N, F]`` without parameters, such as
            ``partial(smooth, K=2)``.
        head: Maps rows ``[R, F]`` to ``[R, out]``.
        dropout: Probability on what ``head`` is given.

    ``forward(x [N, in], edge_index)`` propagates and maps. Since nothing is learnt or dropped
    before the head, the first can be done once and left out from then on: ``model(rows)`` maps rows
    of ``model.precompute(x, edge_index)``, a mini-batch or all.
    """

    def __init__(
        self,
        in_channels: int,
        propagation: Callable[[Tensor, Adj], Tensor],
        head: nn.Module,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.propagation = propagation
        self.head = head
        self.dropout = dropout

    def reset_parameters(self) -> None:
        reset(self.head)

    def precompute(self, x: Tensor, edge_index: Adj) -> Tensor:
        """What the head reads of all nodes, ``[N, F]``."""
        x, _, graph = read_input("Precomputed", x, edge_index, self.in_channels)
        return self.propagation(x, graph)

    def forward(self, x: Tensor, edge_index: Adj | None = None) -> Tensor:
        rows = x if edge_index is None else self.precompute(x, edge_index)
        return self.head(dropout(rows, self.dropout, self.training))


class HopMLP(nn.Module):
    """SIGN's head: a map for each hop, side by side, and an MLP of all of them.

    Args:
        in_channels: Features of each hop.
        hops: Number of blocks of so many columns.
        widths: Hidden widths and the output's; the first is that of each hop's map. With one alone
            there is a single map of all hops together.
        dropout: Probability behind every hidden layer.
        norm: ``batch_norm`` behind every hidden layer, or None.

    Shapes: ``[N, hops * in]`` to ``[N, widths[-1]]``.
    """

    def __init__(
        self,
        in_channels: int,
        hops: int,
        widths: Sequence[int],
        dropout: float = 0.5,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.maps = nn.ModuleList()
        self.norm = None
        inner = in_channels * hops
        if len(widths) > 1:
            self.maps.extend(nn.Linear(in_channels, widths[0]) for _ in range(hops))
            inner = widths[0] * hops
            self.norm = None if norm is None else nn.BatchNorm1d(inner)
            widths = widths[1:]
        self.mlp = MLP([inner, *widths], dropout=dropout, norm=norm)

    def reset_parameters(self) -> None:
        for child in self.children():
            reset(child)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.maps):
            blocks = x.chunk(len(self.maps), dim=1)
            x = torch.cat([m(b) for m, b in zip(self.maps, blocks, strict=True)], dim=1)
            x = x if self.norm is None else self.norm(x)
            x = relu_dropout(x, self.dropout, self.training)
        return self.mlp(x)


class ResMLP(nn.Module):
    r"""An MLP with residuals, the transformation of DGMLP: :math:`h' = \mathrm{ReLU}(h W + b) + h`.

    Args:
        widths: From input to output. Layers between equal widths have the residual; the last one is
            linear.
        dropout: Probability on the input of every layer but the first.
        norm: ``batch_norm`` in front of every ReLU, or None.

    Shapes: ``[N, widths[0]]`` to ``[N, widths[-1]]``.

    The paper gives the residual alone; that plain maps stand where widths differ is our reading.
    """

    def __init__(
        self, widths: Sequence[int], dropout: float = 0.5, norm: str | None = None
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.lins = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.norms = nn.ModuleList(
            nn.Identity() if norm is None else nn.BatchNorm1d(width) for width in widths[1:-1]
        )

    def reset_parameters(self) -> None:
        for child in (*self.lins, *self.norms):
            reset(child)

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.lins
        h = x
        for lin, norm in zip(inner, self.norms, strict=True):
            # what goes past a layer is whole
            new = norm(lin(h)).relu()
            x = new + x if new.size(1) == x.size(1) else new
            h = dropout(x, self.dropout, self.training)
        return last(h)
