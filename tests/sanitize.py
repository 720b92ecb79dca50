"""The tests of the native kernels under sanitizers: ``python tests/sanitize.py [--valgrind]``.

Builds the kernels anew, with AddressSanitizer and UndefinedBehaviorSanitizer of the compiler, and
runs tests/ops on them, on each instruction set that this machine offers. With --valgrind ordinary
kernels are built, and a part of those tests (BRIEF) runs under valgrind, which alone sees that
memory is read before it is written, but knows no AVX-512; errors that pass through the kernels
count (Python and torch have others).

Files of tests that are named run instead; other arguments go to pytest. On two cores with AVX2 the
build takes some 10 minutes, the tests 15, those under valgrind 20, of which importing torch is 4.
Needs Linux, CMake, a compiler, nanobind, valgrind for that, and graphkit installed with its
kernels. Not part of CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nanobind
import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNELS = Path("graphkit", "ops", "cpu")
SETS = ("avx512", "avx2", "baseline")
FURTHER = "GRAPHKIT_SANITIZE_FURTHER"
"""Set for the instruction sets after the first: what runs on each by itself is not repeated."""

# by words of their names
LEFT_OUT = {
    "compile": "torch's compiler runs, which takes long and adds nothing to what the kernels do",
    "opcheck": "the same",
    "want_of_memory": "limits the address space, most of which ASan reserves for itself",
}

# under valgrind: of each family of kernels, what reaches the ends of rows and arrays
BRIEF = [
    f"tests/ops/test_{name}"
    for name in (
        "cpu_attention.py::test_equals_its_reference",
        "cpu_attention.py::test_any_strides_and_wide_indices",
        "cpu_csr.py::test_many_edges",
        "cpu_csr.py::test_loops_of_a_hub_and_of_wide_columns",
        "cpu_extreme.py::test_any_width",
        "cpu_extreme.py::test_gradients",
        "cpu_native.py::test_an_instruction_set_gives_the_same_bits",
        "mix.py::test_any_size",
        "cpu_sddmm.py::test_any_width",
        "cpu_segment.py::test_long_rows",
        "cpu_segment.py::test_strided_values",
        "cpu_spmm.py::test_every_width",
        "cpu_spmm.py::test_a_hub_is_cut_the_same_way_for_any_number_of_threads",
        "dropout.py::test_every_set_has_the_bits_of_the_definition",
        "intersect.py::test_pairs_of_the_zoo",
        "intersect.py::test_lists_of_all_lengths",
        "negatives.py::test_where_nothing_is_left",
        "negatives.py::test_sources_and_destinations_of_two_types",
        "rows.py::test_every_dtype",
        "rows.py::test_large_results_are_streamed_and_whole",
        "sample.py::test_laws",
        "sample.py::test_several_relations",
        "walk.py::test_every_step_is_an_edge",
        "walk.py::test_importance_is_how_often_walks_visit",
        "walk.py::test_ppr_has_the_same_bits_everywhere",
    )
]


def offered() -> list[str]:
    """The instruction sets of this machine; others would be built for nothing."""
    # a process of its own: this one may have been told to use one set, or none
    ask = "from graphkit.ops.cpu import native; print(*native.kernels.instruction_sets())"
    env = {name: value for name, value in os.environ.items() if name != "GRAPHKIT_SIMD"}
    found = subprocess.run(
        [sys.executable, "-c", ask], check=True, capture_output=True, text=True, env=env
    )
    return found.stdout.split()


# planted past every check, to know that faults are seen: ASan must tell of a row behind the last,
# valgrind of a number that nobody wrote
FAULT = """
import torch
from graphkit.ops.cpu import rows
rows.take(torch.zeros(4, 16), {index}, torch.empty(1, 16))
"""
BEHIND, UNWRITTEN = "torch.tensor([4])", "torch.empty(1, dtype=torch.int64).bitwise_and_(3)"


def build(place: Path, sanitizers: str) -> tuple[Path, Path]:
    """A copy of the checkout with kernels built for ``sanitizers``, and a Python to run it with."""
    made, site, python = place / "build", place / "site", place / "python"
    options = {
        "CMAKE_BUILD_TYPE": "RelWithDebInfo",
        "GRAPHKIT_SANITIZE": sanitizers,
        "GRAPHKIT_SETS": ";".join(offered()),
        "Python_EXECUTABLE": sys.executable,
        "nanobind_DIR": nanobind.cmake_dir(),
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    subprocess.run(["cmake", "-S", ROOT / KERNELS, "-B", made, *defines], check=True, stdout=2)
    subprocess.run(["cmake", "--build", made, "--parallel", "2"], check=True, stdout=2)
    shutil.rmtree(site, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("graphkit", "tests", "datasets"):
        shutil.copytree(ROOT / name, site / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", site)
    for module in made.glob("_kernels*.so"):
        shutil.copy(module, site / KERNELS)
    # this one's editable installation would lead back to the checkout and its kernels
    venv.create(python)
    return site, python / "bin" / "python"


def environment(**more: str) -> dict[str, str]:
    # the packages of this Python; what lies in the working directory comes before them
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:]), **more}


def tests(python: Path, chosen: list[str]) -> list[str]:
    # what the sanitizers print must be seen
    options = ["-s", "-p", "no:cacheprovider", "-p", "tests.sanitize"]
    return [str(python), "-m", "pytest", *options, *chosen]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """This file as a plugin of pytest: what says nothing about the kernels is left out."""
    from graphkit.ops.cpu import native

    assert Path(native.kernels.__file__).is_relative_to(config.rootpath), "these are others"

    def stays(item: Any) -> bool:
        case = getattr(item, "callspec", None)
        values = {str(value) for value in case.params.values()} if case else set()
        if values & {"torch", "reference"} or any(word in item.name for word in LEFT_OUT):
            return False
        on_each = "each_way" in item.fixturenames or values & set(SETS)
        return not (on_each and FURTHER in os.environ)

    kept = [item for item in items if stays(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def sanitize(place: Path, chosen: list[str]) -> int:
    site, python = build(place / "asan", "address,undefined,float-cast-overflow")
    compiler = os.environ.get("CXX", "c++")
    # the C++ library too: what torch throws passes through ASan, which looks for it at the start
    libraries = ("libasan.so", "libstdc++.so.6")
    preload = " ".join(
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in libraries
    )
    common = environment(
        LD_PRELOAD=preload,
        # Python and torch keep memory until the end of the process
        ASAN_OPTIONS="detect_leaks=0",
        UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
    )
    planted = subprocess.run(
        [python, "-c", FAULT.format(index=BEHIND)],
        capture_output=True, text=True, cwd=site, env=common,
    )  # fmt: skip
    assert "heap-buffer-overflow" in planted.stderr, "a planted fault was not seen"
    codes: dict[str, int] = {}
    for name in reversed(offered()):
        env = {**common, "GRAPHKIT_SIMD": name, **({FURTHER: "1"} if codes else {})}
        print(f"on {name}:", flush=True)
        codes[name] = subprocess.run(tests(python, chosen), cwd=site, env=env).returncode
    print("the tests ended with", ", ".join(f"{codes[name]} on {name}" for name in codes))
    # all of the files chosen may have run on each set before
    return int(any(code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED) for code in codes.values()))


def errors_in_kernels(report: Path) -> Iterator[str]:
    """Of valgrind's report, errors but leaks with a frame in the kernels."""
    # read piece by piece: it may have hundreds of MB
    for _, element in ElementTree.iterparse(report):
        if element.tag != "error":
            continue
        leak = (element.findtext("kind") or "").startswith("Leak_")
        objects = (frame.findtext("obj") or "" for frame in element.iter("frame"))
        if not leak and any("_kernels" in name for name in objects):
            yield ElementTree.tostring(element, encoding="unicode")
        element.clear()


