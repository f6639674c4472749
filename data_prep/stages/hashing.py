"""Random numbers that depend on what they are for, not on when they are drawn.

A counter-based generator: every number is a hash of (seed, purpose, key, counter), so that a user's
split and negatives are the same in whatever bucket, order or worker they are computed.
"""

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stream(seed: int, purpose: str) -> int:
    """A 64-bit seed for one purpose, such as "split" or "negatives"."""
    digest = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def mix(keys: np.ndarray, seed: int) -> np.ndarray:
    """Hashes integers to uniform uint64 by SplitMix64 (Steele, Lea, Flood, 2014), element-wise."""
    with np.errstate(over="ignore"):
        # Wraps around: SplitMix64 is defined modulo 2^64.
        bits = np.asarray(keys).astype(np.uint64) + np.uint64(seed)
        bits = bits + _GOLDEN
        bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
        bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
        return bits ^ (bits >> np.uint64(31))


def unit(bits: np.ndarray) -> np.ndarray:
    """Turns hashes into floats, uniform in [0, 1)."""
    # A float64 holds 53 bits exactly: the upper ones.
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
