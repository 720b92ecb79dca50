"""The encoder that the neural common neighbour predictors (NCN, NCNC) are trained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph, as_graph
from ..ops import dropout, relu_dropout, spmm
from ..ops.dropout import scale_of
from ..ops.spmm import Reduce
from ..structure.normalize import gcn_scales
from ..structure.subgraph import edge_subgraph
from .gcn import GCNConv
from .inputs import read_input
from .linear import linear, reset
from .propagate import check_hops, check_share
from .sparse import SparseRows, dropped, mapped, sparse_if_few

Conv = Literal[
    "puregcn", "gcn", "puresum", "puremean", "puremax", "sage", "gin", "max", "none"
]  # fmt: skip
_PURE: dict[str, Reduce | None] = {
    "puregcn": None,
    "puresum": "sum",
    "puremean": "mean",
    "puremax": "max",
}
_MAPPED: dict[str, Reduce] = {"sage": "mean", "gin": "sum", "max": "max"}
_CONVS = (*_PURE, "gcn", *_MAPPED, "none")


class _Reduced(nn.Module):
    """A linear map, the sum, mean or maximum over neighbours alone, and a bias."""

    def __init__(self, in_channels: int, out_channels: int, reduce: Reduce) -> None:
        super().__init__()
        self.reduce: Reduce = reduce
        self.lin = linear(in_channels, out_channels, bias=False, glorot=True)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor | SparseRows, graph: Graph, w: Tensor | None) -> Tensor:
        return spmm(graph, mapped(x, self.lin), w, reduce=self.reduce) + self.bias


class NCNEncoder(nn.Module):
    r"""The encoder of NCN and NCNC, `Neural common neighbor with completion for link prediction
    <https://arxiv.org/abs/2302.00890>`_: vectors of nodes, for :class:`NCNPredictor`.

    .. math::
        X_0 = \mathrm{input}(X), \qquad X_k = \mathrm{block}_k(\mathrm{conv}_k(X_{k-1})),
        \qquad H = X_K

    With a weight-free convolution, or no layer at all, ``input`` is dropout, a linear map and
    dropout, and a block does nothing. With any other the features are dropped and go into the first
    convolution, and a block is layer norm, dropout and ReLU; behind the last of several there is
    none.

    Args:
        in_channels: Features of each node; None for nodes that have a learnt vector each.
        hidden_channels: Width of the layers and the result.
        num_layers: Number of convolutions; 0 leaves the input map.
        conv: ``puregcn`` is :math:`\hat D^{-1/2} \hat A \hat D^{-1/2} X` with :math:`\hat A = A +
            I`; ``puresum``, ``puremean`` and ``puremax`` reduce the neighbours; ``gcn`` is
            :class:`GCNConv`; ``gin``, ``sage`` and ``max`` reduce the neighbours (sum, mean,
            maximum) behind a linear map; ``none`` is no layer.
        num_embeddings: Number of learnt vectors, which begin orthogonal, where ``in_channels`` is
            None.
        x_dropout: Probability, on the features.
        tail_dropout: Probability, behind the last weight-free convolution.
        dropout: Probability, behind the input map or the learnt vectors, and in the blocks.
        edge_dropout: Probability of dropping an edge in training, once for all layers. What is kept
            is scaled up; degrees are those of the scaled edges.
        layer_norm: Have layer norms in the blocks.
        residual: Add a layer's input to its result where the widths agree.
        jk: The result is a learnt sum over the layers, whose weights begin normal.

    Shapes: ``x [N, in]``, or with learnt vectors int64 ids ``[N]`` or None for the first N of them;
    ``edge_index [2, E]`` or Graph; returns ``[N, hidden]``. ``num_nodes`` is N where ``x`` is None
    and ``edge_index`` a tensor; by default all vectors are asked for.

    Symmetric products take one ``spmm`` with scales, and bags of words go into the first map by
    what is not 0. Differences from the official code: means are divided by the number of neighbours
    before any was dropped, so that edge dropout leaves their expectation as it is; ``none`` has the
    input map whatever ``num_layers`` is. As there, ``x_dropout`` does nothing to learnt vectors and
    ``tail_dropout`` nothing to convolutions with weights.
    """

    def __init__(
        self,
        in_channels: int | None,
        hidden_channels: int,
        num_layers: int = 1,
        conv: Conv = "puregcn",
        *,
        num_embeddings: int | None = None,
        x_dropout: float = 0.0,
        tail_dropout: float = 0.0,
        dropout: float = 0.0,
        edge_dropout: float = 0.0,
        layer_norm: bool = True,
        residual: bool = False,
        jk: bool = False,
    ) -> None:
        super().__init__()
        if conv not in _CONVS:
            raise ConfigError(f"NCNEncoder: unknown conv {conv!r}. {nearest(str(conv), _CONVS)}")
        if (in_channels is None) == (num_embeddings is None):
            raise ConfigError(
                f"NCNEncoder: in_channels is {in_channels} and num_embeddings {num_embeddings}, "
                "but one of them is expected: nodes have features, or learnt vectors."
            )
        for name, size in (
            ("in_channels", in_channels),
            ("num_embeddings", num_embeddings),
            ("hidden_channels", hidden_channels),
        ):
            if size is not None and (not isinstance(size, int) or size < 1):
                raise ConfigError(f"NCNEncoder: {name} is {size!r}, but at least 1 is expected.")
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.num_layers = 0 if conv == "none" else check_hops("NCNEncoder", num_layers, "layers")
        self.conv = conv
        self.x_dropout = check_share("NCNEncoder", "x_dropout", x_dropout)
        self.tail_dropout = check_share("NCNEncoder", "tail_dropout", tail_dropout)
        self.dropout = check_share("NCNEncoder", "dropout", dropout)
        self.edge_dropout = check_share("NCNEncoder", "edge_dropout", edge_dropout)
        self.residual = residual
        is_pure = conv in _PURE or self.num_layers == 0
        self.lin = self.vectors = None
        width = hidden_channels
        if num_embeddings is not None:
            self.vectors = nn.Embedding(num_embeddings, hidden_channels)
        elif in_channels is not None:
            self.lin = nn.Linear(in_channels, hidden_channels) if is_pure else None
            width = hidden_channels if is_pure else in_channels
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        if not is_pure:
            widths = [width] + [hidden_channels] * (self.num_layers - 1)
            self.convs.extend(self._layer(width) for width in widths)
            normed = self.num_layers if self.num_layers == 1 else self.num_layers - 1
            norm = nn.LayerNorm if layer_norm else nn.Identity
            self.norms.extend(norm(hidden_channels) for _ in range(normed))
        self.jk = nn.Parameter(torch.empty(self.num_layers)) if jk and self.num_layers else None
        self.reset_parameters()

    def _layer(self, width: int) -> nn.Module:
        if self.conv == "gcn":
            return GCNConv(width, self.hidden_channels)
        return _Reduced(width, self.hidden_channels, _MAPPED[self.conv])

    def reset_parameters(self) -> None:
        for module in (self.lin, *self.convs, *self.norms):
            if module is not None:
                reset(module)
        if self.vectors is not None:
            nn.init.orthogonal_(self.vectors.weight)
        if self.jk is not None:
            nn.init.normal_(self.jk)

    def forward(self, x: Tensor | None, edge_index: Adj, num_nodes: int | None = None) -> Tensor:
        h, graph = self._input(x, edge_index, num_nodes)
        graph, w = self._thinned(graph, h)
        hop = self._hop(graph, h, w) if self.conv in _PURE else None
        out = None
        for number in range(self.num_layers):
            after = self._layered(number, h, graph, w) if hop is None else hop(h)
            if hop is not None and number == self.num_layers - 1:
                after = dropout(after, self.tail_dropout, self.training)
            if self.residual and isinstance(h, Tensor) and h.shape == after.shape:
                after = after + h
            h = after
            if self.jk is not None:
                # in the dtype of the layers, as under autocast
                share = self.jk[number].to(h.dtype) * h
                out = share if out is None else out + share
        return h if out is None else out

    def _input(self, x: Tensor | None, edge_index: Adj, num_nodes: int | None) -> tuple[Any, Graph]:
        """What the first layer takes, and the graph."""
        if self.vectors is None:
            if x is None:
                raise GraphError(
                    f"NCNEncoder: x is None, but features [N, {self.in_channels}] are expected. "
                    "Build the encoder with num_embeddings for nodes without features."
                )
            x, _, graph = read_input("NCNEncoder", x, edge_index, self.in_channels or -1)
            if self.lin is None:
                # a residual needs the features as they are
                sparse = not (self.residual and self.in_channels == self.hidden_channels)
                x_in = sparse_if_few(x) if sparse else x
                return dropped(x_in, self.x_dropout, self.training), graph
            h = mapped(dropped(sparse_if_few(x), self.x_dropout, self.training), self.lin)
            return dropout(h, self.dropout, self.training), graph
        vectors = self._vectors(self.vectors, x, edge_index, num_nodes)
        graph = as_graph(edge_index, vectors.size(0), vectors.size(0))
        return dropout(vectors, self.dropout, self.training), graph

    def _vectors(
        self, table: nn.Embedding, x: Tensor | None, edge_index: Adj, num_nodes: int | None
    ) -> Tensor:
        if x is not None:
            is_ids = isinstance(x, Tensor) and x.dim() == 1  # pyright: ignore[reportUnnecessaryIsInstance]
            if not is_ids or x.dtype not in (torch.int64, torch.int32):
                got = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
                raise GraphError(
                    f"NCNEncoder: x is {got}, but int64 [N] is expected: for each node the number "
                    "of its vector. Build the encoder with in_channels for features."
                )
            _check_ids(x, table.num_embeddings)
            return table(x)
        if isinstance(edge_index, Graph):
            num_nodes = edge_index.num_dst
        count = table.num_embeddings if num_nodes is None else num_nodes
        if count > table.num_embeddings:
            raise GraphError(
                f"NCNEncoder: there are {count} nodes, but {table.num_embeddings} learnt vectors. "
                f"Build the encoder with num_embeddings={count}."
            )
        return table.weight[:count]

    def _thinned(self, graph: Graph, h: Any) -> tuple[Graph, Tensor | None]:
        """The graph of this step, and the weight of its edges."""
        p = self.edge_dropout
        if not (self.training and p and self.num_layers):
            return graph, None
        dtype = h.dtype if isinstance(h, Tensor) else h.value.dtype
        ones = torch.ones(
            graph.num_edges, dtype=torch.promote_types(dtype, torch.float32), device=graph.device
        )
        if not self.conv.endswith("max"):
            return graph, dropout(ones, p)
        # a message of 0 could be the largest one, so that those edges have to go
        keep = torch.rand(graph.num_edges, device=graph.device) >= p
        graph = edge_subgraph(graph, keep)
        return graph, ones[: graph.num_edges] * scale_of(p)

    def _hop(self, graph: Graph, h: Tensor, w: Tensor | None) -> Callable[[Tensor], Tensor]:
        reduce = _PURE[self.conv]
        if reduce is not None:
            return partial(spmm, graph, w=w, reduce=reduce)
        dtype = torch.promote_types(h.dtype, torch.float32)
        scale, diagonal = gcn_scales(graph, w, dtype=dtype)
        return partial(spmm, graph, w=w, left=scale, right=scale, diagonal=diagonal)

    def _layered(self, number: int, h: Any, graph: Graph, w: Tensor | None) -> Tensor:
        h = self.convs[number](h, graph, w)
        if number == self.num_layers - 1 and self.num_layers > 1:
            return h
        return relu_dropout(self.norms[number](h), self.dropout, self.training)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.hidden_channels}, {self.num_layers}, conv={self.conv!r}"


def _check_ids(ids: Tensor, count: int) -> None:
    # in a compiled graph the table itself refuses them
    if torch.compiler.is_compiling() or ids.numel() == 0 or ids.device.type == "meta":
        return
    low, high = torch.aminmax(ids)
    if int(low) >= 0 and int(high) < count:
        return
    at = int(((ids < 0) | (ids >= count)).nonzero()[0])
    raise GraphError(
        f"NCNEncoder: x[{at}] = {int(ids[at])}, but there are {count} learnt vectors (valid: 0 to "
        f"{count - 1}). Build the encoder with a larger num_embeddings."
    )
