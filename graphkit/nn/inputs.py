"""What every layer does first: read ``(x, edge_index)`` the way PyG's layers do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError
from ..graph import Adj, Graph, as_graph
from ..ops.check import check_edges, check_values

Features = Tensor | tuple[Tensor, Tensor | None]
"""Node features ``[N, F]``, or sources and destinations apart for a bipartite graph."""

Channels = int | tuple[int, int]
"""Width of the features (of sources and destinations); -1 is read off the first input."""


def read_input(
    layer: str,
    x: Features,
    edge_index: Adj,
    in_channels: Channels = -1,
    size: tuple[int, int] | None = None,
    transpose: bool | None = None,
) -> tuple[Tensor, Tensor | None, Graph]:
    """``(x_src, x_dst, graph)``, checked; ``x_dst`` is None if the caller gave none.

    ``transpose`` is for :func:`as_graph`.
    """
    refuse_to_be_ignored(layer)
    x_src, x_dst = x if isinstance(x, (tuple, list)) else (x, x)
    channels = in_channels if isinstance(in_channels, tuple) else (in_channels, in_channels)
    check_features(layer, "x", x_src, channels[0])
    if x_dst is not None and (x_dst is not x_src or channels[0] != channels[1]):
        check_features(layer, "x[1]", x_dst, channels[1])
    if x_dst is not None:
        num_dst = x_dst.size(0)
    elif isinstance(edge_index, Graph):
        num_dst = edge_index.num_dst
    elif size is not None:
        num_dst = size[1]
    else:
        raise GraphError(
            f"{layer}: x = (x_src, None) does not tell how many destinations there are. "
            "Pass size=(num_src, num_dst), or a Graph."
        )
    if size is not None and tuple(size) != (x_src.size(0), num_dst):
        raise GraphError(
            f"{layer}: size is {tuple(size)}, but x has {x_src.size(0)} sources and {num_dst} "
            "destinations. Leave size out, or correct it."
        )
    graph = as_graph(edge_index, x_src.size(0), num_dst, transpose)
    check_values(layer, "x", x_src, graph.device)
    return x_src, x_dst, graph


def check_features(layer: str, name: str, x: Tensor, channels: int) -> None:
    check_values(layer, name, x, getattr(x, "device", torch.device("cpu")))
    if x.dim() != 2 or (channels > 0 and x.size(1) != channels):
        width = channels if channels > 0 else "features"
        raise GraphError(
            f"{layer}: {name} has shape {list(x.shape)}, but [N, {width}] is expected. "
            f"Build the layer with in_channels={x.size(-1) if x.dim() else 1} or reshape {name}."
        )


def edge_vector(layer: str, name: str, w: Tensor | None, graph: Graph) -> Tensor | None:
    """One value for each edge as ``[E]``; ``[E, 1]`` is accepted, as by PyG."""
    if w is None:
        return None
    check_edges(layer, name, w, graph)
    if w.numel() != graph.num_edges:
        raise GraphError(
            f"{layer}: {name} has shape {list(w.shape)}, but [{graph.num_edges}] is expected: one "
            "value for each edge."
        )
    return w.reshape(-1)


class _WithFirstRows(torch.autograd.Function):
    """``x`` and its first rows; the gradient of these is added to that of ``x`` where it is."""

    @staticmethod
    def forward(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return x.view_as(x), x[:count]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.rows, ctx.count = inputs[0].size(0), inputs[1]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_all: Tensor | None, of_first: Tensor | None) -> Any:
        if of_all is None or of_first is None:
            if of_first is not None:
                more = of_first.new_zeros(ctx.rows - ctx.count, *of_first.shape[1:])
                of_all = torch.cat([of_first, more])
            return of_all, None
        if torch.is_grad_enabled():
            of_all = of_all.clone()
        of_all[: ctx.count] += of_first
        return of_all, None


def with_first_rows(x_src: Tensor, x_dst: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The same two, of which ``x_dst`` is ``x_src[:n]`` in a sampled block, for a cheaper gradient.

    That of a slice is as large as ``x_src``: torch fills, copies and adds up all of it, a fifth of
    a training step. For layers that hand ``x_src`` to one op, whose gradient is a new tensor.
    """
    if x_dst is None or torch.compiler.is_compiling():
        return x_src, x_dst
    of_all, of_slice = x_src.grad_fn, x_dst.grad_fn
    if of_all is None or of_slice is None or of_slice.name() != "SliceBackward0":
        return x_src, x_dst
    source = of_slice.next_functions[0]
    is_its = source[0] is of_all and source[1] == x_src.output_nr
    lies = x_dst.data_ptr() == x_src.data_ptr() and x_dst.stride() == x_src.stride()
    if not (is_its and lies and x_dst.shape[1:] == x_src.shape[1:]):
        return x_src, x_dst
    return _WithFirstRows.apply(x_src, x_dst.size(0))  # pyright: ignore[reportReturnType]


