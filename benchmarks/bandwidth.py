"""What memory gives this process: the same probe here and in the interpreter of a peer.

Imports nothing but torch, so that it runs where graphkit cannot be imported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor


def bandwidth() -> dict[str, float]:
    """GB/s, bytes read plus bytes written, of a large copy and of a gather of random 512 B rows.

    Both write to memory that is there already, so that no page fault is counted.
    """
    rows = 2**18
    table = torch.ones(rows, 128)
    index = torch.randint(rows, (rows,), generator=torch.Generator().manual_seed(0))
    out = torch.ones_like(table)

    def rate(call: Callable[[], Tensor]) -> float:
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return round(2 * 4 * table.numel() / statistics.median(seconds) / 1e9, 1)

    return {
        "copy_gbps": rate(lambda: out.copy_(table)),
        "gather_512b_gbps": rate(lambda: torch.index_select(table, 0, index, out=out)),
    }
