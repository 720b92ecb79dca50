"""ACM-GCN beside a dense computation of its formulas, from equal weights and dropout masks.

python benchmarks/acm_dense.py --data chameleon --seeds 0-9

Whether a published figure is missed because of our code or because of its settings: both models
start from equal weights, draw equal dropout masks and are trained by the same rules. As long as
rounding lets them, their validation losses agree; the accuracies at the end are both printed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from graphkit.data import load
from graphkit.nn import ACMGCN
from graphkit.ops import dropout
from graphkit.recipes.loop import Training
from graphkit.recipes.memory import environment
from graphkit.recipes.node import problem, read_nodes
from graphkit.recipes.presets import PRESETS
from graphkit.recipes.report import parse_seeds
from graphkit.recipes.task import task_of

RESULTS = Path(__file__).parent / "results" / "acm_dense.jsonl"


class DenseACM(nn.Module):
    """Two layers with the filters as dense matrices, every channel a product of its own."""

    def __init__(self, ours: ACMGCN, edge_index: Tensor, num_nodes: int) -> None:
        super().__init__()
        adjacency = torch.eye(num_nodes, dtype=torch.float64)
        one = torch.ones((), dtype=torch.float64)
        adjacency.index_put_((edge_index[1], edge_index[0]), one, accumulate=True)
        self.low = adjacency / adjacency.sum(dim=1, keepdim=True)
        self.high = torch.eye(num_nodes) - self.low
        self.dropout = ours.dropout
        self.weights = nn.ParameterList()
        for conv in ours.convs:
            channels = conv.lin.weight.detach().chunk(3)
            self.weights.extend(w.t().clone() for w in channels)
            self.weights.extend(conv.att.detach().clone().unsqueeze(2).unbind(0))
            self.weights.append(conv.mix.detach().clone())

    def forward(self, x: Tensor, graph: object) -> Tensor:
        for layer in (0, 1):
            w = self.weights[7 * layer : 7 * layer + 7]
            x = dropout(x, self.dropout, self.training)
            low, high, own = self.low @ (x @ w[0]), self.high @ (x @ w[1]), x @ w[2]
            low, high, own = low.relu(), high.relu(), own.relu()
            scores = torch.cat([low @ w[3], high @ w[4], own @ w[5]], dim=1).sigmoid()
            a = torch.softmax(scores @ w[6] / 3, dim=1)
            x = 3 * (a[:, :1] * low + a[:, 1:2] * high + a[:, 2:] * own)
        return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="chameleon", choices=("texas", "wisconsin", "chameleon"))
    parser.add_argument("--seeds", default="0-9")
    options = parser.parse_args()
    values = PRESETS[f"acm-{options.data}"].values
    nodes = read_nodes(load(options.data), torch.device("cpu"), True, True)
    # in float64: Adam turns the sign of a rounding error into a whole step
    nodes = replace(nodes, x=nodes.x.double())
    task = task_of(nodes.y, None)
    rules = {name: values[name] for name in ("epochs", "patience", "lr", "weight_decay", "select")}
    made = {"command": f"python benchmarks/acm_dense.py --data {options.data}"}
    made["environment"] = environment(torch.device("cpu"))
    for seed in parse_seeds(options.seeds):
        torch.manual_seed(seed)
        ours = ACMGCN(nodes.x.size(1), 64, task.width, dropout=values["dropout"]).double()
        # else it draws for what is not 0 among the features alone
        ours.takes_sparse = False
        dense = DenseACM(ours, nodes.graph.edge_index(), nodes.x.size(0))
        row: dict = {"data": options.data, "seed": seed}
        losses = {}
        for name, model in (("ours", ours), ("dense", dense)):
            torch.manual_seed(1000 + seed)
            training = Training(model, **rules)
            what = problem(model, seed, nodes=nodes, task=task, amp=None)
            losses[name] = [epoch.val_loss for epoch in training.run(what)]
            best = training.finish()
            row[name] = {"test": what.test(), "epoch": best.epoch}
        pairs = zip(losses["ours"], losses["dense"], strict=False)
        apart = [abs(a - b) / b for a, b in pairs]
        row["gap"] = {str(epoch): max(apart[:epoch]) for epoch in (1, 10, 50)}
        print(json.dumps(row))
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**made, **row}, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