def sampled_share(layer: str, graph: Graph, whole: Tensor, columns: int) -> Tensor:
    """In-edges in the whole graph for each that a sampled block has, ``[num_dst]``; 0 for none.

    ``whole`` is what the layer's ``of_whole`` says of the block's destinations, or of its sources,
    of which they are the first: ``[rows, columns]``, in-degrees in front.
    """
    if whole.dim() != 2 or whole.size(1) != columns or whole.size(0) < graph.num_dst:
        raise GraphError(
            f"{layer}: whole has shape {list(whole.shape)}, but [{graph.num_src}, {columns}] is "
            "expected: the rows of of_whole(graph) that belong to the nodes of the block."
        )
    drawn = graph.in_degree().to(whole.dtype)
    return torch.where(drawn > 0, whole[: graph.num_dst, 0] / drawn.clamp(min=1), 0)


def refuse_to_be_ignored(layer: str) -> None:
    """Raise if PyG explains edges and cannot see this layer.

    Its explainers give edge masks to MessagePassing modules and pass over all others in silence.
    Nothing tells a layer that it is being passed over, but the explainer stands in the call stack.
    """
    if torch.compiler.is_compiling() or "torch_geometric.explain.explainer" not in sys.modules:
        return
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("graphkit.interop"):
            return
        if module.startswith("torch_geometric.explain."):
            owner = frame.f_locals.get("self")
            config = getattr(owner, "explainer_config", owner)
            if getattr(config, "edge_mask_type", None) is not None:
                raise ConfigError(
                    f"{layer} is inside a model whose edges PyG explains, but PyG has no place for "
                    "its edge mask here. Explain graphkit.interop.as_message_passing(model)."
                )
        frame = frame.f_back


def one_set_of_nodes(layer: str, x: Features) -> None:
    """Raise for bipartite input to a layer that is defined on one set of nodes."""
    if isinstance(x, (tuple, list)):
        raise GraphError(
            f"{layer} is defined on one set of nodes, but x is a pair. "
            "Use SAGEConv, GATConv or GINConv for bipartite graphs, and pass whole for a sampled "
            "block."
        )


def over_blocks(model: Any, x: Tensor, blocks: Sequence[Graph], whole: Tensor | None) -> Tensor:
    """The output for the last block's destinations; ``x`` and ``whole`` are of the first's sources.

    A block's destinations are its first sources, and are the sources of the next block.
    """
    name, layers = type(model).__name__, len(model.convs)
    if len(blocks) != layers:
        raise GraphError(
            f"{name}: got {len(blocks)} blocks for {layers} layers. Sample with one fanout for "
            "each layer."
        )
    for number, block in enumerate(blocks):
        if block.num_src != x.size(0):
            raise GraphError(
                f"{name}: block {number} has {block.num_src} sources, but there are {x.size(0)} "
                "rows. Pass the features of n_id, and the blocks in their order."
            )
        x = model.layer(number, x, block, None if whole is None else whole[: x.size(0)])
    return x
