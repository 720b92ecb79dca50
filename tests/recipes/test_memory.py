from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphkit.errors import BackendError, ConfigError
from graphkit.graph import Graph
from graphkit.recipes import memory

ROOT = Path(__file__).parents[2]
NODES, FEATURES, HIDDEN, CLASSES = 1000, 32, 64, 10


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return self.last(torch.relu(self.first(x)))


class Unpredictable(TwoLayers):
    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        rows = x.sum(dim=1).nonzero().squeeze(1)
        return super().forward(x[rows], graph)


Inputs = tuple[Tensor, Graph, Tensor, Tensor]


@pytest.fixture
def inputs() -> Inputs:
    graph = Graph.from_edge_index(torch.randint(0, NODES, (2, 4000)), NODES)
    x, y = torch.randn(NODES, FEATURES), torch.randint(0, CLASSES, (NODES,))
    return x, graph, y, torch.arange(NODES)


def test_prediction_counts_what_a_step_keeps(inputs: Inputs) -> None:
    model = TwoLayers()
    predicted = memory.predict(model, *inputs)
    assert predicted is not None
    weights = 4 * sum(p.numel() for p in model.parameters())
    # the hidden layer before and after relu (one buffer where relu is in place), and the logits
    kept = 4 * NODES * (HIDDEN + CLASSES)
    assert kept + 4 * weights <= predicted.step <= 5 * kept + 5 * weights
    assert str(predicted).endswith(" MB)") and "(process " in str(predicted)


def test_prediction_leaves_the_model_alone(inputs: Inputs) -> None:
    model = TwoLayers().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    memory.predict(model, *inputs)
    assert not model.training
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_prediction_grows_with_the_model(inputs: Inputs) -> None:
    small, large = TwoLayers(), TwoLayers()
    large.first, large.last = nn.Linear(FEATURES, 8 * HIDDEN), nn.Linear(8 * HIDDEN, CLASSES)
    steps = [memory.predict(model, *inputs) for model in (small, large)]
    assert steps[0] and steps[1] and 4 < steps[1].step / steps[0].step < 9


def test_an_op_without_shapes_is_no_prediction(inputs: Inputs) -> None:
    assert memory.predict(Unpredictable(), *inputs) is None


MEASURE = """
import sys, torch
from graphkit.graph import Graph
from graphkit.nn import build_model
from graphkit.recipes import memory
from graphkit.recipes.loop import Training
from graphkit.recipes.node import Nodes
from graphkit.recipes.node import problem as node_problem
from graphkit.recipes.task import task_of

def train(nodes):
    graph = Graph.from_edge_index(torch.randint(0, nodes, (2, 8 * nodes)), nodes)
    x, y = torch.randn(nodes, 128), torch.randint(0, 10, (nodes,))
    half = torch.arange(nodes) < nodes // 2
    inputs = Nodes(x, graph, y, {"train": half, "val": half, "test": half})
    model = build_model(sys.argv[1], 128, 256, 10)
    predicted = memory.predict(model, x, graph, y, half.nonzero().squeeze(1))
    training = Training(model, epochs=2, patience=0, lr=0.01, weight_decay=0.0)
    list(training.run(node_problem(model, 0, nodes=inputs, task=task_of(y, None, 10), amp=None)))
    return predicted

with memory.threads(0):
    # the first step ever loads code, which is no tensor
    train(10)
    predicted = train(40_000)
print((memory.peak(torch.device("cpu")) - predicted.held) / predicted.step)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of a process is not known here")
def test_prediction_is_within_a_factor_of_two_of_the_growth() -> None:
    """In a process of its own, whose peak is that of training."""
    line = [sys.executable, "-c", MEASURE, "gcn"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert 0.5 < float(done.stdout) < 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_not_that_of_the_parent_process() -> None:
    """A child of a large process starts with ru_maxrss at the size of its parent."""
    code = (
        "import resource, torch; from graphkit.recipes import memory; "
        "print(memory.peak(torch.device('cpu')), resource.getrusage(0).ru_maxrss * 1024)"
    )
    parent = "import subprocess, sys; b = bytearray(2 * 10**9); b[::4096] = b'x' * len(b[::4096])\n"
    parent += f"subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    line = [sys.executable, "-c", parent]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) < 1.5 * 10**9


def test_seeded_starts_from_the_seed_and_restores() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), torch.rand(1).item()

    cpu = torch.device("cpu")
    with memory.seeded(7, cpu):
        first = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    undisturbed = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with memory.seeded(7, cpu):
        assert draw() == first
    assert draw() == undisturbed


def test_threads_are_few_for_little_work_and_restored() -> None:
    before = torch.get_num_threads()
    with memory.threads(1000):
        assert torch.get_num_threads() == 1
    with memory.threads(10**15):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_find_device() -> None:
    assert memory.find_device("cpu") == torch.device("cpu")
    assert memory.find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="Unknown device 'gpu'. Did you mean 'cpu'"):
        memory.find_device("gpu")
    with pytest.raises(ConfigError, match="Unknown device 'cuda:x'"):
        memory.find_device("cuda:x")
    with pytest.raises(BackendError, match="'cuda:99' is not there.*Use device auto or cpu"):
        memory.find_device("cuda:99")


def test_environment_says_what_ran_where() -> None:
    found = memory.environment(torch.device("cpu"))
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu" and found["cpu"]
    json.dumps(found)
