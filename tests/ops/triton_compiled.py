"""Every kernel for GPUs, compiled without one: run by `test_triton.py`, or by hand to see the table.

The launchers run on CPU tensors with launching replaced by compiling, so that what is compiled is
what they ask for: the dtypes, which pointers are None, the constants.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from graphkit import Graph
from graphkit.ops.triton import load

TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
    torch.bool: "*i1",
}
CAPABILITIES = (80, 90)


def compiled(kernel: Any, arguments: dict[str, Any], capability: int) -> Any:
    """The kernel as a launch with these arguments on such a GPU would compile it."""
    signature, constants, attributes = {}, {}, {}
    exact = {parameter.name for parameter in kernel.params if parameter.do_not_specialize}
    for place, (name, value) in enumerate(arguments.items()):
        if isinstance(value, Tensor):
            signature[name] = TYPES[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        elif name.isupper() or value is None or (value == 1 and name not in exact):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            # counts that fit 32 bits come as such: it is products that must be wider
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and name not in exact:
                attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options={"enable_fp_fusion": True})


def check_addresses(name: str, ttir: str) -> None:
    """Whatever is added to a pointer has 64 bits, and so has every product."""
    added = re.findall(r"tt\.addptr .* : .*, (\S+)", ttir)
    assert added, f"{name} reads nothing"
    for kind in added:
        assert kind == "i64" or kind.endswith("xi64>"), f"{name} adds {kind} to a pointer"
    for line in ttir.splitlines():
        if "arith.muli" in line:
            assert re.search(r": (tensor<[\dx]*xi64|i64)", line), f"{name} multiplies: {line}"


def used(made: Any, capability: int) -> tuple[str, int, int]:
    """Registers of a thread, bytes of shared memory and of spilled registers."""
    assert f"sm_{capability}" in made.asm["ptx"] and made.asm["cubin"]
    ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "k.ptx").write_text(made.asm["ptx"])
        target = re.search(r"\.target (\S+)", made.asm["ptx"])
        assert target is not None
        command = [ptxas, "-v", f"-arch={target[1].rstrip(',')}", "k.ptx", "-o", "k.cubin"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    registers = re.search(r"Used (\d+) registers", done.stderr)
    spilled = re.search(r"(\d+) bytes spill stores", done.stderr)
    return (
        registers[1] if registers else "?",
        made.metadata.shared,
        int(spilled[1]) if spilled else 0,
    )


def record(asked: dict[str, tuple[Any, dict[str, Any]]], case: str) -> Any:
    """What stands for :meth:`JITFunction.run` and writes down what is to be compiled."""

    def run(self: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        bound = dict(zip(self.arg_names, arguments, strict=False)) | constants
        named = {name: bound[name] for name in self.arg_names}
        kinds = [v.dtype if isinstance(v, Tensor) else v for v in named.values()]
        asked.setdefault(f"{self.fn.__name__}{kinds}", (self, named | {"case": case}))

    return run


def graph(wide: bool) -> Graph:
    """One hub, and columns and edges in 32 or 64 bits."""
    edge_index = torch.randint(64, (2, 4096), generator=torch.Generator().manual_seed(0))
    edge_index[1, :2048] = 0
    made = Graph.from_edge_index(edge_index, 64)
    if wide:
        sides = [
            type(s)(s.indptr, s.indices.long(), None if s.eid is None else s.eid.long())
            for s in (made.by_dst, made.by_src)
            if s is not None
        ]
        made = Graph(sides[0], sides[1], 64, 64)
    return made


def calls() -> None:
    """One call of every launcher in every form that compiles another kernel."""
    g, wide = graph(False), graph(True)
    e, n = g.num_edges, 64
    scale = torch.ones(n)
    spmm = load("spmm").spmm
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        x = torch.ones(n, 4, 32, dtype=dtype)
        spmm(*g.parts(), x, None, False)
        spmm(*g.parts(), x, torch.ones(e, 4, dtype=dtype), False)
    x = torch.ones(n, 1, 100)
    spmm(*wide.parts(), x, torch.ones(e, 1), True)
    spmm(*wide.parts(), x, None, False, scale, scale, scale)
    spmm(*g.parts(), torch.ones(n, 1, 1), None, False)
    spmm(*g.parts(), torch.ones(n, 1, 16), None, False)


def main() -> None:
    asked: dict[str, tuple[Any, dict[str, Any]]] = {}
    JITFunction.run = record(asked, "")
    calls()
    print(f"{'kernel':28}{'sm':>4}{'registers':>11}{'shared':>8}{'spilled':>9}  of")
    for (kernel, arguments), capability in itertools.product(asked.values(), CAPABILITIES):
        arguments = {k: v for k, v in arguments.items() if k != "case"}
        made = compiled(kernel, arguments, capability)
        name = kernel.fn.__name__
        check_addresses(name, made.asm["ttir"])
        registers, shared, spilled = used(made, capability)
        values = {str(v.dtype)[6:] for v in arguments.values() if isinstance(v, Tensor)}
        told = ", ".join(f"{k}={v}" for k, v in arguments.items() if k.isupper())
        print(f"{name:28}{capability:>4}{registers:>11}{shared:>8}{spilled:>9}", end="  ")
        print(", ".join(sorted(values)), told)
    print("compiled", len(asked) * len(CAPABILITIES))


if __name__ == "__main__":
    sys.exit(main())
