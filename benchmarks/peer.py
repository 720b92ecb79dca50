"""DGL as a contender, in an interpreter of its own: its torch is older than ours can be.

The peer gets the problem as files, runs on request, one call for each of our rounds, and tells how
long each took by its own clock. It measures its bandwidth with our probe, which its rows hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphkit.errors import BackendError, ConfigError

from .entry import FOLDER, Outputs, Prepared

interpreter: str | None = None
"""A Python that has DGL, as --dgl names it."""


def prepared(op: str, num_nodes: int, arrays: Mapping[str, Tensor | None], **how: Any) -> Prepared:
    """The contender that runs ``op`` of ``dgl_peer.py`` on ``arrays``; what is None is left out.

    Raises:
        BackendError: no interpreter was named, or the peer ended before it was ready.
    """
    if interpreter is None:
        raise BackendError("DGL runs in an environment of its own. Name its Python with --dgl.")
    peer = _Peer(interpreter, {"op": op, "num_nodes": num_nodes, **how}, arrays)
    return Prepared(
        peer.run,
        check=peer.outputs,
        seconds=lambda: peer.seconds,
        about=peer.about,
        close=peer.close,
    )


class _Peer:
    """One process that holds one problem."""

    def __init__(
        self, python: str, task: Mapping[str, Any], arrays: Mapping[str, Tensor | None]
    ) -> None:
        self.seconds = 0.0
        self.process: subprocess.Popen[str] | None = None
        self.folder = tempfile.TemporaryDirectory()
        self.said = tempfile.TemporaryFile("w+")
        try:
            for name, value in arrays.items():
                if value is not None:
                    path = Path(self.folder.name) / f"{name}.npy"
                    np.save(path, value.numpy(), allow_pickle=False)
            self.process = self._started(python, task)
            self.about = self._answer()
        except BaseException:
            self.close()
            raise

    def _started(self, python: str, task: Mapping[str, Any]) -> subprocess.Popen[str]:
        words = [python, str(FOLDER / "dgl_peer.py"), self.folder.name, json.dumps(task)]
        # the libraries of this environment are not for that one
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        try:
            return subprocess.Popen(
                [*words, str(torch.get_num_threads())],
                env={**environment, "DGLBACKEND": "pytorch"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.said,
                text=True,
            )
        except OSError as error:
            raise ConfigError(f"--dgl is {python!r}, which cannot be run: {error}.") from error

    def run(self) -> Outputs:
        """Nothing, after one call in the other process, whose time is kept."""
        self.seconds = self._ask("run")["seconds"]
        return ()

    def outputs(self) -> Outputs:
        """What one more call there returned."""
        count = self._ask("check")["outputs"]
        paths = [Path(self.folder.name) / f"out_{at}.npy" for at in range(count)]
        return tuple(torch.from_numpy(np.load(path, allow_pickle=False)) for path in paths)

    def close(self) -> None:
        """End the process and remove its files."""
        if self.process is not None:
            self.process.communicate()
        self.said.close()
        self.folder.cleanup()

    def _ask(self, word: str) -> dict[str, Any]:
        assert self.process is not None and self.process.stdin is not None
        print(word, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            said = self.said.read().strip().splitlines() or ["it said nothing"]
            raise BackendError(f"The Python of --dgl could not run this: {said[-1]}")
        return json.loads(line)
