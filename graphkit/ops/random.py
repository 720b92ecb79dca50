"""Random numbers that are a pure function of a seed and a counter, the same on every device.

Nothing is stored: whoever knows the seed draws the same numbers again, in any order and on any
number of threads. The function is splitmix64 (`Fast splittable pseudorandom number generators
<https://doi.org/10.1145/2714064.2660195>`_), whose ``n``-th output can be had by itself.
"""

# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 0xFFFFFFFF


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned word."""
    return word - 2**64 if word >= 2**63 else word


_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def as_word(word: int, device: torch.device | None = None) -> Tensor:
    """An unsigned ``word`` as a seed, int64 ``[]``."""
    return torch.tensor(_signed(word), device=device)


def shift_right(words: Tensor, by: int) -> Tensor:
    """Words shifted as unsigned ones."""
    # torch shifts the sign bit in, which the mask takes out again
    return (words >> by) & (2 ** (64 - by) - 1)


def _fold(z: Tensor, shift: int) -> Tensor:
    return z ^ shift_right(z, shift)


def draw_seed(device: torch.device) -> Tensor:
    """A seed, int64 ``[]``, from torch's own generator: ``torch.manual_seed`` rules it."""
    return torch.randint(2**63 - 1, (), device=device)


def random_words(seed: Tensor, counter: Tensor) -> Tensor:
    """64 random bits for each ``counter`` (int64), as int64."""
    # products and sums of int64 wrap around, as those of unsigned words do
    z = seed + (counter + 1) * _STEP
    return _fold(_fold(_fold(z, 30) * _FIRST, 27) * _SECOND, 31)


def random_word(seed: int, counter: int) -> int:
    """The word of one ``counter``, for seeds of seeds: whole numbers from 0 to 2**64 - 1."""
    z = (seed + (counter + 1) * _STEP) % 2**64
    z = (z ^ (z >> 30)) * _FIRST % 2**64
    z = (z ^ (z >> 27)) * _SECOND % 2**64
    return z ^ (z >> 31)


def below(words: Tensor, count: Tensor) -> Tensor:
    """Whole numbers from 0 to ``count - 1`` (``count`` < 2**62): the upper word of the product."""
    high, low = shift_right(words, 32), words & _HALF
    count_high, count_low = count >> 32, count & _HALF
    first, second = low * count_high, high * count_low
    middle = shift_right(low * count_low, 32) + (first & _HALF) + (second & _HALF)
    carried = shift_right(first, 32) + shift_right(second, 32) + (middle >> 32)
    return high * count_high + carried


def random_bits(seed: Tensor, counter: Tensor) -> Tensor:
    """32 random bits for each ``counter`` (int64), as int64 from 0 to 2**32 - 1."""
    return (random_words(seed, counter) >> 32) & _HALF


def random_bits_of_elements(seed: Tensor, count: int) -> Tensor:
    """32 random bits for elements 0 ... ``count - 1``, int64 ``[count]``: two for each word.

    Element ``2k`` takes the upper half of word ``k``, element ``2k + 1`` the lower.
    """
    words = random_words(seed, torch.arange((count + 1) // 2, device=seed.device))
    return torch.stack([words >> 32, words], 1).bitwise_and_(_HALF).flatten()[:count]


def keep_below(p: float) -> int:
    """What 32 random bits must stay below with probability ``1 - p``: from 0 to 2**32."""
    return round((1.0 - p) * 2**32)
