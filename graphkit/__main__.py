"""``python -m graphkit`` is ``graphkit``."""

from __future__ import annotations

import sys

from .cli import start

sys.exit(start())
