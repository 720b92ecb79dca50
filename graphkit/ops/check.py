"""What every op asks of its tensors before anything is launched."""

# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Graph, missing_transpose

_VALUE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_reduce(op: str, reduce: str, known: tuple[str, ...]) -> None:
    if reduce not in known:
        raise ConfigError(f"{op}: unknown reduce {reduce!r}. {nearest(str(reduce), known)}")


def check_values(op: str, name: str, x: Tensor, device: torch.device) -> None:
    """Dense floating-point values on the graph's device."""
    # isinstance guards against arrays and lists, which callers do pass whatever the annotation
    if not isinstance(x, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"{op}: {name} is a {type(x).__name__}, but a torch.Tensor is expected. "
            f"Pass torch.as_tensor({name})."
        )
    if x.layout != torch.strided:
        raise GraphError(
            f"{op}: {name} has layout {x.layout}, but a dense tensor is expected. "
            f"Pass {name}.to_dense()."
        )
    if x.dtype not in _VALUE_DTYPES:
        raise GraphError(
            f"{op}: {name} has dtype {x.dtype}, but a floating-point tensor is expected. "
            f"Pass {name}.float()."
        )
    if x.device != device:
        raise GraphError(
            f"{op}: {name} is on {x.device} but the graph is on {device}. "
            f"Move one of them, for example graph.to({str(x.device)!r})."
        )


def check_square(op: str, graph: Graph) -> None:
    """A Graph on one set of nodes."""
    if not isinstance(graph, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"{op}: graph is a {type(graph).__name__}, but a graphkit.Graph is expected. "
            "Pass graphkit.Graph.from_edge_index(edge_index, num_nodes)."
        )
    if graph.num_src != graph.num_dst:
        raise GraphError(
            f"{op}: the graph has {graph.num_src} sources and {graph.num_dst} destinations, but "
            "one set of nodes is expected. Give every node a place among both."
        )


def check_nodes(op: str, name: str, x: Tensor, graph: Graph, side: str) -> None:
    """Node values ``[N, F]`` or ``[N, H, C]`` with one row for each node of ``side``."""
    if not isinstance(graph, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"{op}: graph is a {type(graph).__name__}, but a graphkit.Graph is expected. "
            "Pass graphkit.as_graph(edge_index, num_src, num_dst)."
        )
    check_values(op, name, x, graph.device)
    count = graph.num_src if side == "source" else graph.num_dst
    if x.dim() not in (2, 3):
        raise GraphError(
            f"{op}: {name} has shape {list(x.shape)}, but [{count}, features] or "
            f"[{count}, heads, channels] is expected. Pass {name}.unsqueeze(-1) for one feature."
        )
    if x.size(0) != count:
        raise GraphError(
            f"{op}: {name} has {x.size(0)} rows but the graph has {count} {side}s. "
            f"Pass num_{'src' if side == 'source' else 'dst'} (or num_nodes) when building the "
            "graph if the last nodes are isolated."
        )


def check_edges(op: str, name: str, w: Tensor, graph: Graph) -> None:
    """Edge values with one row for each edge, in the caller's edge order."""
    check_values(op, name, w, graph.device)
    if w.dim() == 0 or w.size(0) != graph.num_edges:
        raise GraphError(
            f"{op}: {name} has shape {list(w.shape)}, but the graph has {graph.num_edges} edges. "
            "It needs one row for each column of edge_index, in the same order."
        )


def check_transpose(op: str, graph: Graph, *needs_gradient: Tensor | None) -> None:
    """A gradient with respect to features flows along ``by_src``."""
    if graph.by_src is None and torch.is_grad_enabled():
        if any(t is not None and t.requires_grad for t in needs_gradient):
            raise GraphError(missing_transpose(f"The gradient of {op}"))
