"""Data sets by name, their cards, seeded splits, and the checks of a user's own data."""

from __future__ import annotations

from .archive import unpack
from .cards import Baseline, Card, Download, Split, card, cards
from .check import check, check_graphs, check_inputs, refuse_other_kinds
from .check_kinds import check_events, check_hypergraph, check_links
from .download import fetch
from .evaluate import evaluate
from .graphs import GraphSet
from .links import random_link_split, time_split
from .load import available, cache_root, data_root, get, info, is_path, load
from .splits import per_class_split, random_split
from .tables import read_folder

__all__ = [
    "Baseline",
    "Card",
    "Download",
    "GraphSet",
    "Split",
    "available",
    "cache_root",
    "card",
    "cards",
    "check",
    "check_events",
    "check_graphs",
    "check_hypergraph",
    "check_inputs",
    "check_links",
    "data_root",
    "evaluate",
    "fetch",
    "get",
    "info",
    "is_path",
    "load",
    "per_class_split",
    "random_link_split",
    "random_split",
    "read_folder",
    "refuse_other_kinds",
    "time_split",
    "unpack",
]
