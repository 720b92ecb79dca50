"""The tests of the native kernels under sanitizers: ``python tests/sanitize.py [--valgrind]``.

Builds the kernels anew in a temporary folder, with AddressSanitizer and UndefinedBehaviorSanitizer
of the compiler, and runs tests/ops on them; or runs those tests on an ordinary build under
valgrind, and counts the errors that pass through the kernels (Python and torch have others). Other
arguments go to pytest. Needs Linux, CMake, a compiler and nanobind. Minutes; not part of CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import nanobind

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "graphkit" / "ops" / "cpu"


def build(place: Path, sanitizers: str) -> Path:
    """A folder to import graphkit from, with kernels built for ``sanitizers``."""
    made, site = place / "build", place / "site"
    options = {
        "CMAKE_BUILD_TYPE": "RelWithDebInfo",
        "GRAPHKIT_SANITIZE": sanitizers,
        "Python_EXECUTABLE": sys.executable,
        "nanobind_DIR": nanobind.cmake_dir(),
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    subprocess.run(["cmake", "-S", KERNELS, "-B", made, *defines], check=True, stdout=2)
    subprocess.run(["cmake", "--build", made, "--parallel", "2"], check=True, stdout=2)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "graphkit", site / "graphkit", ignore=ignored)
    for module in made.glob("_kernels*.so"):
        shutil.copy(module, site / "graphkit" / "ops" / "cpu")
    return site


def tests(site: Path, more: list[str]) -> list[str]:
    # what the sanitizers print must be seen; torch's compiler is not ours to check
    chosen = ["-s", "-x", "-p", "no:cacheprovider", "-o", f"pythonpath={site}"]
    chosen += ["-k", "not compile and not opcheck and not gradcheck"]
    return [sys.executable, "-m", "pytest", str(ROOT / "tests" / "ops"), *chosen, *more]


def sanitize(place: Path, more: list[str]) -> int:
    site = build(place, "address,undefined")
    compiler = os.environ.get("CXX", "c++")
    # the C++ library too: what torch throws passes through ASan, which looks for it at the start
    libraries = ("libasan.so", "libstdc++.so.6")
    preload = " ".join(
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in libraries
    )
    environment = {
        **os.environ,
        "LD_PRELOAD": preload,
        # Python and torch keep memory until the end of the process
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    return subprocess.run(tests(site, more), cwd=ROOT, env=environment).returncode


def valgrind(place: Path, more: list[str]) -> int:
    site, report = build(place, ""), place / "valgrind.xml"
    command = ["valgrind", "--xml=yes", f"--xml-file={report}", "--num-callers=30"]
    environment = {**os.environ, "PYTHONMALLOC": "malloc", "OMP_NUM_THREADS": "2"}
    code = subprocess.run(
        [*command, *tests(site, more)], cwd=ROOT, env=environment, stdout=2
    ).returncode
    errors = [
        error
        for error in ElementTree.parse(report).iter("error")
        if any("_kernels" in (frame.findtext("obj") or "") for frame in error.iter("frame"))
    ]
    for error in errors[:5]:
        print(ElementTree.tostring(error, encoding="unicode"))
    print(f"{len(errors)} errors in the kernels; the tests ended with {code}")
    return code or bool(errors)


def main(argv: list[str]) -> int:
    more = [word for word in argv if word != "--valgrind"]
    with tempfile.TemporaryDirectory() as place:
        return (valgrind if "--valgrind" in argv else sanitize)(Path(place), more)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
