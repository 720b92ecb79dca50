"""Runnable experiments: functions that train, report and leave a run folder."""

from __future__ import annotations

from .node import node
from .presets import PRESETS, Preset
from .report import Record, Row

__all__ = ["PRESETS", "Preset", "RECIPES", "Record", "Row", "node"]

RECIPES = {"node": node}
