"""Predictions of an exported student against those of the HGNN that it spares.

Hypergraphs with communities, as many hyperedges as vertices, sizes geometric with mean 10, 500
features, 10 classes; and co-citation Cora. Models have two layers and the hidden width that their
names say, drawn weights and no dropout: time does not depend on what was learnt. Asked for is the
prediction of one vertex, the first whose degree is the median, or of all of them.

``student`` is the MLP as ``graphkit export`` has it: saved by torch.export and loaded again;
``ONNX`` is the same in onnxruntime. ``HGNN`` runs on the whole hypergraph, sorted once before the
clock starts, also where one vertex is asked for: without more machinery that is how its prediction
is had. ``field`` is more machinery: the vertex's exact receptive field, two steps over hyperedges,
is cut out by our sampler with all neighbours, and the layers run on its blocks with the degrees of
the whole; cutting is timed, degrees are not. ``DHG`` is that library's HGNN with the same weights.
It keeps the product of the incidences as one sparse matrix, made before the clock starts; equal
hyperedges, whose weights it would average, are told to add up.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import graphs
from benchmarks.entry import Call, Outputs, Prepared
from graphkit import Graph
from graphkit.errors import need
from graphkit.nn import MLP, HGNNConv, HyperStack
from graphkit.ops import Sampler, spmm, take_rows
from graphkit.structure import as_hypergraph

TITLE = "A student and HGNN, inference"
BASELINE = "student 32"
TESTS = (
    "tests/recipes/test_export.py",
    "tests/nn/test_hypergraph_layers.py",
    "-k",
    "program or onnxruntime or HGNNConv",
)
TOLERANCE = 1e-4

SIZES = (1000, 5000, 10_000, 20_000, 30_000, 40_000, 55_000)
WIDTHS = (32, 128)
TO_NODES, TO_EDGES = ("edge", "of", "node"), ("node", "in", "edge")
ASKED = ("one vertex", "all")


def cases(quick: bool) -> list[dict[str, Any]]:
    made = [("communities", size) for size in (SIZES[:2] if quick else SIZES)]
    made += [] if quick else [("cocitation-cora", 2708)]
    chosen = dict.fromkeys(name for name, _ in made)
    return [
        {"graph": name, "asked": asked, "nodes": size}
        for name in chosen
        for asked in ASKED
        for kind, size in made
        if kind == name
    ]


def entrants(graph: str, asked: str, nodes: int) -> list[str]:
    # the field of all vertices is the whole
    return [name for name in CONTENDERS if asked == "one vertex" or "field" not in name]


@dataclass(frozen=True)
class Problem:
    """A hypergraph of features ``x [N, F]`` and ``classes``; ``vertex`` None asks for all.

    ``kept`` has the right outputs of HGNN by width, as soon as somebody asked for them.
    """

    hypergraph: Graph
    x: Tensor
    classes: int
    vertex: int | None
    kept: dict[int, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> Tensor:
        """The features of what is asked for."""
        return self.asked(self.x)

    def asked(self, whole: Tensor) -> Tensor:
        """The rows of ``whole [N, ...]`` that are asked for."""
        return whole if self.vertex is None else whole[self.vertex : self.vertex + 1]

    @property
    def ends(self) -> tuple[int, int]:
        """Width of the features, and number of classes."""
        return self.x.size(1), self.classes

    def teacher(self, width: int) -> HyperStack:
        """With the same weights in every call, biases among them."""
        with torch.random.fork_rng():
            torch.manual_seed(width)
            widths = [self.ends[0], width, self.ends[1]]
            layers = [HGNNConv(a, b) for a, b in zip(widths, widths[1:], strict=False)]
            for layer in layers:
                nn.init.normal_(layer.lin.bias)
        return HyperStack(layers).eval().requires_grad_(False)

    def right(self, width: int) -> Outputs:
        """HGNN's formula in float64, with sparse matrices of torch."""
        if width not in self.kept:
            ends = self.hypergraph.edge_index().flip(0)
            shape = self.hypergraph.num_dst, self.hypergraph.num_src
            incidence = torch.sparse_coo_tensor(ends, torch.ones(ends.size(1)).double(), shape)
            gather, spread = incidence.t().to_sparse_csr(), incidence.to_sparse_csr()
            degree = torch.bincount(ends[0], minlength=shape[0]).double()
            size = torch.bincount(ends[1], minlength=shape[1]).double()
            root, share = inverse(degree.sqrt())[:, None], inverse(size)[:, None]
            first, second = lins(self.teacher(width).double())

            def smooth(h: Tensor) -> Tensor:
                return root * (spread @ (share * (gather @ (root * h))))

            self.kept[width] = smooth(second(smooth(first(self.x.double())).relu()))
        return (self.asked(self.kept[width]),)


