"""Every kernel for GPUs, compiled without one: run by `test_triton.py`, or by hand for the table.

The launchers run on CPU tensors with launching replaced by compiling, so that what is compiled is
what they ask for: the dtypes, which pointers are None, the constants. ``--all`` compiles every form
for both kinds of GPU.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from graphkit import Csr, Graph
from graphkit.ops.triton import KERNELS, load
from graphkit.scatter import atomic

TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int8: "*i8",
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


def registers_and_spills(log: str) -> tuple[int, int]:
    """Of what ptxas says of a kernel: registers of a thread, bytes of those that are spilled."""
    registers, spilled = (re.search(p, log) for p in (r"Used (\d+) reg", r"(\d+) bytes spill st"))
    assert registers is not None and spilled is not None, log
    return int(registers[1]), int(spilled[1])


def record(asked: dict[str, tuple[Any, dict[str, Any]]]) -> Any:
    """What stands for :meth:`JITFunction.run` and writes down what is to be compiled."""

    def run(self: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        bound = dict(zip(self.arg_names, arguments, strict=False)) | constants
        named = {name: bound[name] for name in self.arg_names}
        kinds = [v.dtype if isinstance(v, Tensor) else v for v in named.values()]
        asked.setdefault(f"{self.fn.__name__}{kinds}", (self, named))

    return run


def graph(num_edges: int, wide: bool = False) -> Graph:
    """Half of the edges at one node; columns and edges in 32 or 64 bits."""
    edge_index = torch.randint(64, (2, num_edges), generator=torch.Generator().manual_seed(0))
    edge_index[1, : num_edges // 2] = 0
    made = Graph.from_edge_index(edge_index, 64)
    assert made.by_src is not None
    if wide:
        sides = (
            Csr(s.indptr, s.indices.long(), None if s.eid is None else s.eid.long())
            for s in (made.by_dst, made.by_src)
        )
        made = Graph(*sides, 64, 64)
    return made


def calls(everything: bool) -> None:
    """Every launcher, in every form that compiles another kernel."""
    csr = load("csr")
    look = csr.look
    # nothing is computed, so that it finds what memory held: let no index be sorted
    setattr(csr, "look", lambda *given: (look(*given), torch.tensor([False, True]))[1])  # noqa: B010
    every_op(graph(4096), torch.float32)
    g, wide = graph(256), graph(256, wide=True)
    if everything:
        every_op(g, torch.bfloat16)
        every_op(wide, torch.float64)
    half, double = (torch.ones(64, 4, 32, dtype=t) for t in (torch.bfloat16, torch.float64))
    for made, x in ((g, half), (wide, double)):
        kernel("spmm")(*made.parts(), x, x[0, :1, :4].expand(256, 4), False)
        kernel("spmm_extreme")(*made.parts(), x, None, False, False)
    # one head, and more columns than a tile has
    x, w = torch.ones(64, 1, 200), torch.ones(256, 1)
    out, won, tied = kernel("spmm_extreme")(*g.parts(), x, w, True, True)
    kernel("spmm_extreme_backward")(*g.parts(), x, None, w, None, won, tied, 64)
    kernel("spmm_extreme_weights")(*g.parts()[:3], x, x, w, out)
    kernel("sddmm")(*g.parts(), x, x)
    for h in (x, torch.ones(64, 1, 300)):
        given = w[:64], *[None] * 5
        kernel("attention")(*g.parts(), h, *given, False, 0.2, 0.0, None)
    for dtype in (torch.int8, torch.int64):
        scattered(torch.ones(256, 3, dtype=dtype))
    for dtype in (torch.int32, torch.int64):
        kernel("coo_to_csr")(torch.zeros(2, 64, dtype=dtype), 9, 9, False)
    scale = torch.ones(64)
    spmm = kernel("spmm")
    spmm(*g.parts(), torch.ones(64, 1, 100), torch.ones(256, 1), True)
    spmm(*g.parts(), torch.ones(64, 1, 16), None, False, scale, scale, scale)
    spmm(*g.parts(), torch.ones(64, 1, 1, dtype=torch.float16), None, False)


def every_op(g: Graph, dtype: torch.dtype) -> None:
    n, e, parts = g.num_dst, g.num_edges, g.parts()
    x, w = torch.ones(n, 4, 32, dtype=dtype), torch.ones(e, 4, dtype=dtype)
    kernel("spmm")(*parts, x, None, False)
    kernel("spmm")(*parts, x, w, False)
    kernel("sddmm")(*parts, x, x)
    # only names, types and constants count: nothing is computed
    out, won, tied = kernel("spmm_extreme")(*parts, x, w, False, True)
    for given in ((None, w, None, won, tied), (x, w, out, None, None)):
        kernel("spmm_extreme_backward")(*parts, x, *given, n)
    kernel("spmm_extreme_weights")(*parts[:3], x, x, w, out)
    ptr, _, eid = parts[:3]
    kernel("gather")(ptr, eid, x.flatten(1), e)
    kernel("segment_reduce")(ptr, eid, w, True)
    kernel("segment_extreme")(ptr, eid, w, True)
    kernel("segment_share")(ptr, eid, w, w[:n], w[:n])
    kernel("segment_softmax")(ptr, eid, w)
    kernel("segment_softmax_backward")(ptr, eid, w, w)
    acc = torch.promote_types(dtype, torch.float32)
    own, dst = torch.ones(n, 4, dtype=acc), torch.ones(n, 4, dtype=acc)
    for second in (False, True):
        gat = (own, dst, w.to(acc), own, None, None), (*[None] * 4, x, x[0])
        given = (*parts, x, *gat[second], second, 0.2, 0.5, torch.tensor(1))
        kernel("attention")(*given)
    attention = load("attention")
    attention.pair_scores(*parts[:3], x, x, torch.ones(4, 32, dtype=acc), 0.2)
    for slopes in (False, True):
        attention.pair_sums(parts[:3], x, x, w.to(acc), 0.2, slopes)
    pairs = torch.ones(2, 9, dtype=torch.int64)
    for score in ("count", "adamic_adar"):
        kernel("common_neighbors")(ptr, parts[1], pairs, score)
    kernel("intersect")(ptr, parts[1], pairs, dtype == torch.bfloat16, True)
    scattered(w)
    kernel("dropout")(x, torch.tensor(1), 0.5, dtype == torch.bfloat16)
    kernel("relu_dropout_backward")(x, x, 2.0)


def scattered(src: Tensor) -> None:
    """Of an index that is not sorted, but for offsets."""
    size, inner = src.shape
    index, ptr = torch.zeros(size, dtype=torch.int64), torch.tensor([0, 1, size])
    for reduce in ("sum", "mean", "mul"):
        kernel("scatter_reduce")(src, index, 0, 2, reduce)
    out, at = kernel("scatter_best")(src, index, 0, 2, src.dtype == torch.int8)
    kernel("scatter_put")(out, at.zero_(), 0, size)
    kernel("csr_best")(src, ptr, False)
    kernel("csr_spread")(src[:2].view(2, 1, inner).expand(2, 2, inner), ptr.expand(2, 3), size)
    if src.is_floating_point():
        kernel("scatter_reduce")(src, index, 0, 2, "top")
        with atomic():
            kernel("scatter_reduce")(src, index, 0, 2, "sum")


def kernel(name: str) -> Any:
    return next(getattr(load(file), name) for _, _, file, name_ in KERNELS if name_ == name)


def targets(asked: dict[str, Any], everything: bool) -> Iterator[tuple[Any, Any, int]]:
    """Kernels, arguments and capabilities: each kernel for both, each of its forms for one.

    Unless ``everything``, of what goes over parts one form of each kernel has to do.
    """
    seen: set[Any] = set()
    for place, (kernel, arguments) in enumerate(asked.values()):
        name, what = kernel.fn.__name__, arguments.get("WHAT", 0)
        is_new = what == 0 or (name, what) not in seen
        seen.add((name, what))
        for capability in CAPABILITIES:
            is_first = what == 0 and (name, "for", capability) not in seen
            if everything or is_first or (is_new and capability == CAPABILITIES[place % 2]):
                seen.add((name, "for", capability))
                yield kernel, arguments, capability


def main(everything: bool) -> None:
    asked: dict[str, tuple[Any, dict[str, Any]]] = {}
    JITFunction.run = record(asked)
    calls(everything)
    print(f"{'kernel':30}{'sm':>3}{'registers':>10}{'spilled':>8}{'shared':>7}  of")
    wanted = list(targets(asked, everything))
    for kernel, arguments, capability in wanted:
        log = io.StringIO()
        with redirect_stdout(log):
            made = compiled(kernel, arguments, capability)
        name = kernel.fn.__name__
        assert f"sm_{capability}" in made.asm["ptx"] and made.asm["cubin"]
        check_addresses(name, made.asm["ttir"])
        registers, spilled = registers_and_spills(log.getvalue())
        told = sorted({str(v.dtype)[6:] for v in arguments.values() if isinstance(v, Tensor)})
        told += [f"{k}={v}" for k, v in arguments.items() if k.isupper()]
        print(f"{name:30}{capability:>3}{registers:>10}{spilled:>8}", end="")
        print(f"{made.metadata.shared:>7}  " + ", ".join(told))
    print("compiled", len(wanted))


if __name__ == "__main__":
    # ptxas then says what it makes, and makes it
    triton.knobs.nvidia.dump_ptxas_log = triton.knobs.compilation.always_compile = True
    main("--all" in sys.argv)
