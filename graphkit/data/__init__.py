"""Data sets by name, their cards, seeded splits, and the check of a user's own data."""

from __future__ import annotations

from .cards import Baseline, Card, Split, card, cards
from .check import check
from .load import available, data_root, info, load
from .splits import per_class_split, random_split

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
