"""How the kernels for GPUs cut rows into work, and how they are launched. (opt: triton)

A program takes ``ROWS`` rows, ``SLOTS`` slots of each at once, and goes on to the end of the
longest. Rows of ``HUB`` slots or more are left out of that and cut into parts of ``CHUNK`` slots,
the last of up to ``2 CHUNK - 1``; a second launch takes the parts as if they were rows, and for
what has to be joined a third one takes the parts of each row in their order. The cut is that of the
row alone, so a row's result has the same bits whatever is launched and whatever else there is.

Parts have numbers that no pass over the rows is needed for: those of a row that begins at slot
``b`` are ``ceil(b / CHUNK)`` and the following ones. No two rows meet, because the next begins at
least as many chunks later as this one has parts, and there are at most ``ceil(E / CHUNK)``. Part
``i`` belongs to the row of slot ``i CHUNK`` or to none: a binary search finds it, and the host is
never waited for.
"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...graph import check_indptr
from ..spmm import accumulator

CAP = 2**20
"""The most programs of a launch; they go on with what lies that far ahead."""
CHUNK = 512
HUB = 1024
ELEMENTS = 2048
"""What a program holds at once: rows x slots x columns."""
COLUMNS = 128
SLOTS = 4
_SEARCHED = 128

# what a launch goes over: WHAT of the kernels
WHOLE, PARTS, JOINS, AGAIN = range(4)


@triton.jit
def lower_bound(key_ptr, wanted, low, high, is_asked, steps):
    """The first place from ``low`` on whose rising key is not less than ``wanted``, or ``high``."""
    for _ in range(steps):
        is_open = is_asked & (low < high)
        middle = (low + high) // 2
        is_less = tl.load(key_ptr + middle, mask=is_open, other=0) < wanted
        low = tl.where(is_open & is_less, middle + 1, low)
        high = tl.where(is_open & (is_less == 0), middle, high)
    return low


# counts that differ from batch to batch compile nothing anew
@triton.jit(do_not_specialize=["num_rows", "num_parts", "steps", "total"])
def find_parts_kernel(
    ptr_ptr,
    part_ptr,
    num_rows,
    num_parts,
    steps,
    total,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The row of each part, -1 where there is none."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        part = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_part = part < num_parts
        slot = part * CHUNK
        # the last row that begins at the slot or before it; empty ones come before
        low = lower_bound(ptr_ptr, slot + 1, slot * 0 + 1, slot * 0 + num_rows, is_part, steps) - 1
        begin = tl.load(ptr_ptr + low, mask=is_part, other=0)
        length = tl.load(ptr_ptr + (low + 1), mask=is_part, other=0) - begin
        is_its = (length >= HUB) & (part - tl.cdiv(begin, CHUNK) < length // CHUNK)
        tl.store(part_ptr + part, tl.where(is_its, low, -1), mask=is_part)


@triton.jit
def ranges_of(
    ptr_ptr,
    part_ptr,
    group,
    count,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``ROWS`` ranges of slots: of rows (``WHAT`` is WHOLE), of parts (PARTS, AGAIN), or, in a
    table that has an entry for each part, of those that make up a row (JOINS).

    Returns the range's own number, its row, that row's length and first part, begin and end, and
    whether there is a result to store. ``HUB`` is 0 where no row can have so many slots.
    """
    number = group * ROWS + tl.arange(0, ROWS).to(tl.int64)
    is_in = number < count
    row = number
    if WHAT != 0:
        row = tl.load(part_ptr + number, mask=is_in, other=-1)
        is_in = row >= 0
        row = tl.where(is_in, row, 0)
    begin = tl.load(ptr_ptr + row, mask=is_in, other=0)
    end = tl.load(ptr_ptr + (row + 1), mask=is_in, other=0)
    length = end - begin
    first = tl.cdiv(begin, CHUNK)
    if WHAT == 0:
        if HUB > 0:
            is_in = is_in & (length < HUB)
            end = tl.where(is_in, end, begin)
    else:
        parts = length // CHUNK
        if WHAT == 2:
            is_in = is_in & (number == first)
            begin = number
            end = tl.where(is_in, number + parts, begin)
        else:
            begin = begin + (number - first) * CHUNK
            end = tl.where(number - first == parts - 1, end, begin + CHUNK)
            end = tl.where(is_in, end, begin)
    return number, row, length, first, begin, end, is_in


@triton.jit
def slots_of(begin, end, at, SLOTS: tl.constexpr):
    """Of each range the ``SLOTS`` slots from its slot ``at`` on, and which of them it has."""
    slot = begin[:, None] + at + tl.arange(0, SLOTS)[None, :]
    return slot, slot < end[:, None]


@triton.jit
def columns_of(tile, tiles, channels, BLOCK: tl.constexpr):
    """Head, channels, which of them there are, and columns of a tile; a head has ``tiles``."""
    head = tile // tiles
    inner = (tile % tiles) * BLOCK + tl.arange(0, BLOCK)
    return head, inner, inner < channels, head * channels + inner


@triton.jit
def batches_of(column, inner, stride):
    """Where columns lie whose batches have ``inner`` of them and are ``stride`` apart."""
    return column // inner * stride + column % inner


