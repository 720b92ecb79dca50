"""Runnable experiments: functions that train, report and leave a run folder."""

from __future__ import annotations

from .graph import graph
from .link import link
from .node import node
from .predict import predict
from .presets import PRESETS, Preset
from .report import Record, Row

__all__ = ["PRESETS", "Preset", "RECIPES", "Record", "Row", "graph", "link", "node", "predict"]

RECIPES = {"node": node, "link": link, "graph": graph}
