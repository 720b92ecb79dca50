"""Memory of training on 1,000, 10,000 and all 41,127 graphs of ogbg-molhiv, batches of 512.

python -m benchmarks.graph_memory [--keep]; with it the figures go to results/graph_memory.jsonl

The model is that of the entry rqgnn, filters trained. Each figure has a process of its own, in
which the same has been trained before it is watched, and is the peak above what the process held:
``epoch_mb`` that of an epoch over all graphs, ``same_mb`` that of the two batches of the first
1,000 alone, whatever else is there. ``data_mb`` is what the graphs take, with their quotients.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.entry import find, read
from benchmarks.memory import child_environment, settled, watch
from graphkit.recipes.memory import MB, environment

DATA, GRAPHS_IN_BATCH, SIZES = "ogbg-molhiv", 512, (1000, 10000, 41127)
RESULTS = Path(__file__).parent / "results" / "graph_memory.jsonl"


def measured(count: int, trained: int) -> dict[str, Any]:
    """The figures of ``count`` graphs, of which the first ``trained`` are, in this process."""
    torch.set_num_threads(1)
    entry = read(find("rqgnn"))
    problem = entry.problem(data=DATA, filters="trained")
    graphs = problem.graphs[torch.arange(count)]
    order = torch.randperm(trained, generator=torch.Generator().manual_seed(0))
    batches = list(order.split(GRAPHS_IN_BATCH))
    problem = replace(problem, graphs=graphs, y=problem.y[:count], batches=batches)
    held = [*graphs.tensors.values()]
    size = sum(value.numel() * value.element_size() for value in held)
    size += count * graphs.num_features * torch.float32.itemsize
    call = entry.prepare("graphkit", problem).call
    call()
    found = watch(call, settled())
    largest = max(int(graphs.node_ptr.diff()[part].sum()) for part in batches)
    return {
        "graphs": count,
        "steps": len(batches),
        "most_nodes_of_a_batch": largest,
        "data_mb": round(size / MB, 1),
        "epoch_mb": found["call_mb"],
    }


def apart(*sizes: int) -> dict[str, Any]:
    """:func:`measured` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, sizes)],
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measured(*map(int, sys.argv[1:]))))
        return
    rows: list[dict[str, Any]] = []
    for count in SIZES:
        same = apart(count, SIZES[0])["epoch_mb"]
        rows.append({**apart(count, count), "same_mb": same})
    row = {"command": "python -m benchmarks.graph_memory --keep", "rows": rows}
    row["environment"] = environment(torch.device("cpu"))
    print(json.dumps(row, indent=2))
    if "--keep" in sys.argv:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
