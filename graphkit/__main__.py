"""``python -m graphkit`` is ``graphkit``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
