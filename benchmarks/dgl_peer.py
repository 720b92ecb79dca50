"""Runs one of DGL's operations when told to; a process of its own, which imports nothing of ours.

python dgl_peer.py FOLDER TASK THREADS: FOLDER holds the arrays, TASK says in JSON what to do with
them. Prints one line of JSON when it is ready and one for each word it reads: ``run`` makes a call
and tells its seconds, ``check`` makes one and saves its results in FOLDER.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bandwidth
import dgl  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from torch import Tensor

Work = tuple[list[Tensor], Callable[..., Tensor]]


def read(folder: Path, name: str) -> Tensor:
    """The array ``name`` of the problem."""
    return torch.from_numpy(np.load(folder / f"{name}.npy", allow_pickle=False))


def has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.npy").exists()


def graph_of(folder: Path, task: Mapping[str, Any]) -> Any:
    src, dst = read(folder, "edge_index")
    graph = dgl.graph((src, dst), num_nodes=task["num_nodes"], idtype=torch.int32)
    # all formats now: each would otherwise be made in the first call that needs it
    graph.create_formats_()
    return graph


def spmm(folder: Path, task: Mapping[str, Any]) -> Work:
    graph, reduce = graph_of(folder, task), task["reduce"]
    if not has(folder, "w"):
        function = getattr(dgl.ops, f"copy_u_{reduce}")
        return [read(folder, "x")], lambda x: function(graph, x)
    function, w = getattr(dgl.ops, f"u_mul_e_{reduce}"), read(folder, "w").unsqueeze(1)
    return [read(folder, "x")], lambda x: function(graph, x, w)


def attention(folder: Path, task: Mapping[str, Any]) -> Work:
    graph = graph_of(folder, task)
    slope = task["negative_slope"]

    def attend(h: Tensor, src: Tensor, dst: Tensor) -> Tensor:
        score = torch.nn.functional.leaky_relu(dgl.ops.u_add_v(graph, src, dst), slope)
        alpha = dgl.ops.edge_softmax(graph, score)
        return dgl.ops.u_mul_e_sum(graph, h, alpha.unsqueeze(-1))

    return [read(folder, name) for name in ("h", "src", "dst")], attend


def sample(folder: Path, task: Mapping[str, Any]) -> Work:
    """The number of edges that each seed has got, after all batches were sampled."""
    src, dst = read(folder, "edge_index")
    graph = dgl.graph((src, dst), num_nodes=task["num_nodes"], idtype=torch.int64).formats("csc")
    # its first fan-out is that of the first layer, which is the last hop
    sampler = dgl.dataloading.NeighborSampler(task["fanout"][::-1])

    def sampled(seeds: Tensor) -> Tensor:
        found = [sampler.sample_blocks(graph, part)[2] for part in seeds.split(task["batch"])]
        return torch.cat([blocks[-1].in_degrees() for blocks in found])

    return [read(folder, "seeds")], sampled


def graphbolt(folder: Path, task: Mapping[str, Any]) -> Work:
    """As ``sample``, by the sampler and the loader of GraphBolt."""
    bolt = importlib.import_module("dgl.graphbolt")
    src, dst = read(folder, "edge_index")
    whole = dgl.graph((src, dst), num_nodes=task["num_nodes"], idtype=torch.int64)
    graph = bolt.from_dglgraph(whole, is_homogeneous=True)
    items = bolt.ItemSet(read(folder, "seeds"), names="seed_nodes")
    pipe = bolt.ItemSampler(items, batch_size=task["batch"])
    pipe = pipe.sample_neighbor(graph, task["fanout"][::-1])
    loader = bolt.DataLoader(pipe)

    def sampled() -> Tensor:
        blocks = [batch.sampled_subgraphs[-1].sampled_csc.indptr for batch in loader]
        return torch.cat([indptr.diff() for indptr in blocks])

    return [], sampled


def edges(op: str, folder: Path, task: Mapping[str, Any]) -> dict[str, int]:
    """How many edges all batches have, for what samples."""
    if op not in ("sample", "graphbolt"):
        return {}
    src, dst = read(folder, "edge_index")
    graph = dgl.graph((src, dst), num_nodes=task["num_nodes"], idtype=torch.int64).formats("csc")
    sampler = dgl.dataloading.NeighborSampler(task["fanout"][::-1])
    parts = read(folder, "seeds").split(task["batch"])
    blocks = [block for part in parts for block in sampler.sample_blocks(graph, part)[2]]
    return {"edges": int(sum(int(block.in_degrees().sum()) for block in blocks))}


def call(function: Callable[..., Tensor], inputs: list[Tensor], dy: Tensor | None) -> list[Tensor]:
    if dy is None:
        with torch.no_grad():
            return [function(*inputs)]
    leaves = [value.detach().requires_grad_() for value in inputs]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, dy)]


def main() -> None:
    folder, task = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]))
    # what libraries print must not come between the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    operations = {"spmm": spmm, "attention": attention, "sample": sample, "graphbolt": graphbolt}
    inputs, function = operations[task["op"]](folder, task)
    dy = read(folder, "dy") if has(folder, "dy") else None
    versions = {"dgl": dgl.__version__, "torch": torch.__version__}
    counts = edges(task["op"], folder, task)
    answer(**versions, **counts, threads=torch.get_num_threads(), **bandwidth.bandwidth())
    for line in sys.stdin:
        began = time.perf_counter()
        out = call(function, inputs, dy)
        took = time.perf_counter() - began
        if line.strip() == "check":
            for at, value in enumerate(out):
                # an infinity is its maximum of no edges, where everybody else has 0
                value = torch.nan_to_num(value, nan=torch.nan, posinf=0, neginf=0)
                np.save(folder / f"out_{at}.npy", value.numpy(), allow_pickle=False)
        answer(seconds=took, outputs=len(out))
        # freed before the next call, not during it
        del out


if __name__ == "__main__":
    main()
