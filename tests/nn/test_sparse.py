"""Features most of which are 0: the same model, by what is not 0."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from graphkit import nn as gnn
from graphkit.nn import magnet, sparse
from graphkit.nn.sparse import SparseRows, dropped, mapped, sparse_rows


def words(rows: int = 40, columns: int = 60, dtype: torch.dtype = torch.float32) -> Tensor:
    """A bag of words; row 3 and column 5 are empty."""
    random = torch.Generator().manual_seed(0)
    x = (torch.rand(rows, columns, generator=random) < 0.05).to(dtype)
    x = x * torch.rand(rows, columns, generator=random).to(dtype)
    x[3], x[:, 5] = 0, 0
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_is_the_dense_one(dtype: torch.dtype) -> None:
    x, lin = words(dtype=dtype), torch.nn.Linear(60, 7, dtype=dtype)
    rows = sparse_rows(x)
    assert rows is not None and rows.graph.num_edges == int(torch.count_nonzero(x))
    got, want = mapped(rows, lin), mapped(x, lin)
    torch.testing.assert_close(got, want)
    dy = torch.randn_like(want)
    grads = [torch.autograd.grad(out, list(lin.parameters()), dy) for out in (got, want)]
    torch.testing.assert_close(*grads)


SPARSE = [
    *("acm-gcn", "acmii-gcn+", "acm-gcn++", "acmii-sgc", "gcn", "gat", "mlp"),
    *("dgcn", "digcn", "digcn-ib", "dir-gcn", "dir-sage", "magnet"),
    *("appnp", "dagnn", "gcnii"),
]


@pytest.mark.parametrize("name", SPARSE)
def test_models_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, edge_index = words(), torch.randint(40, (2, 150))
    model = gnn.build_model(name, 60, 8, 3, dropout=0.0)
    seen: list[SparseRows] = []
    real = sparse.times

    def times(x: Any, weight: Tensor) -> Tensor:
        if isinstance(x, SparseRows):
            seen.append(x)
        return real(x, weight)

    for module in (sparse, magnet):
        monkeypatch.setattr(module, "times", times)

    def run() -> list[Tensor]:
        out = model(x, edge_index)
        return [out, *torch.autograd.grad(out.square().sum(), list(model.parameters()))]

    got = run()
    count = len(seen)
    monkeypatch.setattr(sparse, "sparse_rows", lambda x: None)
    for a, b in zip(got, run(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert len(seen) == count > 0


def test_dropout_drops_what_is_there() -> None:
    x = words(400, 400)
    rows = sparse_rows(x)
    assert rows is not None
    assert dropped(rows, 0.5, False).value is rows.value
    torch.manual_seed(0)
    kept = dropped(rows, 0.25, True).value
    share = float((kept != 0).float().mean())
    assert abs(share - 0.75) < 0.03
    there = kept != 0
    torch.testing.assert_close(kept[there], rows.value[there] / 0.75)
    eye = torch.nn.Linear(400, 400, bias=False)
    with torch.no_grad():
        eye.weight.copy_(torch.eye(400))
    torch.manual_seed(0)
    dense = mapped(dropped(rows, 0.25, True), eye)
    assert set(dense.count_nonzero().view(1).tolist()) == {int(there.sum())}


def test_a_change_in_place_is_seen() -> None:
    x, lin = words(), torch.nn.Linear(60, 4)
    first = sparse_rows(x)
    again = sparse_rows(x)
    assert first is not None and again is not None and first.graph is again.graph
    x[3, 5] = 7.0
    changed = sparse_rows(x)
    assert changed is not None
    torch.testing.assert_close(mapped(changed, lin), lin(x))
    x += 1.0
    assert sparse_rows(x) is None


def test_nothing_is_kept_of_what_is_gone() -> None:
    before = len(sparse._known)
    x = words()
    assert sparse_rows(x) is not None and len(sparse._known) == before + 1
    del x
    gc.collect()
    assert len(sparse._known) == before


def test_what_is_no_constant_of_the_data_stays_dense() -> None:
    x = words()
    assert sparse_rows(torch.randn(40, 60)) is None
    assert sparse_rows(x.clone().requires_grad_()) is None
    assert sparse_rows(x.to("meta")) is None
    assert sparse_rows(x.half()) is None and sparse_rows(x.bfloat16()) is None
    assert sparse_rows(x[0]) is None
    with torch.inference_mode():
        assert sparse_rows(x * 1) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert sparse_rows(x) is None
    assert torch.func.vmap(lambda x: torch.tensor(sparse_rows(x) is None) | (x[0, 0] > 9))(
        x[None]
    ).all()


def test_nan_and_empty() -> None:
    x, lin = words(), torch.nn.Linear(60, 4)
    x[1, 2] = torch.nan
    rows = sparse_rows(x)
    assert rows is not None
    assert torch.equal(mapped(rows, lin).isnan(), lin(x).isnan())
    for empty in (torch.zeros(5, 8), torch.zeros(0, 8)):
        rows = sparse_rows(empty)
        lin = torch.nn.Linear(8, 3)
        assert rows is not None and torch.equal(mapped(rows, lin), lin(empty))


def test_another_dtype_than_the_weights_is_refused_as_ever() -> None:
    model = gnn.ACMGCN(60, 8, 3)
    with pytest.raises(RuntimeError, match="same dtype|expected"):
        model(words(dtype=torch.float64), torch.randint(40, (2, 90)))


def test_gradients_of_gradients() -> None:
    x = words(6, 20, torch.float64)
    x[0, 0] = 0.5
    model = gnn.ACMGCN(20, 4, 3, dropout=0.0).double()
    edge_index = torch.randint(6, (2, 12))
    parameters = list(model.parameters())

    def penalty(x: Tensor) -> list[Tensor]:
        loss = model(x, edge_index).square().sum()
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        total = torch.stack([g.square().sum() for g in first]).sum()
        return list(torch.autograd.grad(total, parameters, allow_unused=True))

    dense = x.clone().requires_grad_()
    for a, b in zip(penalty(x), penalty(dense), strict=True):
        if a is not None or b is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
