"""Links in mini-batches: nodes of a batch from sampled neighbourhoods, all nodes layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..ops import Sampled, Sampler
from .layerwise import Loading, layerwise
from .links import Joined
from .node_mini import fanouts

# encoders whose layers run on the blocks of a sampled neighbourhood
SAMPLED = ("gcn", "sage", "gat", "gatv2", "gin", "gae")
# nodes that are encoded at once where all of them are
CHUNK = 8192


def read_fanout(given: Any, model: str, options: Mapping[str, Any]) -> str | None:
    """``given`` in the form 15,10, a number for each layer; None where nothing is sampled.

    Raises :class:`ConfigError` if it does not fit the model.
    """
    if given is None:
        return None
    text = fanouts(given)
    if model not in SAMPLED:
        raise ConfigError(
            f"fanout is {text}, but {model} is not run on sampled neighbourhoods. Use one of "
            f"{', '.join(SAMPLED)}, or leave fanout out."
        )
    if len(text.split(",")) != options["num_layers"]:
        raise ConfigError(
            f"fanout is {text}, but num_layers is {options['num_layers']}. Give a number for each "
            "layer of the encoder."
        )
    return text


class Neighborhoods:
    """Vectors of the nodes of a batch from a sampled neighbourhood, a hop for each layer.

    Graph and features stay where ``links`` has them, in the memory of the host; a batch goes to the
    ``device`` of the model. A neighbourhood is a function of ``seed``, epoch and number of the
    batch. GCN and GIN read degrees of the whole graph, so that the neighbours that were drawn count
    for all; edges that are left out still count among these.
    """

    def __init__(self, model: Any, links: Joined, fanout: str, seed: int) -> None:
        self.links, self.seed = links, seed
        self.device = next(model.parameters()).device
        self.sampler = Sampler(links.graph, [int(k) for k in fanout.split(",")])
        self.whole = model.encoder.of_whole(links.graph)

    def encode(
        self, model: Any, pairs: Tensor, epoch: int, number: int, without: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Vectors [n, hidden] of the different nodes of ``pairs [m, 2]``, and the pairs of their
        rows [m, 2].

        Messages run along no edge between the nodes of a pair of ``without [k, 2]``.
        """
        nodes, place = torch.unique(pairs, return_inverse=True)
        exclude = None if without is None else torch.cat([without, without.flip(1)]).t()
        found = self.sampler(nodes, (self.seed, epoch, number), exclude=exclude)
        assert isinstance(found, Sampled)
        blocks = [block.to(self.device) for block in found.blocks(transpose=True)]
        ids = found.n_id
        if self.links.x is None:
            x = model.vectors.weight[ids.to(self.device)]
        else:
            x = self.links.x[ids].to(self.device)
        whole = None if self.whole is None else self.whole[ids].to(self.device)
        return model.encoder(x, blocks, whole=whole), place.to(self.device)


@torch.no_grad()
def all_vectors(model: Any, links: Joined, part: str) -> Tensor:
    """Vectors [N, hidden] of all nodes in the memory of the host, exact, layer by layer."""
    graph = links.seen(part)
    x = model.vectors.weight.detach().cpu() if links.x is None else links.x
    loading = Loading(next(model.parameters()).device)
    whole = model.encoder.of_whole(graph)
    return layerwise(model.encoder, x, graph, loading, chunk=CHUNK, whole=whole)


def score_rows(model: Any, h: Tensor, pairs: Tensor) -> Tensor:
    """The scores [n] of ``pairs [n, 2]``, of vectors ``h`` in the memory of the host."""
    device = next(model.parameters()).device
    nodes, place = torch.unique(pairs, return_inverse=True)
    return model.score(h[nodes].to(device), place.to(device)).to(h.device)
