"""The benchmark entries at small sizes, their graphs, DGL as a peer, and the roofline."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from benchmarks import graphs, peer, roofline, show
from benchmarks.entry import Entry, Prepared, find, read
from benchmarks.measure import contest
from graphkit import cli
from graphkit.data import GraphSet
from graphkit.errors import BackendError, ConfigError, StoreError

ROOT = Path(__file__).parent.parent


# -- DGL, in another Python ------------------------------------------------------------------------

STUB = """
import torch
__version__ = "0 of this test"

class Graph:
    def __init__(self, src, dst, num_nodes):
        self.src, self.dst, self.num_nodes = src, dst, num_nodes
    def create_formats_(self):
        print("dgl talks where nobody should listen")
    def formats(self, name):
        return self

def graph(ends, num_nodes, idtype):
    return Graph(*ends, num_nodes)

def _sum(g, messages):
    return messages.new_zeros(g.num_nodes, *messages.shape[1:]).index_add(0, g.dst, messages)

class ops:
    copy_u_sum = staticmethod(lambda g, x: _sum(g, x[g.src]))
    u_mul_e_sum = staticmethod(lambda g, x, w: _sum(g, x[g.src] * w))
    copy_u_max = staticmethod(lambda g, x: torch.full_like(x, -torch.inf).scatter_reduce(
        0, g.dst[:, None].expand(-1, x.size(1)), x[g.src], "amax"))

class Block:
    def __init__(self, degrees):
        self.in_degrees = lambda: degrees

class NeighborSampler:
    def __init__(self, fanouts):
        self.fanout = fanouts[-1]
    def sample_blocks(self, g, seeds):
        degree = torch.bincount(g.dst, minlength=g.num_nodes)[seeds]
        degree = degree.clamp(max=self.fanout)
        return None, None, [Block(degree), Block(degree)]

class dataloading:
    NeighborSampler = NeighborSampler
"""


@pytest.fixture
def other_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The peer's script beside a stand-in for DGL, to be run by this very Python."""
    for name in ("dgl_peer.py", "bandwidth.py"):
        shutil.copy(ROOT / "benchmarks" / name, tmp_path / name)
    (tmp_path / "dgl.py").write_text(STUB)
    monkeypatch.setattr(peer, "FOLDER", tmp_path)
    monkeypatch.setattr(peer, "interpreter", sys.executable)
    yield tmp_path


@pytest.mark.usefixtures("other_python")
@pytest.mark.parametrize(
    ("reduce", "weighted", "passes"),
    [("sum", True, "forward+backward"), ("max", False, "forward")],
)
def test_dgl_takes_part(small_graphs: None, reduce: str, weighted: bool, passes: str) -> None:
    spmm = read(find("spmm"))
    case = {"graph": "arxiv", "dtype": "float32", "reduce": reduce, "weighted": weighted}
    only = replace(spmm, entrants=lambda **case: ["graphkit", "DGL"])
    results = contest(only, {**case, "passes": passes, "width": 5}, rounds=2, warmup=0)
    got = results["DGL"]
    assert (got.status, got.reason, len(got.seconds)) == ("ok", None, 2)
    assert got.process is not None and got.process["dgl"] == "0 of this test"
    assert {"torch", "threads", "copy_gbps", "gather_512b_gbps"} < set(got.process)


@pytest.mark.usefixtures("other_python")
def test_dgl_samples(small_graphs: None) -> None:
    only = replace(read(find("sample")), entrants=lambda **case: ["DGL"])
    got = contest(only, {"graph": "arxiv", "fanout": "5-3"}, rounds=1, warmup=0)["DGL"]
    assert (got.status, got.reason) == ("ok", None)
    assert got.process is not None and got.process["edges"] > 0


def test_dgl_that_is_wrong_is_found_out(other_python: Path, small_graphs: None) -> None:
    text = (other_python / "dgl.py").read_text()
    (other_python / "dgl.py").write_text(text.replace("_sum(g, x[g.src])", "_sum(g, 2 * x[g.src])"))
    spmm = read(find("spmm"))
    only = replace(spmm, entrants=lambda **case: ["DGL"])
    params = next(case for case in spmm.cases(False) if case["width"] == 16)
    assert contest(only, params, rounds=1, warmup=0)["DGL"].status == "wrong"


