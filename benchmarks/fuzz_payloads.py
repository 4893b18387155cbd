"""Hostile payloads out of valid ones: the same seed, number and valid payloads give the same bytes on every machine.

Where a file ends in a checksum or states its own length, half of the mutants are mended, so that what lies behind that
check is reached too.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

LONGEST_NOISE: Final = 65_536
_EDGES: Final = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
_MOST_FLIPS, _MOST_CHANGES, _MOST_REPEATS = 8, 16, 4
_LARGEST_SHARE: Final = (3, 4)
"""At most this part of a pool's payloads are truncations."""


class Pool(NamedTuple):
    """What the payloads for one codec configuration are made from."""

    own: tuple[bytes, ...]
    """Valid payloads; the first is the one that is cut off at every place."""
    siblings: tuple[bytes, ...]
    """Valid for the same codec in other configurations; `own` where it has no other."""
    strangers: tuple[bytes, ...]
    """Valid for other codecs."""
    format: str | None = None
    """Of image files: what `mended` mends."""


def truncations(pool: Pool, count: int) -> int:
    """How many of `count` payloads cut the first valid one off: one for each of its places when there is room."""
    return min(len(pool.own[0]), count * _LARGEST_SHARE[0] // _LARGEST_SHARE[1])


def payload(pool: Pool, key: str, index: int, count: int) -> bytes:
    """Number `index` of `count`: first the truncations, then the kinds in turn. `key` seeds it."""
    cuts = truncations(pool, count)
    if index < cuts:
        return pool.own[0][: index * len(pool.own[0]) // cuts]
    rng = random.Random(f"{key} {index}")
    kind = list(KINDS)[index % len(KINDS)]
    made = KINDS[kind](rng, pool)
    return mended(pool.format, made) if kind in _MENDED and rng.random() < 0.5 else made


def _flipped(rng: random.Random, pool: Pool) -> bytes:
    data = bytearray(rng.choice(pool.own))
    for _ in range(rng.randint(1, _MOST_FLIPS)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _changed(rng: random.Random, pool: Pool) -> bytes:
    """Bytes set to any value, or to those at which numbers wrap."""
    data = bytearray(rng.choice(pool.own))
    for _ in range(rng.randint(1, _MOST_CHANGES)):
        data[rng.randrange(len(data))] = rng.choice((rng.randrange(256), rng.choice(_EDGES)))
    return bytes(data)


def _spliced(rng: random.Random, pool: Pool) -> bytes:
    """The start of one and the end of another, in half of them of the length of the second."""
    first, second = rng.choice(pool.own), rng.choice(pool.own)
    start = rng.randrange(min(len(first), len(second)))
    return first[:start] + second[start if rng.random() < 0.5 else rng.randrange(len(second)) :]


def _repeated(rng: random.Random, pool: Pool) -> bytes:
    """A piece of it, or all of it, several times in a row."""
    data = rng.choice(pool.own)
    times = rng.randint(2, _MOST_REPEATS)
    if rng.random() < 0.25:
        return data * times
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[start:end] * times + data[end:]


def _noise(rng: random.Random, pool: Pool) -> bytes:
    """Random bytes, in half of them as many as a valid payload has."""
    return rng.randbytes(len(rng.choice(pool.own)) if rng.random() < 0.5 else rng.randint(0, LONGEST_NOISE))


def _of_a_sibling(rng: random.Random, pool: Pool) -> bytes:
    return _fitted(rng, rng.choice(pool.siblings), pool)


def _of_a_stranger(rng: random.Random, pool: Pool) -> bytes:
    return _fitted(rng, rng.choice(pool.strangers), pool)


def _fitted(rng: random.Random, data: bytes, pool: Pool) -> bytes:
    """As it is, or any part of it, repeated as needed, that is as long as a valid payload."""
    if rng.random() < 0.25:
        return data
    length, start = len(rng.choice(pool.own)), rng.randrange(len(data))
    return (data[start:] + data * (length // len(data) + 1))[:length]


def mended(format_: str | None, data: bytes) -> bytes:
    """With the checksums of its chunks, its length or its end mark put right, where the format has such."""
    if format_ == "png":
        return _with_checksums(data)
    if format_ == "webp":
        return data[:4] + max(0, len(data) - 8).to_bytes(4, "little") + data[8:]
    return data[:-2] + b"\xff\xd9" if format_ == "jpeg" else data


def _with_checksums(data: bytes) -> bytes:
    """A PNG file whose chunks say the CRC-32 of what they hold, as far as chunks can be followed."""
    out, place = bytearray(data), 8
    while (end := place + 8 + int.from_bytes(out[place : place + 4])) + 4 <= len(out):
        out[end : end + 4] = zlib.crc32(out[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(out)


KINDS: Final[dict[str, Callable[[random.Random, Pool], bytes]]] = {
    "bit flips": _flipped,
    "byte changes": _changed,
    "splices": _spliced,
    "repeats": _repeated,
    "random bytes": _noise,
    "another configuration's": _of_a_sibling,
    "another codec's": _of_a_stranger,
}
_MENDED: Final = frozenset({"bit flips", "byte changes", "splices", "repeats"})
