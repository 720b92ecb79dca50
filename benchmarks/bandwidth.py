"""What memory gives this process: the same probe here and in the interpreter of a peer.

Imports nothing but torch, so that it runs where graphkit cannot be imported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def _on_the_host(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def bandwidth(
    device: torch.device | str = "cpu",
    rows: int = 2**18,
    seconds: Callable[[Callable[[], Any]], float] = _on_the_host,
) -> dict[str, float]:
    """GB/s, bytes read plus bytes written, of a large copy and of a gather of random 512 B rows.

    Both write to memory that is there already, so that no page fault is counted. The tables of
    ``rows`` rows lie on ``device``, and ``seconds`` is how long a call takes there.
    """
    table = torch.ones(rows, 128, device=device)
    index = torch.randint(rows, (rows,), generator=torch.Generator().manual_seed(0)).to(device)
    out = torch.ones_like(table)

    def rate(call: Callable[[], Any]) -> float:
        median = statistics.median(seconds(call) for _ in range(5))
        return round(2 * 4 * table.numel() / median / 1e9, 1)

    return {
        "copy_gbps": rate(lambda: out.copy_(table)),
        "gather_512b_gbps": rate(lambda: torch.index_select(table, 0, index, out=out)),
    }
