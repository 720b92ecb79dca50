"""Transforms of PyG's ``Data``: what is computed once for each graph. (opt: torch_geometric)"""

from __future__ import annotations

from typing import Any

from .errors import ConfigError, DataError, nearest, need
from .structure import rayleigh_quotient
from .structure.rayleigh import RAYLEIGH_MODES, RayleighMode

need("torch_geometric")

from torch_geometric.transforms import BaseTransform  # noqa: E402

__all__ = ["RayleighQuotient"]


class RayleighQuotient(BaseTransform):
    """Adds the Rayleigh quotient of each column of ``x``, as ``data.rq [1, F]``.

    A batch of such graphs has ``rq [B, F]``, which :class:`graphkit.nn.RQGNN` takes. A ``Batch``
    gets all rows at once. See :func:`graphkit.structure.rayleigh_quotient`.

    Args:
        mode: ``quotient``, or ``energy`` for the quadratic form alone.
        attr: name of the attribute.

    Raises :class:`ConfigError` for an unknown mode and :class:`DataError` for a graph without x.
    """

    def __init__(self, mode: RayleighMode = "quotient", attr: str = "rq") -> None:
        if mode not in RAYLEIGH_MODES:
            known = nearest(str(mode), RAYLEIGH_MODES)
            raise ConfigError(f"RayleighQuotient: unknown mode {mode!r}. {known}")
        self.mode: RayleighMode = mode
        self.attr = attr

    def forward(self, data: Any) -> Any:
        if getattr(data, "x", None) is None:
            raise DataError(
                "RayleighQuotient: the graph has no x. Put a transform that makes features first."
            )
        x = data.x if data.x.dim() > 1 else data.x.unsqueeze(1)
        ptr = getattr(data, "ptr", None)
        data[self.attr] = rayleigh_quotient(x, data.edge_index, mode=self.mode, ptr=ptr)
        return data

    def __repr__(self) -> str:
        return f"RayleighQuotient(mode={self.mode!r}, attr={self.attr!r})"
