"""How long importing takes, against torch alone: python benchmarks/imports.py [--keep]

Fresh processes, interleaved, medians; with --keep the figures go to results/imports.jsonl.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from graphkit.recipes.memory import environment

ROUNDS = 15
STATEMENTS = {
    "torch": "import torch",
    "graphkit": "import graphkit",
    "graphkit with ops and nn": "import graphkit, graphkit.ops, graphkit.nn",
}


def seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    ratios = {name: round(value / medians["torch"], 3) for name, value in medians.items()}
    row = {
        "command": "python benchmarks/imports.py --keep",
        "rounds": ROUNDS,
        "median_seconds": medians,
        "ratio_to_torch": ratios,
        "environment": environment(torch.device("cpu")),
    }
    print(json.dumps(row, indent=2))
    if "--keep" in sys.argv:
        path = Path(__file__).parent / "results" / "imports.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
