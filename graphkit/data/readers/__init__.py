"""Readers by the name that cards give them: verified files in, named tensors out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..raw import Raw
from .classic import read_digits, read_geom_gcn, read_geom_gcn_sparse, read_masks, read_planetoid
from .hetero import read_star, read_star_split
from .hypergraph import read_allset, read_benson, read_hypergcn, read_hypergcn_split
from .links import read_sparse_mat
from .moleculenet import read_moleculenet
from .npz import read_csr_npz, read_pairs_npz
from .ogb import read_ogb_graph, read_ogb_link, read_ogb_node
from .ogb_hetero import read_ogb_hetero
from .ogb_npz import read_ogb_npz
from .tables import (
    read_arxiv_year,
    read_edge_list,
    read_facebook100,
    read_metis,
    read_musae_twitch,
    read_snap_patents,
)
from .temporal import read_events
from .tudataset import read_tudataset

__all__ = ["READERS", "SPLIT_READERS", "read_masks"]

# called as reader(files, **options of the card)
READERS: dict[str, Callable[..., Raw]] = {
    "allset": read_allset,
    "arxiv-year": read_arxiv_year,
    "benson": read_benson,
    "csr-npz": read_csr_npz,
    "digits": read_digits,
    "edge-list": read_edge_list,
    "events": read_events,
    "facebook100": read_facebook100,
    "geom-gcn": read_geom_gcn,
    "geom-gcn-sparse": read_geom_gcn_sparse,
    "hypergcn": read_hypergcn,
    "metis": read_metis,
    "moleculenet": read_moleculenet,
    "musae-twitch": read_musae_twitch,
    "ogb-graph": read_ogb_graph,
    "ogb-hetero": read_ogb_hetero,
    "ogb-link": read_ogb_link,
    "ogb-node": read_ogb_node,
    "ogb-npz": read_ogb_npz,
    "pairs-npz": read_pairs_npz,
    "planetoid": read_planetoid,
    "snap-patents": read_snap_patents,
    "sparse-mat": read_sparse_mat,
    "star": read_star,
    "tudataset": read_tudataset,
}

# called as reader(files of the split, raw, seed); other readers' files of splits are npz of masks
SPLIT_READERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "hypergcn": read_hypergcn_split,
    "star": read_star_split,
}
