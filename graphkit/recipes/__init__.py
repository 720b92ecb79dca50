"""Runnable experiments: functions that train, report and leave a run folder."""

from __future__ import annotations

from .compare import compare
from .direction import direction
from .distill import distill
from .export import export
from .graph import graph
from .hyper import hyper
from .link import link
from .node import node
from .node_mini import node_mini
from .predict import predict
from .presets import PRESETS, Preset
from .report import Record, Row
from .reproduce import TABLES, reproduce
from .sweep import sweep_depth
from .tune import Tuned, tune

__all__ = [
    "PRESETS",
    "Preset",
    "RECIPES",
    "Record",
    "Row",
    "TABLES",
    "Tuned",
    "compare",
    "direction",
    "distill",
    "export",
    "graph",
    "hyper",
    "link",
    "node",
    "node_mini",
    "predict",
    "reproduce",
    "sweep_depth",
    "tune",
]

RECIPES = {
    "node": node,
    "node_mini": node_mini,
    "link": link,
    "direction": direction,
    "graph": graph,
    "distill": distill,
    "hyper": hyper,
}