def valgrind(place: Path, chosen: list[str]) -> int:
    (site, python), report = build(place / "valgrind", ""), place / "valgrind.xml"
    command = ["valgrind", "--xml=yes", f"--xml-file={report}", "--num-callers=30"]
    command += ["--error-limit=no", "--child-silent-after-fork=yes"]
    # what is left at the end is Python's and torch's
    command += ["--show-leak-kinds=none", "--errors-for-leak-kinds=none"]
    env = environment(
        PYTHONMALLOC="malloc",
        GRAPHKIT_SIMD="avx2",
        OMP_NUM_THREADS="2",
        # only one thread runs at a time: others must not wait by turning in circles
        OMP_WAIT_POLICY="passive",
    )

    def watched(what: list[str]) -> tuple[int, list[str]]:
        code = subprocess.run([*command, *what], cwd=site, env=env).returncode
        return code, list(errors_in_kernels(report))

    _, planted = watched([str(python), "-c", FAULT.format(index=UNWRITTEN)])
    assert planted, "a planted fault was not seen"
    code, errors = watched(tests(python, chosen))
    for error in errors[:5]:
        print(error)
    print(f"{len(errors)} errors in the kernels; the tests ended with {code}")
    return int(bool(code or errors))


def main(argv: list[str]) -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--valgrind", action="store_true", help="under valgrind instead")
    parser.add_argument("--build", type=Path, help="a folder that keeps the build for the next run")
    options, more = parser.parse_known_args(argv)
    run, every = (valgrind, BRIEF) if options.valgrind else (sanitize, ["tests/ops"])
    named = any((ROOT / word.split("::")[0]).exists() for word in more)
    with tempfile.TemporaryDirectory() as place:
        return run((options.build or Path(place)).resolve(), more if named else [*every, *more])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