def mlp(features: int, classes: int, width: int) -> MLP:
    """With the same weights in every call, and running statistics that are not 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(width)
        made = MLP([features, width, classes], norm="batch_norm", dropout=0.5)
        made(torch.randn(64, features))
    return made.eval().requires_grad_(False)


def lins(teacher: HyperStack) -> list[nn.Linear]:
    """The maps of its layers."""
    return [conv.lin for conv in teacher.convs]  # pyright: ignore[reportReturnType]


def inverse(value: Tensor) -> Tensor:
    """1 / ``value``, and 0 where that is 0."""
    return torch.where(value > 0, value.reciprocal(), 0)


def problem(graph: str, asked: str, nodes: int) -> Problem:
    found: Any = graphs.hyper_data(graph, nodes)
    hypergraph = as_hypergraph(found.edge_index, len(found.x), found.num_hyperedges)
    degree = hypergraph.in_degree()
    # of the vertices that are in some hyperedge
    median = degree[degree > 0].median()
    vertex = int((degree == median).nonzero()[0]) if asked == "one vertex" else None
    return Problem(hypergraph, found.x, found.num_classes, vertex)


def reference(p: Problem) -> Outputs:
    """The student of width 32, in float64."""
    return _right_student(p, 32)


def _right_student(p: Problem, width: int) -> Outputs:
    return (mlp(*p.ends, width).double()(p.rows.double()),)


# -- the contenders --------------------------------------------------------------------------------


def _called(function: Callable[[], Tensor]) -> Call:
    def call() -> Outputs:
        with torch.inference_mode():
            return (function(),)

    return call


@cache
def _program(features: int, classes: int, width: int) -> torch.export.ExportedProgram:
    """What all hypergraphs of these features share."""
    rows = {"x": {0: torch.export.Dim("rows", min=1)}}
    example, made = torch.zeros(2, features), mlp(features, classes, width)
    return torch.export.export(made, (example,), dynamic_shapes=rows, strict=False)


def student(p: Problem, width: int) -> Prepared:
    """Saved, and loaded again."""
    file = io.BytesIO()
    torch.export.save(_program(*p.ends, width), file)
    file.seek(0)
    module: Any = torch.export.load(file).module()
    return Prepared(_called(lambda: module(p.rows)), want=_right_student(p, width))


@cache
def _onnx(features: int, classes: int, width: int) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            _program(features, classes, width), dynamo=True, verbose=False, input_names=["x"]
        )
    return made.model_proto.SerializeToString()


def onnx(p: Problem, width: int) -> Prepared:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, "onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    text, places = _onnx(*p.ends, width), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(text, options, providers=places)

    def call() -> Outputs:
        (out,) = session.run(None, {"x": p.rows.numpy()})
        return (torch.from_numpy(out),)

    return Prepared(call, want=_right_student(p, width))


def whole(p: Problem, width: int) -> Prepared:
    """On the whole hypergraph."""
    model = p.teacher(width)
    return Prepared(_called(lambda: p.asked(model(p.x, p.hypergraph))), want=p.right(width))


def in_field(p: Problem, width: int) -> Prepared:
    """On the receptive field of the vertex, cut out anew in each call."""
    first, second = lins(p.teacher(width))
    root = inverse(p.hypergraph.in_degree().float().sqrt())
    share = inverse(p.hypergraph.out_degree().float())
    sides = {TO_NODES: p.hypergraph, TO_EDGES: p.hypergraph.t()}
    sampler = Sampler(sides, dict.fromkeys(sides, [-1] * 4))
    seeds = {"node": torch.tensor([p.vertex])}

    def run() -> Tensor:
        found: Any = sampler(seeds)
        blocks = found.blocks()
        of_node, of_edge = root[found.n_id["node"]], share[found.n_id["edge"]]

        def propagate(h: Tensor, inner: Graph, outer: Graph) -> Tensor:
            z = spmm(inner, h, left=of_edge[: inner.num_dst], right=of_node[: inner.num_src])
            return spmm(outer, z, left=of_node[: outer.num_dst])

        h = first(take_rows(p.x, found.n_id["node"]))
        h = propagate(h, blocks[0][TO_EDGES], blocks[1][TO_NODES]).relu()
        return propagate(second(h), blocks[2][TO_EDGES], blocks[3][TO_NODES])

    return Prepared(_called(run), want=p.right(width))


def dhg(p: Problem, width: int) -> Prepared:
    need("dhg")
    import dhg  # pyright: ignore[reportMissingImports]

    node, hyperedge = p.hypergraph.edge_index().flip(0)
    order = hyperedge.argsort(stable=True)
    sizes = torch.bincount(hyperedge, minlength=p.hypergraph.num_src)
    members = [part.tolist() for part in node[order].split(sizes[sizes > 0].tolist())]
    weights = [1.0] * len(members)
    hypergraph = dhg.Hypergraph(p.hypergraph.num_dst, members, weights, merge_op="sum")
    model: Any = dhg.models.HGNN(p.ends[0], width, p.ends[1])
    for theirs, ours in zip(model.layers, lins(p.teacher(width)), strict=True):
        theirs.theta.load_state_dict(ours.state_dict())
    model.eval()

    def run() -> Tensor:
        return p.asked(model(p.x, hypergraph))

    return Prepared(_called(run), want=p.right(width))


_KINDS: dict[str, Callable[..., Prepared]] = {
    "student {}": student,
    "student {}, ONNX": onnx,
    "HGNN {}": whole,
    "HGNN {}, field": in_field,
    "DHG {}": dhg,
}
CONTENDERS = {
    name.format(width): partial(make, width=width)
    for width in WIDTHS
    for name, make in _KINDS.items()
}
