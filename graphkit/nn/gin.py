"""Graph isomorphism convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError, GraphError
from ..graph import Adj, Graph
from ..ops import gather, segment_reduce, spmm
from ..ops.check import check_edges
from .inputs import Features, edge_vector, read_input, sampled_share
from .linear import linear, reset


class GINConv(nn.Module):
    r"""Graph isomorphism network, `How powerful are graph neural networks?
    <https://arxiv.org/abs/1810.00826>`_.

    .. math::
        x'_i = h_\Theta \Big( (1 + \epsilon)\, x_i + \sum_{j \in N(i)} x_j \Big)

    Args:
        nn: The network :math:`h_\Theta`, for example an MLP.
        eps: (Initial) :math:`\epsilon`.
        train_eps: Learn :math:`\epsilon`.

    Shapes: ``x [N, in]`` or ``([num_src, in], [num_dst, in] or None)``, ``edge_index [2, E]`` or
    Graph; returns ``[num_dst, out]``. ``edge_mask [E]`` multiplies every edge's message. On a
    sampled block ``whole``, the rows of :meth:`of_whole` of its nodes, lets the neighbours that
    were drawn count for all.

    Parameters are named as in PyG (``nn.*``, ``eps``).
    """

    def __init__(self, nn: nn.Module, eps: float = 0.0, train_eps: bool = False) -> None:
        super().__init__()
        self.nn = nn
        self.initial_eps = eps
        self.eps = _epsilon(self, train_eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset(self.nn)
        self.eps.data.fill_(self.initial_eps)

    def of_whole(self, graph: Graph) -> Tensor:
        """The in-degree of each node, ``[N, 1]``, for sampled blocks."""
        return graph.in_degree().float().unsqueeze(1)

    def forward(
        self,
        x: Features,
        edge_index: Adj,
        size: tuple[int, int] | None = None,
        *,
        edge_mask: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Tensor:
        x_src, x_dst, graph = read_input("GINConv", x, edge_index, size=size)
        left = None if whole is None else sampled_share("GINConv", graph, whole, 1)
        out = spmm(graph, x_src, edge_vector("GINConv", "edge_mask", edge_mask, graph), left=left)
        return self.nn(out if x_dst is None else out + (1 + self.eps) * x_dst)


class GINEConv(nn.Module):
    r"""Graph isomorphism network with edge features, `Strategies for pre-training graph neural
    networks <https://arxiv.org/abs/1905.12265>`_.

    .. math::
        x'_i = h_\Theta \Big( (1 + \epsilon)\, x_i + \sum_{j \in N(i)}
        \mathrm{ReLU}(x_j + e_{ji}) \Big)

    Args:
        nn: The network :math:`h_\Theta`.
        eps: (Initial) :math:`\epsilon`.
        train_eps: Learn :math:`\epsilon`.
        edge_dim: Width of ``edge_attr``, mapped linearly to that of ``x``; None if they agree.

    Shapes: as :class:`GINConv`, with ``edge_attr [E, edge_dim]``.

    Parameters are named as in PyG (``nn.*``, ``eps``, ``lin``).
    """

    def __init__(
        self,
        nn: nn.Module,
        eps: float = 0.0,
        train_eps: bool = False,
        edge_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.nn = nn
        self.initial_eps = eps
        self.edge_dim = edge_dim
        self.eps = _epsilon(self, train_eps)
        self.lin = None if edge_dim is None else linear(edge_dim, _width_of(nn), glorot=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset(self.nn)
        self.eps.data.fill_(self.initial_eps)
        if self.lin is not None:
            self.lin.reset_parameters()

    def forward(
        self,
        x: Features,
        edge_index: Adj,
        edge_attr: Tensor | None = None,
        size: tuple[int, int] | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        x_src, x_dst, graph = read_input("GINEConv", x, edge_index, size=size)
        if edge_attr is None:
            raise GraphError("GINEConv needs edge_attr [E, edge_dim]. Use GINConv without it.")
        check_edges("GINEConv", "edge_attr", edge_attr, graph)
        edge = edge_attr if self.lin is None else self.lin(edge_attr)
        if edge.dim() != 2 or edge.size(1) != x_src.size(1):
            raise GraphError(
                f"GINEConv: edge_attr has shape {list(edge_attr.shape)} and x {x_src.size(1)} "
                "features; their widths must agree. Build the layer with edge_dim to map them."
            )
        message = (gather(graph, x_src, "src") + edge).relu()
        edge_mask = edge_vector("GINEConv", "edge_mask", edge_mask, graph)
        if edge_mask is not None:
            message = message * edge_mask.unsqueeze(1)
        out = segment_reduce(message, graph.by_dst)
        return self.nn(out if x_dst is None else out + (1 + self.eps) * x_dst)


def _epsilon(layer: nn.Module, train: bool) -> Tensor:
    if train:
        return nn.Parameter(torch.empty(1))
    # registered here, so that the assignment that follows keeps it a buffer
    layer.register_buffer("eps", torch.empty(1))
    return layer.get_buffer("eps")


def _width_of(network: nn.Module) -> int:
    first = network[0] if isinstance(network, nn.Sequential) else network
    width = getattr(first, "in_features", None) or getattr(first, "in_channels", None)
    if not isinstance(width, int):
        raise ConfigError(
            f"GINEConv: edge_dim needs the input width of nn, but {type(first).__name__} has "
            "neither in_features nor in_channels. Put a Linear first."
        )
    return width
