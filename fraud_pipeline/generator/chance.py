"""Keyed random numbers: every draw is a pure function of the seed and of its purpose.

Belongs here: how seeds become numbers. Must not be here: the meaning of the numbers. There are two kinds: a `numpy`
generator for a batch (a day, a period), and counter-based draws for single rows. A row is the same in every batch that
computes it.
"""

from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from fraud_pipeline.schema.transactions import DAY

_MASK: Final = (1 << 64) - 1


def batch_generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Generator for one batch of draws, independent of every other (purpose, key)."""
    entropy = np.random.SeedSequence([seed, crc32(purpose.encode()), *key])
    return np.random.Generator(np.random.PCG64(entropy))


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bijection on 64-bit words that looks random: the splitmix64 finaliser (Steele, Lea and Flood, 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def word(seed: int, purpose: str) -> np.uint64:
    """The 64-bit word that stands for (seed, purpose)."""
    text = np.array([(seed * 0x100000001B3 + crc32(purpose.encode())) & _MASK], dtype=np.uint64)
    return np.uint64(mix(text)[0])


def keys(seed: int, purpose: str, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Distinct 64-bit keys of distinct non-negative numbers, shape (n,)."""
    return mix(numbers.astype(np.uint64) ^ word(seed, purpose))


def uniform(row_keys: NDArray[np.uint64], lane: str) -> NDArray[np.float64]:
    """One number in (0, 1) per key, shape (n,); lanes are independent of each other."""
    bits = mix(row_keys ^ word(0, lane)) >> np.uint64(11)
    return np.asarray((bits.astype(np.float64) + 0.5) * 2.0**-53)


def normal(row_keys: NDArray[np.uint64], lane: str) -> NDArray[np.float64]:
    """One standard normal number per key, shape (n,)."""
    return np.asarray(ndtri(uniform(row_keys, lane)))


def late_microseconds(
    rng: np.random.Generator, count: int, *, median_days: float, spread: float, longest_days: float
) -> NDArray[np.int64]:
    """Log-normal delays below `longest_days`, shape (count,); truncated, not clipped, so none pile up at the end."""
    z = ndtri(rng.random(count) * ndtr(np.log(longest_days / median_days) / spread))
    return np.asarray(median_days * np.exp(spread * z) * DAY).astype(np.int64)
