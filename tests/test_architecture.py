"""The three laws: imports go down, none hides in a function, and the core needs torch alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "graphkit"
# bottom to top; rooms of one level never import each other, errors may be imported by all
LEVELS = (
    ("errors",),
    ("graph", "metrics"),
    ("ops",),
    ("scatter",),
    ("structure", "interop", "store"),
    ("testing", "checkpoint"),
    ("nn", "data", "transforms"),
    ("recipes",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# inside a folder a file imports only those before it; __init__ stands above all
ORDER = {
    "ops": (
        "check",
        "loops",
        "components",
        "random",
        "spmm",
        "extreme",
        "sddmm",
        "segment",
        "scatter",
        "attention",
        "intersect",
        "dropout",
        "mix",
        "rows",
        "sample_plan",
        "sample_reference",
        "sample",
        "negatives",
        "walk",
        "cpu",
        "triton",
    ),
    "ops/triton": (
        "rows",
        "ranges",
        "csr",
        "spmm",
        "extreme",
        "dropout",
        "sddmm",
        "segment",
        "scatter",
        "attention",
        "intersect",
    ),
    "ops/cpu": (
        "native",
        "csr",
        "spmm",
        "extreme",
        "sddmm",
        "segment",
        "scatter",
        "attention",
        "intersect",
        "dropout",
        "mix",
        "rows",
        "sample",
        "negatives",
        "walk",
    ),
    "scatter": ("check", "reduce", "segment", "composite"),
    "structure": (
        "normalize",
        "directed",
        "heuristics",
        "sketches",
        "partition",
        "homophily",
        "smoothness",
        "rayleigh",
        "subgraph",
        "hypergraph",
        "hyper_sample",
    ),
    "nn": (
        "linear",
        "inputs",
        "sparse",
        "mlp",
        "losses",
        "distill",
        "spectral",
        "decoders",
        "gcn",
        "sage",
        "vq",
        "gin",
        "ocgin",
        "gat",
        "acm",
        "directed",
        "magnet",
        "digcn",
        "hetero",
        "propagate",
        "pooling",
        "rqgnn",
        "ncn_encoder",
        "ncn_sets",
        "ncn",
        "gcn2",
        "gen",
        "decoupled",
        "buddy",
        "deep",
        "models",
        "hypergraph",
        "hyperset",
        "hypermodels",
    ),
    "data": (
        "cards",
        "raw",
        "readers",
        "graphs",
        "splits",
        "features",
        "hard_negatives",
        "links",
        "check",
        "check_kinds",
        "assemble",
        "synthetic",
        "evaluate",
        "archive",
        "progress",
        "web",
        "download",
        "obtain",
        "columns",
        "targets",
        "arrays",
        "tables",
        "hyper_json",
        "hyper_tables",
        "describe",
        "load",
        "chunked",
        "contents",
        "write",
        "sources",
        "batch",
        "buffers",
        "stages",
        "pack",
        "host",
        "pyg_store",
        "ahead",
        "pyg",
        "subgraphs",
    ),
    "data/readers": (
        "classic",
        "hetero",
        "hypergraph",
        "matlab",
        "links",
        "moleculenet",
        "ogb",
        "ogb_hetero",
        "ogb_npz",
        "pairs",
        "npz",
        "tables",
        "temporal",
        "tudataset",
    ),
    "interop": (
        "explain",
        "attributed",
        "sparse",
        "edges",
        "data",
        "hetero",
        "networks",
        "tables",
        "dgl_graphs",
        "pyg_functions",
    ),
    "store": (
        "files",
        "sealed",
        "layout",
        "build",
        "topology",
        "reader",
        "engines",
        "direct",
        "journal",
        "packs",
        "packed",
        "demand",
        "plan",
        "samples",
        "packing",
    ),
    "recipes": (
        "loop",
        "task",
        "memory",
        "report",
        "steady",
        "plots",
        "homophily",
        "hyper_plots",
        "linknet",
        "graphnet",
        "options",
        "leaderboard",
        "staged",
        "runs",
        "node",
        "hyper",
        "layerwise",
        "node_mini",
        "pack_store",
        "links",
        "link_plots",
        "link_mini",
        "link",
        "direction",
        "graph_plots",
        "graph_scores",
        "graph",
        "energy",
        "pairs",
        "teaching",
        "predictions",
        "lesson",
        "distill_plots",
        "distill",
        "student",
        "predict",
        "latency",
        "export",
        "mixing",
        "acm_settings",
        "distill_settings",
        "link_settings",
        "rqgnn_settings",
        "hyper_settings",
        "presets",
        "reproduce",
        "space",
        "study",
        "study_plots",
        "tune",
        "compare",
        "sweep",
    ),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


def imported(path: Path, node: ast.AST) -> list[tuple[str, ...]]:
    """Modules of this package that an import statement names, as paths below it."""
    here = name_of(path)
    if isinstance(node, ast.Import):
        names = [alias.name.split(".") for alias in node.names]
        return [tuple(name[1:]) for name in names if name[0] == "graphkit" and name[1:]]
    assert isinstance(node, ast.ImportFrom)
    module = tuple((node.module or "").split(".")) if node.module else ()
    if node.level == 0:
        if not module or module[0] != "graphkit":
            return []
        base = module[1:]
    else:
        base = (*here[: len(here) - node.level], *module)
    if not base or (len(base) == 1 and (PACKAGE / base[0] / f"{node.names[0].name}.py").exists()):
        return [(*base, alias.name) for alias in node.names]
    return [base]


def imports(path: Path) -> list[tuple[ast.stmt, bool]]:
    """Import statements and whether they hide in a function; type-only ones excepted."""
    found: list[tuple[ast.stmt, bool]] = []

    def walk(node: ast.AST, hidden: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append((node, hidden))
        inside = hidden or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    walk(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: "/".join(name_of(p)))
def test_imports_go_down(path: Path) -> None:
    here = name_of(path)
    if here == ("__init__",):
        return
    for node, _ in imports(path):
        for target in imported(path, node):
            room = target[0]
            if room == "errors" or (room == "__version__" and here[0] in ("recipes", "cli")):
                continue
            assert room in LEVEL, f"line {node.lineno}: {room} has no level, give it one here"
            if room != here[0]:
                # testing reaches interop, and the command line reaches everything
                assert LEVEL[room] < LEVEL[here[0]], f"line {node.lineno}: {here} imports {target}"
            elif here[-1] != "__init__" and len(target) > 1:
                # down to where the two paths part
                depth = 1 + (len(here) > 2 and target[1] == here[1])
                if len(target) <= depth or here[depth] == "__init__":
                    continue
                order = ORDER["/".join(here[:depth])]
                assert order.index(target[depth]) < order.index(here[depth]), (
                    f"line {node.lineno}: {here} imports its later sibling {target}"
                )


@pytest.mark.parametrize("path", FILES, ids=lambda p: "/".join(name_of(p)))
def test_imports_inside_functions_are_optional_packages(path: Path) -> None:
    optional = "(opt:" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    for node, hidden in imports(path):
        if not hidden:
            continue
        own = imported(path, node)
        assert optional, f"line {node.lineno}: an import hides in a function of {path.name}"
        lazy = name_of(path)[0] in ("cli", "testing", "__init__")
        assert not own or lazy, f"line {node.lineno}: {path.name} hides an import of {own}"


def test_every_file_has_a_place() -> None:
    for path in FILES:
        here = name_of(path)
        if here == ("__init__",):
            continue
        assert here[0] in LEVEL, f"{here[0]} has no level"
        for depth in range(1, len(here)):
            if here[depth] != "__init__":
                assert here[depth] in ORDER["/".join(here[:depth])], f"{here} is not in ORDER"


CORE = "import graphkit, graphkit.ops, graphkit.nn, graphkit.structure, graphkit.graph"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_core_imports_with_torch_alone() -> None:
    """Every module that torch itself does not load is either ours or the standard library's; and
    graphkit alone brings nothing heavy along."""
    code = (
        "import sys, torch, torch.library; before = set(sys.modules)\n"
        "import graphkit\n"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))\n"
        f"{CORE}\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names) - {'graphkit', 'torch'}))"
    )
    alone, core = run_python(code).split("\n")[:2]
    heavy = {"torch_geometric", "triton", "ogb", "networkx", "matplotlib", "sklearn", "rich"}
    assert "graphkit" in alone.split() and heavy.isdisjoint(alone.split())
    assert core == ""


def test_the_core_runs_when_nothing_else_is_installed() -> None:
    """None in sys.modules is how Python spells a package that cannot be imported."""
    code = (
        "import sys, torch\n"
        "for name in ('torch_geometric', 'ogb', 'scipy', 'sklearn', 'matplotlib', 'rich',"
        " 'jsonargparse', 'safetensors', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        f"{CORE}\n"
        "e = torch.tensor([[0, 1], [1, 0]])\n"
        "print(tuple(graphkit.nn.GATConv(3, 2)(torch.ones(2, 3), e).shape))"
    )
    assert run_python(code).strip() == "(2, 2)"


def test_the_core_names_no_package_but_torch() -> None:
    """By reading, because torch loads some packages (numpy, networkx) where they are present."""
    core = {"errors", "graph", "metrics", "ops", "scatter", "structure", "nn", "__init__"}
    for path in FILES:
        # nothing imports those before they are asked for
        if name_of(path)[0] not in core or name_of(path)[:2] == ("ops", "triton"):
            continue
        # what a function imports on use is another law's
        for node, hidden in imports(path):
            if hidden:
                continue
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [] if node.level else [node.module or ""]
            foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
            assert foreign <= {"torch"}, f"{path}:{node.lineno} imports {foreign}"


def test_nothing_is_unpickled_or_evaluated() -> None:
    """Only raw.py may touch pickle, through its allow-list."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "pickle.load", "pickle.loads", "torch.load"}, path
            for keyword in node.keywords:
                allowed = keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False"
                assert allowed, f"{path}:{node.lineno} allows pickles"
