"""Laws for layers and graphs, shipped so that your own layers can be held to them.

(opt: hypothesis, torch_geometric)
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .errors import ConfigError, GraphkitError
from .graph import Graph

__all__ = ["CHECKED_NODES", "check_layer", "dense_adjacency", "graphs", "zoo"]

CHECKED_NODES = 13
"""The nodes of the graph that :func:`check_layer` looks at."""


def _generator(seed: int) -> torch.Generator:
    """Of torch's default device, where the tensors are made too."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def dense_adjacency(graph: Graph, w: Tensor | None = None) -> Tensor:
    """The float64 matrix ``[num_dst, num_src]`` whose entry (i, j) sums the edges from j to i."""
    src, dst = graph.edge_index()
    weights = torch.ones(graph.num_edges) if w is None else w.detach()
    out = torch.zeros(graph.num_dst, graph.num_src, dtype=torch.float64)
    return out.index_put_((dst, src), weights.to(torch.float64), accumulate=True)


def zoo() -> Iterator[tuple[str, Graph]]:
    """Named graphs that break careless kernels, on torch's default device."""

    def build(edges: list[tuple[int, int]], num_src: int, num_dst: int) -> Graph:
        edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
        return Graph.from_edge_index(edge_index, num_src=num_src, num_dst=num_dst)

    generator = _generator(7)
    yield "empty", build([], 0, 0)
    yield "edgeless", build([], 5, 5)
    yield "single-node-loop", build([(0, 0)], 1, 1)
    yield "isolated-ends", build([(1, 2), (2, 3), (3, 1)], 5, 5)
    yield "self-loops", build([(0, 0), (1, 0), (1, 1), (2, 1)], 3, 3)
    yield "multi-edges", build([(0, 1), (0, 1), (1, 0), (0, 1), (2, 2), (2, 2)], 3, 3)
    yield "hub", build([(i, 0) for i in range(1, 300)] + [(0, i) for i in range(1, 9)], 300, 300)
    yield "wide-bipartite", build([(40, 0), (3, 1), (17, 0), (49, 2), (0, 0)], 50, 3)
    yield "tall-bipartite", build([(0, 40), (2, 3), (1, 17), (0, 49)], 3, 50)
    edge_index = torch.randint(30, (2, 200), generator=generator)
    yield "random", Graph.from_edge_index(edge_index, 30)
    ordered = edge_index[:, edge_index[1].sort(stable=True).indices]
    yield "sorted", Graph.from_edge_index(ordered, 30)


def graphs(max_nodes: int = 8, max_edges: int = 20, bipartite: bool = True) -> Any:
    """A hypothesis strategy of :class:`Graph`, from empty to dense, with loops and multi-edges."""
    from hypothesis import strategies as st

    @st.composite
    def draw_graph(draw: Any) -> Graph:
        num_src = draw(st.integers(0, max_nodes))
        num_dst = draw(st.integers(0, max_nodes)) if bipartite else num_src
        edges: list[tuple[int, int]] = []
        if num_src and num_dst:
            ends = st.tuples(st.integers(0, num_src - 1), st.integers(0, num_dst - 1))
            edges = draw(st.lists(ends, max_size=max_edges))
        edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
        return Graph.from_edge_index(edge_index, num_src=num_src, num_dst=num_dst)

    return draw_graph()


def check_layer(
    layer_or_factory: nn.Module | Callable[[], nn.Module],
    *,
    in_channels: int | None = None,
    edge_dim: int | None = None,
    bipartite: bool = False,
    compile_backend: str | None = "aot_eager",
    pyg: bool | None = None,
    node_parameters: Sequence[str] = (),
) -> None:
    """Assert what every layer here promises; for yours too.

    Same result for a tensor and a :class:`Graph`, for any edge order; node-permutation
    equivariance; a union of graphs equals the graphs apart; empty and isolated nodes stay finite;
    float64 gradcheck of inputs and parameters; deepcopy, ``state_dict`` and ``reset_parameters``;
    ``torch.compile(fullgraph=True, dynamic=True)`` forward and backward; bfloat16 autocast; typed
    errors for bad input; ``edge_mask`` (where offered) neutral at one and with a gradient; and,
    with PyG, ``Sequential``, ``JumpingKnowledge``, ``HeteroConv``, ``to_hetero`` and an explainer's
    edge mask. All of it on the device of the layer's parameters.

    Args:
        layer_or_factory: A module called as ``layer(x, edge_index, ...)``, or what makes one.
        in_channels: Width of ``x``; read off ``layer.in_channels`` if not given.
        edge_dim: Width of ``edge_attr``, if the layer takes one.
        bipartite: Also call it with ``(x_src, x_dst)``.
        compile_backend: Backend for ``torch.compile``; None leaves compilation out.
        pyg: Check inside PyG; by default if it is installed and the layer takes ``edge_mask``.
        node_parameters: Names of parameters that have a row for each node, ``CHECKED_NODES`` of
            them: they move with the nodes, and the layer is asked about no other number of nodes.

    Raises ``AssertionError`` naming the broken promise.
    """
    layer = layer_or_factory if isinstance(layer_or_factory, nn.Module) else layer_or_factory()
    width = in_channels or getattr(layer, "in_channels", None)
    width = width[0] if isinstance(width, tuple) else width
    if not isinstance(width, int) or width < 1:
        raise ConfigError("check_layer: pass in_channels, the layer does not tell its own.")
    device = next((p.device for p in layer.parameters()), torch.get_default_device())
    # a mode that says what holds already would be one more thing to compile under
    same = device == torch.get_default_device()
    with nullcontext() if same else device:
        case = _Case(copy.deepcopy(layer).eval(), width, edge_dim, node_parameters)
        _check_laws(case, bipartite, compile_backend, pyg)