def test_a_python_without_dgl(other_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (other_python / "dgl.py").write_text("raise ImportError('there is no DGL')")
    with pytest.raises(BackendError, match="of --dgl could not run this: .*there is no DGL"):
        peer.prepared("spmm", 3, {})
    monkeypatch.setattr(peer, "interpreter", str(other_python / "no-python"))
    with pytest.raises(ConfigError, match="--dgl is '.*no-python', which cannot be run"):
        peer.prepared("spmm", 3, {})
    monkeypatch.setattr(peer, "interpreter", None)
    with pytest.raises(BackendError, match="Name its Python with --dgl"):
        peer.prepared("spmm", 3, {})


# -- the roofline ----------------------------------------------------------------------------------


def test_the_roofline_of_the_same_figures_is_the_same_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.svg", "b.svg"):
        assert cli.main(["plot", "bench", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    said = capsys.readouterr().out
    assert "figures of " in said and "spmm" in said and "Plot: " in said and "Next: " in said


def test_the_roofline_draws_each_package_and_both_ceilings(tmp_path: Path) -> None:
    rows = show.last_run(ROOT / "benchmarks" / "results" / "spmm.jsonl")
    figure, panels = show.sheet(1)
    families = ["graphkit", "PyG", "torch", "torch_scatter"]
    roofline.points(panels[0], rows, families)
    labels = panels[0].get_legend_handles_labels()[1]
    assert labels == families
    drawn = {line.get_label(): line.get_ydata() for line in panels[0].lines}
    want = [row["gbps"] for row in rows if row["contender"].startswith("graphkit")]
    assert list(drawn["graphkit"]) == want
    levels = {line.get_ydata()[0] for line in panels[0].lines if len(line.get_xdata()) == 2}
    assert {rows[0]["copy_gbps"], rows[0]["gather_512b_gbps"]} <= levels
    assert show.sheet(4)[0].get_figwidth() > figure.get_figwidth()


def test_families() -> None:
    names = {
        "graphkit, 1 thread": "graphkit", "torch.sparse.mm, CSR": "torch", "DGL": "DGL",
        "torch_scatter segment_csr": "torch_scatter", "read only, same rows": "read only",
    }  # fmt: skip
    assert {name: roofline.family(name) for name in names} == names


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["none.jsonl"], StoreError, "none.jsonl cannot be read"),
        (["empty.jsonl"], StoreError, "empty.jsonl holds no rows"),
        (["other.jsonl"], StoreError, "other holds no figures with bytes"),
        (["--out", "no/x.svg", "spmm.jsonl"], StoreError, "no/x.svg cannot be written"),
        (["--out", "x.doc", "spmm.jsonl"], StoreError, "x.doc cannot be written: .*doc"),
        (["--size", "3"], ConfigError, "unrecognized arguments: --size.*plot bench --help"),
    ],
)
def test_wrong_use_of_the_roofline(
    words: list[str],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "benchmarks" / "results" / "spmm.jsonl", tmp_path)
    Path("empty.jsonl").write_text("")
    Path("other.jsonl").write_text('{"figure": 1}\n')
    with pytest.raises(error, match=message):
        roofline.main(words)


def test_the_command_plot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cli.main(["plot", "bnch"]) == 2
    assert "unknown picture 'bnch'. Did you mean 'bench'" in capsys.readouterr().err
    assert cli.main(["plot", "--help"]) == 0
    assert "graphkit plot bench" in capsys.readouterr().out
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "graphkit" / "cli.py"))
    assert cli.main(["plot", "bench"]) == 1
    assert "plot bench runs the files of benchmarks/" in capsys.readouterr().err


# -- the entries -----------------------------------------------------------------------------------

