"""Features most of which are 0, such as bags of words: the first map of a model by the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from ..graph import Graph
from ..ops import dropout, spmm

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

    def mapped(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x @ weight.t() + bias``, by as many rows of ``weight.t()`` as there are edges."""
        out = spmm(self.graph, weight.t(), self.value)
        return out if bias is None else out + bias


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


def mapped(x: Tensor | SparseRows, lin: nn.Linear) -> Tensor:
    """``lin(x)``."""
    if isinstance(x, Tensor):
        return lin(x)
    if x.value.dtype != lin.weight.dtype:
        # with torch's error
        return lin(x.source)
    return x.mapped(lin.weight, lin.bias)


def dropped(x: Tensor | SparseRows, p: float, training: bool) -> Any:
    """``x`` with dropout, in the form that it has."""
    return dropout(x, p, training) if isinstance(x, Tensor) else x.dropped(p, training)