def _check_laws(
    case: _Case, bipartite: bool, compile_backend: str | None, pyg: bool | None
) -> None:
    _check_values(case)
    _check_equivariance(case)
    _check_gradients(case)
    _check_state(case)
    _check_autocast(case)
    _check_bad_input(case)
    if "edge_mask" in case.takes:
        _check_edge_mask(case)
    if bipartite:
        _check_bipartite(case)
    if compile_backend is not None:
        _check_compile(case, compile_backend)
    if pyg if pyg is not None else "edge_mask" in case.takes and _has_pyg():
        _check_in_pyg(case, bipartite)


class _Case:
    """A layer with a small graph: a loop, parallel edges, an isolated last node."""

    def __init__(
        self, layer: nn.Module, width: int, edge_dim: int | None, node_parameters: Sequence[str]
    ) -> None:
        self.layer, self.width, self.edge_dim = layer, width, edge_dim
        self.node_parameters = node_parameters
        self.takes = inspect.signature(layer.forward).parameters
        self.num_nodes = CHECKED_NODES
        self.edge_index = _random_edges(self.num_nodes - 1, 40, seed=3)
        self.x = _randn(self.num_nodes, width, seed=4)
        self.edges = self.edge_tensors(self.edge_index.size(1), seed=5)

    def edge_tensors(self, num_edges: int, seed: int) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        if "edge_weight" in self.takes:
            tensors["edge_weight"] = _randn(num_edges, 1, seed=seed).squeeze(1).abs() + 0.1
        if "edge_attr" in self.takes and self.edge_dim is not None:
            tensors["edge_attr"] = _randn(num_edges, self.edge_dim, seed=seed)
        return tensors

    def graph(self) -> Graph:
        return Graph.from_edge_index(self.edge_index, self.num_nodes)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.layer(*args, **kwargs)

    def renamed(self, place: Tensor) -> nn.Module:
        """The layer for nodes of which node i is now called ``place[i]``."""
        layer = copy.deepcopy(self.layer)
        named = dict(layer.named_parameters())
        for name in self.node_parameters:
            named[name].data[place] = named[name].data.clone()
        return layer


def _random_edges(num_nodes: int, num_edges: int, seed: int) -> Tensor:
    generator = _generator(seed)
    edges = torch.randint(num_nodes, (2, num_edges), generator=generator)
    edges[:, 0] = 2
    edges[:, 2] = edges[:, 1]
    # one loop at most: the layers of PyG and ours read parallel loops differently
    rest = edges[:, 1:]
    return torch.cat([edges[:, :1], rest[:, rest[0] != rest[1]]], 1)


def _randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed))


def _close(promise: str, got: Tensor, want: Tensor, tolerance: float = 1e-5) -> None:
    scale = max(1.0, float(want.detach().abs().max())) if want.numel() else 1.0
    torch.testing.assert_close(
        got,
        want,
        atol=tolerance * scale,
        rtol=tolerance,
        msg=lambda text: f"broken promise: {promise}\n{text}",
    )


def _check_values(case: _Case) -> None:
    out = case(case.x, case.edge_index, **case.edges)
    assert out.size(0) == case.num_nodes, "one output row for each node"
    assert bool(out.isfinite().all()), "finite output for finite input"
    _close("tensor and Graph agree", case(case.x, case.graph(), **case.edges), out)
    if "edge_weight" in case.edges:
        ones = torch.ones_like(case.edges["edge_weight"])
        want = case(case.x, case.edge_index)
        _close("weights of one change nothing", case(case.x, case.edge_index, ones), want)
    nothing = case(case.x, case.edge_index[:, :0], **case.edge_tensors(0, seed=0))
    assert bool(nothing.isfinite().all()), "finite output without edges"


