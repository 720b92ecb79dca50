"""Transforms of PyG's Data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

import graphkit
from graphkit import ConfigError, DataError
from graphkit.structure import rayleigh_quotient
from graphkit.transforms import RayleighQuotient


def some_data() -> list[Data]:
    found = []
    for nodes in (4, 7, 1):
        edges = torch.randint(nodes, (2, 3 * nodes))
        x = torch.nn.functional.one_hot(torch.randint(3, (nodes,)), 3).float()
        found.append(Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1)))
    return found


@pytest.mark.parametrize("mode", ["quotient", "energy"])
def test_a_loader_has_a_row_for_each_graph(mode: Any) -> None:
    plain = some_data()
    want = torch.cat([rayleigh_quotient(d.x, d.edge_index, mode=mode) for d in plain])
    transform = Compose([RayleighQuotient(mode)])
    batch = next(iter(DataLoader([transform(d) for d in plain], batch_size=3)))
    torch.testing.assert_close(batch.rq, want)
    whole = RayleighQuotient(mode, attr="energy")(Batch.from_data_list(plain))
    torch.testing.assert_close(whole.energy, want)
    # PyG's transforms leave what they are given as it was
    assert "rq" not in plain[0]


def test_one_column_may_be_a_vector() -> None:
    (data, *_) = some_data()
    want = rayleigh_quotient(data.x[:, :1], data.edge_index)
    data.x = data.x[:, 0]
    torch.testing.assert_close(RayleighQuotient()(data).rq, want)


def test_words_and_errors() -> None:
    assert graphkit.transforms.RayleighQuotient is RayleighQuotient
    assert repr(RayleighQuotient("energy")) == "RayleighQuotient(mode='energy', attr='rq')"
    with pytest.raises(ConfigError, match="unknown mode 'energi'. Did you mean 'energy'"):
        RayleighQuotient("energi")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="the graph has no x"):
        RayleighQuotient()(Data(edge_index=torch.tensor([[0], [1]])))
