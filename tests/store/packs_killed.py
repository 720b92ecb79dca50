"""Builds packs in processes that are killed, for test_packs.py: each goes on where one before it
stopped, and the last leaves the bytes that an undisturbed build leaves.

    python packs_killed.py FOLDER SEED COUNT
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from graphkit.data.pack import pack
from graphkit.data.write import write_store
from graphkit.errors import StoreError
from graphkit.store import journal, packing, samples
from graphkit.store.direct import Disk
from graphkit.store.engines import Threads
from graphkit.store.packed import PackFile
from graphkit.store.reader import open_store

NODES, EDGES = 2000, 12_000


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def build(base: Path, out: Path) -> None:
    store = open_store(base / "store")
    torch.manual_seed(1)
    ids = torch.randperm(NODES)[:300]
    pack(
        store.column("x"), store.graph(), ids, [4, 3], out, batch_size=50, memory="24MB",
        cache=90 * 200, device_cache=90 * 50, way="segments", speed=Disk(1e9, 1e5), edge_ids=True,
        engine=Threads(threads=1),
    )  # fmt: skip


def small_steps() -> None:
    """As if the set were large: many slabs, and a line of the journal for everything."""
    packing.STEP = samples.STEP = 1  # pyright: ignore[reportAttributeAccessIssue]
    packing._Build._slab_rows = lambda self, stride: 600  # pyright: ignore


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def count_points() -> tuple[list[int], Callable[[int], None]]:
    """Let every step that changes what a build goes on from be a point, before, within or after
    which the process can be killed; how many were passed, and the setter of the fatal one."""
    passed, fatal = [0], [-1]

    def point() -> None:
        if passed[0] == fatal[0]:
            die()
        passed[0] += 1

    def around(owner: object, name: str) -> None:
        function = getattr(owner, name)

        def call(*args: object, **facts: object) -> object:
            point()
            found = function(*args, **facts)
            point()
            return found

        setattr(owner, name, call)

    def torn(desk: journal.Desk, phase: str, **facts: object) -> None:
        if passed[0] == fatal[0]:
            with (desk.folder / journal.JOURNAL).open("ab") as file:
                file.write(b'{"phase": "samp')
        point()
        note(desk, phase, **facts)

    note = journal.Desk.note
    journal.Desk.note = torn  # pyright: ignore
    around(journal.Desk, "note")
    for name in ("save_tensors", "write_record", "atomic"):
        around(packing, name)
    for name in ("rename", "truncate", "ftruncate"):
        around(os, name)
    around(Path, "unlink")

    def choose(number: int) -> None:
        fatal[0] = number

    return passed, choose


def child(work: Callable[[], None]) -> int:
    """The status of a process that did ``work``."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def main(base: Path, seed: int, count: int) -> None:
    torch.set_num_threads(1)
    draw = random.Random(seed)
    x = torch.randn(NODES, 45).bfloat16()
    write_store(base / "store", x=x, edge_index=torch.randint(NODES, (2, EDGES)), memory="16MB")
    small_steps()
    passed, fatal = count_points()
    began = time.perf_counter()
    build(base, base / "whole")
    seconds, points = time.perf_counter() - began, passed[0]
    want = hashes(base / "whole")

    def killed_at(number: int, out: Path) -> int:
        def work() -> None:
            passed[0] = 0
            fatal(number)
            build(base, out)

        return child(work)

    def killed_after(share: float, out: Path) -> int:
        def work() -> None:
            # its default ends the process at once
            signal.setitimer(signal.ITIMER_REAL, share * seconds)
            build(base, out)

        return child(work)

    wrong, deaths = [], 0
    plans = [[("point", at)] for at in range(points)]
    plans += [[("time", draw.random()) for _ in range(draw.randint(1, 4))] for _ in range(count)]
    for number, plan in enumerate(plans):
        out = base / f"killed {number}"
        for kind, value in plan:
            status = killed_at(value, out) if kind == "point" else killed_after(value, out)
            deaths += status != 0
            if status != 0 and not out.exists():
                try:
                    PackFile(out)
                    wrong.append(f"{plan}: opened")
                except StoreError:
                    pass
        status = child(lambda out=out: build(base, out))
        if status != 0 or hashes(out) != want:
            wrong.append(f"{plan}: {status}, {sorted(set(want) ^ set(hashes(out)))}")
        left = [p.name for p in base.glob("killed*.packing-*")]
        if left:
            wrong.append(f"{plan}: left {left}")
    print(json.dumps({"points": points, "deaths": deaths, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