NAMES = sorted(path.stem for path in (ROOT / "benchmarks" / "ops").glob("*.py"))
SMALL = {
    **{"GRAPHS_IN_BATCH": 3, "NUM_PAIRS": 300, "NUM_ROWS": 2000, "NUM_WALKS": 20_000},
    "NUM_SEGMENTS": 200,
}
OF_FILES = (*graphs.REAL, *graphs.SMALL, *graphs.HYPERGRAPHS)
MAY_BE_ABSENT = {
    "torch_scatter segment_csr", "torch_scatter scatter_softmax", "PyG, SparseTensor", "DGL",
    "read only, same rows", "torch_sparse neighbor_sample", "torch_sparse, NCN's search",
    "GraphBolt", "PyG, torch_sparse", "torch_scatter", *(f"DHG {width}" for width in (32, 128)),
    *(f"student {width}, ONNX" for width in (32, 128)), "torch_sparse, as the official code",
    *(f"PyG NeighborLoader, {n} workers" for n in range(3)),
}  # fmt: skip

# what torch says of its sparse matrices, once in a process
quiet_torch = pytest.mark.filterwarnings(
    "ignore:Sparse (invariant checks|CSR tensor support):UserWarning"
)


def molecules(name: str) -> GraphSet:
    """Twelve small graphs, of molecules as OGB has them for its name."""
    random, found = torch.Generator().manual_seed(0), []
    for number in range(12):
        nodes = int(torch.randint(2, 7, (1,), generator=random))
        edges = torch.randint(nodes, (2, 2 * nodes), generator=random)
        edges = to_undirected(edges[:, edges[0] != edges[1]], num_nodes=nodes)
        x = torch.randint(4, (nodes, 9), generator=random)
        x = x if name.startswith("ogbg") else one_hot(x[:, 0], 4).float()
        found.append(Data(x=x, edge_index=edges, y=torch.tensor([number % 3 // 2])))
    return GraphSet.from_list(found, name)


@pytest.fixture
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"arxiv": (300, 2000), "products": (300, 2000), "rmat": (256, 2000)}
    for name, size in small.items():
        monkeypatch.setitem(graphs.SIZES, name, size)

    def absent(name: str) -> None:
        raise BackendError(f"This case needs the data set {name}: not here.")

    # whatever other tests have read before
    monkeypatch.setattr(graphs, "_read", absent)
    monkeypatch.setattr(graphs, "_found", absent)
    monkeypatch.setattr(graphs, "HYPER", (200, 150))
    monkeypatch.setattr(graphs, "whole_graphs", molecules)


@pytest.fixture
def small(request: pytest.FixtureRequest, small_graphs: None) -> Entry:
    found = read(find(request.param))
    module = vars(sys.modules[f"benchmark_{request.param}"])
    module.update({name: value for name, value in SMALL.items() if name in module})
    return found


@quiet_torch
@pytest.mark.parametrize("small", NAMES, indirect=True)
def test_entries_at_a_small_size(small: Entry) -> None:
    quick, full = small.cases(True), small.cases(False)
    assert quick and len(full) >= len(quick)
    # of the cases that differ in their last parameter alone, the first
    firsts = {tuple(params.values())[:-1]: params for params in reversed(full)}
    # an entry of very many functions shows some of them
    for params in list(firsts.values())[:: 1 + len(firsts) // 25]:
        results = contest(small, params, rounds=1, warmup=0)
        ended = {name: (result.status, result.reason) for name, result in results.items()}
        if params.get("graph") in OF_FILES:
            assert {status for status, _ in ended.values()} == {"absent"}
            assert "needs the data set" in str(ended[small.baseline])
            continue
        present = {name for name, result in results.items() if result.status != "absent"}
        assert {name for name in present if ended[name] != ("ok", None)} == set(), (params, ended)
        assert set(results) - present <= MAY_BE_ABSENT and small.baseline in present
        moved = small.bytes_moved and small.bytes_moved(**params)
        assert moved is None or moved > 0


@quiet_torch
@pytest.mark.parametrize("small", NAMES, indirect=True)
def test_entries_find_out_what_is_a_little_off(small: Entry) -> None:
    """Contenders whose last output, the gradient of something, is 3 % too large."""

    def off(prepare: Any) -> Any:
        def ready(problem: Any) -> Prepared:
            made = prepare(problem)
            made = made if isinstance(made, Prepared) else Prepared(made)

            def scaled() -> tuple[torch.Tensor, ...]:
                *rest, last = (made.check or made.call)()
                return *rest, 1.03 * last

            return Prepared(made.call, scaled)

        return ready

    names = [name for name in small.contenders if name not in MAY_BE_ABSENT]
    wrong = replace(small, contenders={name: off(small.contenders[name]) for name in names})
    for params in small.cases(True):
        if params.get("graph") in OF_FILES:
            continue
        results = contest(wrong, params, rounds=1, warmup=0)
        assert {result.status for result in results.values()} == {"wrong"}, params


def test_entries_on_a_real_graph(local_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(graphs.SIZES, "arxiv", (300, 2000))
    if not (local_data / "snap").is_dir():
        pytest.skip("GRAPHKIT_DATA has no ego-facebook")
    chosen = (
        ("spmm", "ego-facebook"),
        ("softmax", "ego-facebook"),
        ("ncn", "cora"),
        ("rqgnn", "aids"),
    )
    for name, graph in chosen:
        made = read(find(name))
        params = next(case for case in made.cases(False) if graph in case.values())
        only = replace(made, entrants=lambda **case: ["graphkit"])
        assert contest(only, params, rounds=1, warmup=0)["graphkit"].status == "ok"
    assert graphs.counts("ego-facebook") == (176_468, 4039)


def test_no_case_is_posed_without_memory_for_it(
    small_graphs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spmm = read(find("spmm"))
    needs = sys.modules["benchmark_spmm"].GRAPH_MEMORY
    monkeypatch.setitem(needs, "products", 1e6)
    params = next(case for case in spmm.cases(False) if case["graph"] == "products")
    found = contest(spmm, params, rounds=1, warmup=0)["graphkit"]
    assert found.status == "absent" and found.reason is not None
    assert re.search(r"needs about 1000000 GB of memory, but \d+\.\d GB are free", found.reason)


# -- the graphs ------------------------------------------------------------------------------------


def test_the_graph_of_arxivs_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(graphs.SIZES, "arxiv", (3000, 20_000))
    edge_index, num_nodes = graphs.graph("arxiv")
    src, dst = edge_index.numpy()
    assert num_nodes == 3000 and graphs.counts("arxiv") == (20_000, 3000)
    in_degree, out_degree = _checked(src, dst, 3000, 20_000)
    # the tail of the in-degrees is the heavier one, and far from that of a uniform draw
    assert in_degree.max() > 2 * out_degree.max() > 60


def test_the_graph_of_rmat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(graphs.SIZES, "rmat", (2**12, 20_000))
    edge_index, num_nodes = graphs.graph("rmat")
    src, dst = edge_index.numpy()
    in_degree, out_degree = _checked(src, dst, num_nodes, 20_000)
    assert (in_degree == 0).mean() > 0.3
    # who receives much sends much
    assert np.corrcoef(in_degree, out_degree)[0, 1] > 0.8


def test_draws_of_rmat_have_its_probabilities() -> None:
    ends = graphs.rmat(np.random.default_rng(0), 2**10)(200_000)
    for end in ends:
        # a node's share of the ends is 0.76 for each zero of its number and 0.24 for each one
        degree = np.sort(np.bincount(end, minlength=2**10))[::-1]
        want = 200_000 * 0.76**10
        assert degree[0] == pytest.approx(want, rel=0.05)
        assert degree[1:11].mean() == pytest.approx(want * 0.24 / 0.76, rel=0.05)
    # an edge is a loop if it stays on the diagonal ten times
    assert (ends[0] == ends[1]).sum() == pytest.approx(200_000 * 0.62**10, rel=0.1)


def _checked(src: Any, dst: Any, num_nodes: int, num_edges: int) -> tuple[Any, Any]:
    """In- and out-degrees, after what holds for every graph that is drawn."""
    assert len(src) == len(dst) == num_edges
    assert min(src.min(), dst.min()) >= 0 and max(src.max(), dst.max()) < num_nodes
    assert (src != dst).all() and len(np.unique(src * num_nodes + dst)) == num_edges
    assert not (dst[1:] >= dst[:-1]).all()
    return tuple(np.bincount(ends, minlength=num_nodes) for ends in (dst, src))  # pyright: ignore