@triton.jit
def numbers_of(number_ptr, slot, is_slot):
    """The columns of slots, or the numbers of their edges, int64; their own where none are kept."""
    number = slot
    if number_ptr is not None:
        number = tl.load(number_ptr + slot, mask=is_slot, other=0).to(tl.int64)
    return number


def capturing(t: Tensor) -> bool:
    """Whether a CUDA graph is being made, which cannot wait for what the device finds."""
    return t.is_cuda and torch.cuda.is_current_stream_capturing()


def checked(ptr: Tensor, eid: Tensor | None, num_slots: int) -> Tensor:
    """The offsets, which may be a caller's own where no edge numbers come with them."""
    if eid is None and not capturing(ptr):
        check_indptr(ptr, num_slots)
    return ptr


@triton.jit
def factor_of(bits, ACC: tl.constexpr):
    """A float64 from its bits, ``[1]``: triton hands floats over as float32."""
    return (tl.zeros((1,), tl.int64) + bits).to(tl.float64, bitcast=True).to(ACC)


@triton.jit
def leaky(value, slope):
    """The LeakyReLU."""
    return tl.where(value > 0, value, value * slope)


def bits_of_float(value: float) -> int:
    """What :func:`factor_of` makes the float of."""
    return struct.unpack("<q", struct.pack("<d", value))[0]


class Shape(NamedTuple):
    """How many rows, slots of each and columns a program takes at once, and with how many warps."""

    ROWS: int
    SLOTS: int
    BLOCK: int
    num_warps: int = 4


tuned: dict[str, Shape] = {}
"""Shapes that :func:`graphkit.ops.triton.use_shapes` read, by :func:`shape_key`."""


def shape_key(op: str, width: int, size: int, num_rows: int, num_slots: int) -> str:
    """What shapes are tuned for: widths and mean degrees by powers of two, bytes of a value.

    Counts themselves are left out, so that a batch of another size finds the same shape.
    """
    degree = (num_slots // max(1, num_rows)).bit_length()
    return f"{op}, width {triton.next_power_of_2(max(1, width))}, {size} bytes, degree 2**{degree}"


def shape_of(width: int) -> Shape:
    block = min(COLUMNS, triton.next_power_of_2(max(1, width)))
    # each row takes registers of its own, beside what it holds
    return Shape(min(32, max(1, ELEMENTS // (SLOTS * block))), SLOTS, block)


def sums_in(dtype: torch.dtype) -> torch.dtype:
    """:func:`accumulator`; whole numbers are added up in 64 bits."""
    return accumulator(dtype) if dtype.is_floating_point else torch.int64


def acc_of(dtype: torch.dtype) -> Any:
    """:func:`sums_in` in triton's words."""
    return getattr(tl, str(sums_in(dtype)).removeprefix("torch."))


class Rows(NamedTuple):
    """The rows of a launch: offsets, the parts of long ones, and how many slots there are."""

    ptr: Tensor
    part: Tensor | None
    num_slots: int

    @property
    def num_rows(self) -> int:
        return self.ptr.numel() - 1

    @property
    def num_parts(self) -> int:
        return 0 if self.part is None else self.part.numel()

    def passes(self, *over_parts: int) -> list[tuple[int, int]]:
        """What to launch, and over how many: all rows, and if there are parts ``over_parts``."""
        found = [(WHOLE, self.num_rows)]
        return found if self.part is None else [*found, *((w, self.num_parts) for w in over_parts)]

    def partial(self, like: Tensor, width: int, dtype: torch.dtype | None = None) -> Tensor | None:
        """Room for a result of each part."""
        dtype = dtype or sums_in(like.dtype)
        return None if self.part is None else like.new_empty(self.num_parts, width, dtype=dtype)

    def tuned(self, op: str, width: int, like: Tensor, otherwise: Shape) -> Shape:
        """The shape that was tuned for such rows, or ``otherwise``."""
        if not tuned:
            return otherwise
        key = shape_key(op, width, like.element_size(), self.num_rows, self.num_slots)
        return tuned.get(key, otherwise)

    def constants(self) -> dict[str, int]:
        return {"CHUNK": CHUNK, "HUB": 0 if self.part is None else HUB}


def rows_of(ptr: Tensor, num_slots: int) -> Rows:
    """The rows with the parts of long ones, if there may be any."""
    ptr = ptr.contiguous()
    if num_slots < HUB or ptr.numel() < 2:
        return Rows(ptr, None, num_slots)
    part = ptr.new_empty(triton.cdiv(num_slots, CHUNK))
    launch(
        find_parts_kernel,
        triton.cdiv(part.numel(), _SEARCHED),
        *(ptr, part, ptr.numel() - 1, part.numel(), ptr.numel().bit_length()),
        CHUNK=CHUNK,
        HUB=HUB,
        BLOCK=_SEARCHED,
    )
    return Rows(ptr, part, num_slots)


def launch(kernel: Any, total: int, *arguments: Any, **constants: Any) -> None:
    """``total`` pieces of work, by ``CAP`` programs at most."""
    if total > 0:
        # products may be fused with sums, and triton wants to be told
        constants["enable_fp_fusion"] = True
        kernel[(min(total, CAP),)](*arguments, total, **constants)
