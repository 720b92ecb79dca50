"""Loading a data set from the processed form: graphkit's own against PyG's own, in turn.

python benchmarks/loading.py            Coauthor Physics, CS and Cora; needs GRAPHKIT_DATA

Both read what they wrote themselves before, from the page cache, checksums included; every round
loads each once. graphkit maps x from the file, so a second figure adds one pass over it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch_geometric.datasets import Coauthor, Planetoid

from graphkit.data import data_root, load
from graphkit.recipes.memory import environment

RESULTS = Path(__file__).parent / "results" / "loading.jsonl"
SETS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "coauthor-physics": ("Coauthor", lambda root: Coauthor(f"{root}/Coauthor", "Physics")[0]),
    "coauthor-cs": ("Coauthor", lambda root: Coauthor(f"{root}/Coauthor", "CS")[0]),
    "cora": ("Planetoid", lambda root: Planetoid(f"{root}/Planetoid", "Cora")[0]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(SETS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        os.environ["XDG_CACHE_HOME"] = f"{root}/cache"
        for name in options.names:
            folder, theirs = SETS[name]
            if not (Path(root) / folder).exists():
                shutil.copytree(data_root() / folder, Path(root) / folder)
            row = measure(name, root, theirs, options.rounds)
            print(json.dumps({key: row[key] for key in row if key != "environment"}))
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, sort_keys=True) + "\n")


def measure(name: str, root: str, theirs: Callable[[str], Any], rounds: int) -> dict[str, Any]:
    """Median seconds of each, after a check that both give the same."""
    contenders: dict[str, Callable[[], Any]] = {
        "graphkit": lambda: load(name, root),
        "graphkit + a pass over x": lambda: load(name, root).x.sum(),
        "pyg": lambda: theirs(root),
        "pyg + a pass over x": lambda: theirs(root).x.sum(),
    }
    ours, pygs = load(name, root), theirs(root)
    assert torch.equal(ours.x, pygs.x) and torch.equal(ours.edge_index, pygs.edge_index)
    del ours, pygs
    seconds: dict[str, list[float]] = {key: [] for key in contenders}
    for number in range(rounds + 1):
        for key, call in contenders.items():
            began = time.perf_counter()
            call()
            if number:
                seconds[key].append(time.perf_counter() - began)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    return {
        "command": f"python benchmarks/loading.py {name}",
        "data": name,
        "rounds": rounds,
        "seconds": {key: round(value, 4) for key, value in median.items()},
        "ratio": round(median["graphkit"] / median["pyg"], 3),
        "load": os.getloadavg()[0],
        "environment": environment(torch.device("cpu")),
    }


if __name__ == "__main__":
    main()
