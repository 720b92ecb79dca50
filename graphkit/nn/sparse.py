"""Features most of which are 0, such as bags of words: the first map of a model by the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.weak import WeakIdKeyDictionary

from ..graph import Graph
from ..ops import dropout, spmm
from .linear import is_built

# of so many numbers one at most may be other than 0: from there on the product over nonzeros is
# the faster one, three times at a tenth of this and six times at a hundredth
_FEW = 10


@dataclass(frozen=True)
class SparseRows:
    """``x [N, F]`` as what is not 0 in it: edges from columns to rows, and the value of each.

    ``source`` is the tensor that it was made of.
    """

    graph: Graph
    value: Tensor
    source: Tensor

    def dropped(self, p: float, training: bool) -> SparseRows:
        """With dropout; what is 0 stays so in any case."""
        return replace(self, value=dropout(self.value, p, training))


# what is known of tensors as long as they are there: their version, and their nonzeros if few
_known: Any = WeakIdKeyDictionary()


def sparse_rows(x: Tensor) -> SparseRows | None:
    """``x`` as :class:`SparseRows`, where a map of it is then faster; else None.

    For whole matrices on the CPU that are no function of a parameter, such as the features of a
    data set: each is looked through once, and again when it was changed. Not under autocast or
    ``torch.compile``.
    """
    if (
        torch.compiler.is_compiling()
        or type(x) is not Tensor
        or x.device.type != "cpu"
        or x.dim() != 2
        or x.dtype not in (torch.float32, torch.float64)
        or x.layout != torch.strided
        or x.requires_grad
        or x.is_inference()
        or torch.is_autocast_enabled("cpu")
        or torch._C._functorch.is_functorch_wrapped_tensor(x)  # pyright: ignore
    ):
        return None
    version, found = _known.get(x, (None, None))
    if version != x._version:
        found = _nonzeros(x)
        _known[x] = x._version, found
    return None if found is None else SparseRows(*found, x)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def _nonzeros(x: Tensor) -> tuple[Graph, Tensor] | None:
    if x.numel() < _FEW * int(torch.count_nonzero(x)):
        return None
    row, column = x.nonzero().unbind(1)
    ends = torch.stack([column, row])
    graph = Graph.from_edge_index(ends, num_src=x.size(1), num_dst=x.size(0))
    return graph, x[row, column]


def sparse_if_few(x: Any) -> Any:
    """``x`` as :class:`SparseRows` if that is worth it, else as it is."""
    return sparse_rows(x) or x


def apart(x: Any) -> tuple[SparseRows | None, Any]:
    """What a model made of its features, if they are sparse, and the features themselves."""
    return (x, x.source) if isinstance(x, SparseRows) else (None, x)


def times(x: Tensor | SparseRows, weight: Tensor) -> Tensor:
    """``x @ weight``, of sparse rows by as many rows of ``weight`` as there are nonzeros."""
    if isinstance(x, SparseRows) and x.value.dtype == weight.dtype:
        return spmm(x.graph, weight, x.value)
    # of another dtype: with torch's error
    return apart(x)[1] @ weight


def mapped(x: Tensor | SparseRows, lin: Any, bias: bool = True) -> Tensor:
    """``lin(x)`` of a linear layer, or without its bias."""
    if not isinstance(x, SparseRows) or not is_built(lin):
        dense = apart(x)[1]
        return lin(dense) if bias else linear(dense, lin.weight)
    out = times(x, lin.weight.t())
    return out if lin.bias is None or not bias else out + lin.bias


def dropped(x: Tensor | SparseRows, p: float, training: bool) -> Any:
    """``x`` with dropout, in the form that it has."""
    return dropout(x, p, training) if isinstance(x, Tensor) else x.dropped(p, training)
