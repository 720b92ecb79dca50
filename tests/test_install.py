"""The package as pip builds it. (opt: pip)"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_without_a_compiler_it_installs_all_the_same_and_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "CXX": "/bin/false", "CC": "/bin/false"}
    options = ["--no-deps", "--verbose", "--config-settings", f"build-dir={tmp_path / 'build'}"]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", str(ROOT), *options, "-w", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr
    assert "graphkit was installed without its native kernels" in built.stdout + built.stderr
    (wheel,) = tmp_path.glob("graphkit-*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import graphkit, graphkit.ops as o; print(graphkit.__file__, o.backends()['spmm'])"
    # without site-packages' own graphkit, which an editable installation puts before all paths
    hide = "import sys; sys.meta_path = [f for f in sys.meta_path if 'ditable' not in repr(f)]; "
    found = subprocess.run(
        [sys.executable, "-c", hide + code],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "GRAPHKIT_SIMD": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "site") in found.stdout and "torch reference" in found.stdout
