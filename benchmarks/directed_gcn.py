"""GCN on directed Cora-ML and CiteSeer: by direction of the edges, with and without self-loops.

python benchmarks/directed_gcn.py --data cora-ml --seeds 0-19

DiGCN's paper gives GCN 53.11 and 54.36, far below what GCN of today's PyG reaches. A message here
goes from the citing paper to the cited one; the other readings of the same file are trained beside
it by the same rules on the same splits, to see which of them the published figure fits.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import to_undirected

from graphkit import Graph
from graphkit.data import load
from graphkit.nn import GCNConv, build_model
from graphkit.recipes.loop import Training
from graphkit.recipes.memory import environment
from graphkit.recipes.node import problem, read_nodes
from graphkit.recipes.presets import PRESETS
from graphkit.recipes.report import parse_seeds
from graphkit.recipes.task import task_of

RESULTS = Path(__file__).parent / "results" / "directed_gcn.jsonl"
READINGS = ("as is", "turned", "both ways")
# what the preset leaves at its default
USUAL = {"lr": 0.01, "weight_decay": 5e-4, "select": "score", "hidden": 64, "dropout": 0.5}
RULES = ("epochs", "patience", "stop", "lr", "weight_decay", "select")


def read(edge_index: Tensor, reading: str) -> Tensor:
    """The edges of one reading of ``edge_index``, from source to destination."""
    if reading == "both ways":
        return to_undirected(edge_index)
    return edge_index.flip(0) if reading == "turned" else edge_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cora-ml", choices=("cora-ml", "citeseer"))
    parser.add_argument("--seeds", default="0-19")
    options = parser.parse_args()
    values = {**USUAL, **PRESETS[f"gcn-{options.data}-directed"].values}
    rules = {name: values[name] for name in RULES}
    found: Any = load(values["data"], num_splits=values["num_splits"])
    nodes = read_nodes(found, torch.device("cpu"), False, values["row_normalize"])
    task = task_of(nodes.y, None)
    widths = nodes.x.size(1), values["hidden"], task.width
    made = {"command": f"python benchmarks/directed_gcn.py --data {options.data}"}
    made["environment"] = environment(torch.device("cpu"))
    for reading, loops in itertools.product(READINGS, (True, False)):
        edges = read(found.edge_index, reading)
        graph = Graph.from_edge_index(edges, num_nodes=len(nodes.x))
        lonely = float((graph.in_degree() == 0).float().mean())
        scores = []
        for seed in parse_seeds(options.seeds):
            torch.manual_seed(seed)
            model = build_model("gcn", *widths, num_layers=2, dropout=0.5, drop_input=False)
            for conv in model.modules():
                if isinstance(conv, GCNConv):
                    conv.add_self_loops = loops
            what = problem(model, seed, nodes=replace(nodes, graph=graph), task=task, amp=None)
            training = Training(model, **rules)
            for _ in training.run(what):
                pass
            training.finish()
            scores.append(100 * what.test())
        row = {"data": values["data"], "edges": reading, "self_loops": loops, "test": scores}
        row |= {"mean": mean(scores), "std": stdev(scores), "without in-edges": lonely}
        print(json.dumps(row))
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**made, **row}, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