def _check_equivariance(case: _Case) -> None:
    out = case(case.x, case.edge_index, **case.edges)
    order = torch.randperm(case.edge_index.size(1), generator=_generator(1))
    edges = {name: value[order] for name, value in case.edges.items()}
    _close("edge order", case(case.x, case.edge_index[:, order], **edges), out)
    place = torch.randperm(case.num_nodes, generator=_generator(2))
    moved = torch.empty_like(case.x)
    moved[place] = case.x
    renamed = case.renamed(place)(moved, place[case.edge_index], **case.edges)
    _close("node order", renamed[place], out)
    if case.node_parameters:
        return
    other = _random_edges(5, 9, seed=8)
    x_other = _randn(6, case.width, seed=9)
    edges_other = case.edge_tensors(other.size(1), seed=10)
    union = case(
        torch.cat([case.x, x_other]),
        torch.cat([case.edge_index, other + case.num_nodes], 1),
        **{name: torch.cat([value, edges_other[name]]) for name, value in case.edges.items()},
    )
    apart = torch.cat([out, case(x_other, other, **edges_other)])
    _close("a union of graphs equals the graphs apart", union, apart)


def _check_gradients(case: _Case) -> None:
    layer = copy.deepcopy(case.layer).double()
    names = [name for name, _ in layer.named_parameters()]
    num_nodes = case.num_nodes if case.node_parameters else 5
    edge_index = _random_edges(4, 7, seed=11)
    edges = {k: v.double() for k, v in case.edge_tensors(edge_index.size(1), seed=12).items()}

    def run(*tensors: Tensor) -> Tensor:
        weights = dict(zip(names, tensors[1 + len(edges) :], strict=True))
        extra = dict(zip(edges, tensors[1 : 1 + len(edges)], strict=True))
        return functional_call(layer, weights, (tensors[0], edge_index), extra)

    inputs = [_randn(num_nodes, case.width, seed=13).double(), *edges.values()]
    inputs += [p.detach().clone() for p in layer.parameters()]
    leaves = tuple(t.requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True), "float64 gradcheck"


def _check_state(case: _Case) -> None:
    out = case(case.x, case.edge_index, **case.edges)
    twin = copy.deepcopy(case.layer)
    assert torch.equal(twin(case.x, case.edge_index, **case.edges), out), "deepcopy"
    reset = getattr(twin, "reset_parameters", None)
    assert callable(reset), "reset_parameters"
    reset()
    before, after = case.layer.state_dict(), twin.state_dict()
    changed = any(not torch.equal(before[name], after[name]) for name in before)
    assert changed or not before, "reset_parameters draws new parameters"
    twin.load_state_dict(case.layer.state_dict())
    assert torch.equal(twin(case.x, case.edge_index, **case.edges), out), "state_dict round trip"
    assert repr(case.layer), "repr"


def _check_autocast(case: _Case) -> None:
    layer = copy.deepcopy(case.layer)
    with torch.autocast(case.x.device.type, torch.bfloat16):
        out = layer(case.x, case.edge_index, **case.edges)
    _close("bfloat16 autocast", out.float(), case(case.x, case.edge_index, **case.edges), 0.1)
    if not list(layer.parameters()):
        return
    out.float().square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name


def _check_bad_input(case: _Case) -> None:
    bad_index = case.edge_index.clone()
    bad_index[1, 3] = case.num_nodes
    bad = {
        "index out of range": (case.x, bad_index),
        "negative index": (case.x, case.edge_index - 5),
        "float index": (case.x, case.edge_index.float()),
        "shape [E, 2]": (case.x, case.edge_index.t().contiguous()),
        "integer features": (case.x.long(), case.edge_index),
        "sparse features": (case.x.to_sparse(), case.edge_index),
        "too many rows for the graph": (torch.cat([case.x, case.x]), case.graph()),
        "another device": (case.x.to("meta"), case.graph()),
    }
    for what, (x, edge_index) in bad.items():
        try:
            case(x, edge_index, **case.edges)
        except GraphkitError:
            continue
        raise AssertionError(f"broken promise: {what} raises a typed error")


def _check_edge_mask(case: _Case) -> None:
    out = case(case.x, case.edge_index, **case.edges)
    mask = torch.ones(case.edge_index.size(1), requires_grad=True)
    masked = case(case.x, case.edge_index, **case.edges, edge_mask=mask)
    _close("an edge mask of ones changes nothing", masked, out)
    (gradient,) = torch.autograd.grad(masked.square().sum(), mask)
    assert bool((gradient != 0).any()), "edge masks have a gradient"


