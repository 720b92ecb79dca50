"""OCGIN: anomalies among graphs by their distance to what is normal, learnt from that alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import ConfigError, GraphError
from ..graph import Adj, batch_offsets, has_values
from ..ops import segment_reduce
from .gin import GINConv
from .inputs import read_input
from .linear import batch_normed, reset
from .spectral import check_terms, check_widths


class OCGIN(nn.Module):
    r"""One class of graphs inside a hypersphere, `On using classification datasets to evaluate
    graph outlier detection <https://arxiv.org/abs/2012.12931>`_.

    .. math::
        d_G = \| z_G - c \|^2, \qquad z_G = \big\Vert_{l=1}^{L} \sum_{i \in G} h_i^{(l)}

    with the layers :math:`h^{(l)}` of a :class:`GINConv` network. :math:`d_G` is the score, larger
    for anomalies, and what :class:`DeepSVDDLoss` makes small on graphs of training; the centre c is
    set once, by :meth:`fit_centre`, from the vectors before training.

    Args:
        in_channels: Features of each node.
        hidden_channels: Width of each layer.
        num_layers: Number of layers, L.
        batch_norm: Normalise between the two maps of each layer and behind them, without learnt
            scales and shifts.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``batch [N]`` or ``ptr [B + 1]`` (one
    graph if neither is given), ``num_graphs`` where the last ones of ``batch`` may have no nodes;
    returns distances ``[B]``. :meth:`embed` returns ``z [B, num_layers * hidden]``.

    Nothing has a bias: with one the network could map every graph to c, whatever it is given, as
    Deep SVDD shows. For the same reason entries of c near 0 are moved to 0.1 of the mean length.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 64,
        num_layers: int = 4,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_widths("OCGIN", in_channels, hidden_channels)
        check_terms("OCGIN", "num_layers", num_layers)
        self.in_channels = in_channels
        self.out_channels = num_layers * hidden_channels
        widths = [in_channels, *[hidden_channels] * num_layers]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.convs = nn.ModuleList(GINConv(_Maps(a, b, batch_norm)) for a, b in pairs)
        self.register_buffer("centre", torch.full((self.out_channels,), torch.nan))

    def reset_parameters(self) -> None:
        for conv in self.convs:
            reset(conv)
        self.get_buffer("centre").fill_(torch.nan)

    def embed(
        self,
        x: Tensor,
        edge_index: Adj,
        batch: Tensor | None = None,
        *,
        ptr: Tensor | None = None,
        num_graphs: int | None = None,
    ) -> Tensor:
        """The vector of each graph."""
        x, _, graph = read_input("OCGIN", x, edge_index, self.in_channels)
        ptr = batch_offsets("OCGIN", x.size(0), batch, ptr, graph.device, num_graphs)
        sums, h = [], x
        for conv in self.convs:
            h = conv(h, graph)
            sums.append(segment_reduce(h, ptr))
        return torch.cat(sums, dim=1)

    @torch.no_grad()
    def fit_centre(self, vectors: Iterable[Tensor], eps: float = 0.1) -> None:
        """Set c to the mean of what :meth:`embed` returns for the graphs of training.

        Entries closer to 0 than ``eps`` times the root of the mean square of c are moved there.
        """
        total, count = None, 0
        for z in vectors:
            total = z.double().sum(0) if total is None else total + z.double().sum(0)
            count += z.size(0)
        if total is None or count == 0:
            raise GraphError("OCGIN.fit_centre: no vectors, but at least one graph is needed.")
        centre = total / count
        least = eps * centre.square().mean().sqrt()
        near = centre.abs() < least
        centre = torch.where(near, torch.where(centre < 0, -least, least), centre)
        self.get_buffer("centre").copy_(centre)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        batch: Tensor | None = None,
        *,
        ptr: Tensor | None = None,
        num_graphs: int | None = None,
    ) -> Tensor:
        centre = self.get_buffer("centre")
        if has_values(centre) and bool(centre[0].isnan()):
            raise ConfigError("OCGIN has no centre yet. Call fit_centre with vectors of embed.")
        z = self.embed(x, edge_index, batch, ptr=ptr, num_graphs=num_graphs)
        return (z - centre.to(z.dtype)).square().sum(dim=1)


class _Maps(nn.Module):
    """Two linear maps without bias, ReLU behind each, normed where asked for."""

    def __init__(self, in_channels: int, out_channels: int, batch_norm: bool) -> None:
        super().__init__()
        widths = [in_channels, out_channels, out_channels]
        self.lins = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(out_channels, affine=False) if batch_norm else nn.Identity()
            for _ in self.lins
        )

    def reset_parameters(self) -> None:
        for module in (*self.lins, *self.norms):
            reset(module)

    def forward(self, x: Tensor) -> Tensor:
        for lin, norm in zip(self.lins, self.norms, strict=True):
            x = batch_normed(norm, lin(x)).relu()
        return x
