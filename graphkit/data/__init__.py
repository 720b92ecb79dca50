"""Data sets by name, their cards, seeded splits, and the check of a user's own data."""

from __future__ import annotations

from graphkit.data.cards import Baseline, Card, Split, card, cards
from graphkit.data.check import check
from graphkit.data.load import available, data_root, info, load
from graphkit.data.splits import per_class_split, random_split

__all__ = [
    "Baseline",
    "Card",
    "Split",
    "available",
    "card",
    "cards",
    "check",
    "data_root",
    "info",
    "load",
    "per_class_split",
    "random_split",
]