def _check_bipartite(case: _Case) -> None:
    edge_index = torch.tensor([[0, 3, 3, 8, 5], [1, 0, 0, 2, 2]])
    x = (_randn(9, case.width, seed=14), _randn(4, case.width, seed=15))
    edges = case.edge_tensors(5, seed=16)
    out = case(x, edge_index, **edges)
    assert out.size(0) == 4, "one output row for each destination"
    graph = Graph.from_edge_index(edge_index, num_src=9, num_dst=4)
    _close("bipartite tensor and Graph agree", case(x, graph, **edges), out)
    # the first sources stay: layers that add self-loops take them for the destinations
    place = torch.tensor([0, 1, 2, 3, 8, 7, 4, 6, 5])
    moved = torch.empty_like(x[0])
    moved[place] = x[0]
    renamed = torch.stack([place[edge_index[0]], edge_index[1]])
    _close("source order", case((moved, x[1]), renamed, **edges), out)
    layer = copy.deepcopy(case.layer).double()
    exact = {name: value.double() for name, value in edges.items()}
    ends = tuple(t.double().requires_grad_() for t in x)
    assert torch.autograd.gradcheck(
        lambda *pair: layer(pair, graph, **exact), ends, fast_mode=True
    ), "float64 gradcheck of both ends"


def _check_compile(case: _Case, backend: str) -> None:
    torch.compiler.reset()
    layer = copy.deepcopy(case.layer)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=backend)
    for edge_index in (case.graph(), case.edge_index):
        x, y = (case.x.clone().requires_grad_() for _ in range(2))
        out = compiled(x, edge_index, **case.edges)
        want = layer(y, edge_index, **case.edges)
        _close("compiled output", out, want)
        leaves = tuple(layer.parameters())
        got_grads = torch.autograd.grad(out.square().sum(), (x, *leaves))
        want_grads = torch.autograd.grad(want.square().sum(), (y, *leaves))
        for got, expected in zip(got_grads, want_grads, strict=True):
            _close("compiled gradient", got, expected)


def _has_pyg() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch_geometric") is not None


def _check_in_pyg(case: _Case, bipartite: bool) -> None:
    from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
    from torch_geometric.nn import HeteroConv, JumpingKnowledge, Sequential, to_hetero

    from .interop import as_message_passing

    names = ", ".join(["x", "edge_index", *case.edges])
    want = case(case.x, case.edge_index, **case.edges)
    model = Sequential(names, [(case.layer, f"{names} -> h"), nn.ReLU()])
    got = model(case.x, case.edge_index, *case.edges.values())
    _close("inside PyG's Sequential", got, want.relu())
    jumped = JumpingKnowledge("cat")([want, want])
    assert jumped.size(1) == 2 * want.size(1), "inside PyG's JumpingKnowledge"

    kind = ("node", "to", "node")
    hetero = HeteroConv({kind: case.layer})  # pyright: ignore[reportArgumentType]
    edge_dicts = {f"{name}_dict": {kind: value} for name, value in case.edges.items()}
    for edge_index in (case.edge_index, case.graph()):
        got = hetero({"node": case.x}, {kind: edge_index}, **edge_dicts)["node"]
        _close("inside PyG's HeteroConv", got, want)

    wrapped = as_message_passing(copy.deepcopy(case.layer))
    _close("wrapped as message passing", wrapped(case.x, case.edge_index, **case.edges), want)
    mask = nn.Parameter(torch.full((case.edge_index.size(1),), 0.3))
    set_masks(wrapped, mask, case.edge_index, apply_sigmoid=True)
    out = wrapped(case.x, case.edge_index, **case.edges)
    (gradient,) = torch.autograd.grad(out.square().sum(), mask)
    assert bool((gradient != 0).any()), "PyG's explainers reach the layer's edges"
    clear_masks(wrapped)
    if bipartite and not case.edges:
        metadata = (["a", "b"], [("a", "to", "b"), ("b", "back", "a")])
        lifted = to_hetero(_OneLayer(as_message_passing(copy.deepcopy(case.layer))), metadata)
        edge_index = torch.tensor([[0, 1, 2], [1, 1, 0]])
        x = {"a": _randn(3, case.width, seed=17), "b": _randn(2, case.width, seed=18)}
        both = zip(metadata[1], (edge_index, edge_index.flip(0)), strict=True)
        out = lifted(x, dict(both))
        assert {k: v.size(0) for k, v in out.items()} == {"a": 3, "b": 2}, "PyG's to_hetero"


class _OneLayer(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    # no annotations: as strings they stop torch.fx before torch 2.7 inside PyG's to_hetero
    def forward(self, x, edge_index):
        return self.layer(x, edge_index)
