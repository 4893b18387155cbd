"""One of everything that is said, the same on every platform."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.codecs import Codec, Tables, open_codec
from schemas.codecs.entropy import Table, normalise
from schemas.codecs.priors import pack_prior
from schemas.messages import (
    Answer,
    DeadLetter,
    Outcome,
    Presence,
    PresenceState,
    Reply,
    Scores,
    Served,
    StageTimes,
    Stats,
    Status,
    Work,
)
from schemas.policy import PrivacyLevel, Route
from schemas.record import OpenRecord
from schemas.tensor import Array, FloatArray, TensorSpec
from schemas.wire import (
    decode_map,
    decode_outcome,
    decode_reply,
    decode_work,
    encode_map,
    encode_outcome,
    encode_reply,
    encode_work,
)

INTERFACE = bytes(range(1, 9))
OUTCOME = Outcome(
    node="cam-1",
    request="r-17",
    model="fashion",
    label=9,
    label_name="ankle boot",
    confidence=0.9375,
    source="cloud",
    route=Route.HYBRID_SPLIT,
    reason="the exit was not sure: 0.41 < 0.85",
    scores=Scores(privacy=0.25, latency=0.5, cost=0.75, complexity=1.0, edge_preference=0.575),
    privacy=PrivacyLevel.INTERNAL,
    escalated=True,
    cloud_status="ok",
    edge_version="1.4.0",
    cloud_version="1.4.2",
    interface="ab" * 32,
    attempts=2,
    payload_bytes=1553,
    bytes_up=3240,
    bytes_down=64,
    batch=4,
    cost=0.000123,
    deadline_ms=250.0,
    times_ms=StageTimes(preprocess=0.5, head=4.25, encode=1.125, cloud_wait=20.5, total=26.4),
)
STATS = Stats(
    kind="worker", id="w1", uptime_s=86_400.123, counters={"frames": 1 << 40, "late": 0}, gauges={"queue": 1e300}
)
PRESENCE = Presence(
    kind="worker",
    id="w1",
    session="s-0001",
    state=PresenceState.ONLINE,
    serves=(Served(model="fashion", line="1.4", version="1.4.2", interface="ab" * 32),),
    software="splitbus 0.1.0",
)
DEAD_LETTER = DeadLetter(
    worker="w1", topic="sb/w/fashion/1.4/cam-1", size=70_000, status=Status.BAD_FRAME, detail="over the cap"
)


def _replies() -> dict[str, OpenRecord]:
    answers = (Answer(label=7, confidence=0.75), Answer(label=65_535, confidence=0.0))
    ok = Reply(status=Status.OK, answers=answers, queue_us=1500, compute_us=4_000_000_000, batch=32)
    refused = {
        f"reply_{status.name.lower()}": Reply(status=status, queue_us=12, detail=f"because of {status.name}")
        for status in Status
        if status is not Status.OK
    }
    return {"reply_ok": ok, **refused}


MESSAGES: dict[str, OpenRecord] = {
    "work_1": Work(interface=INTERFACE, point=0, deadline_ms=250, payloads=(b"\x00\xff payload",)),
    "work_3": Work(interface=INTERFACE, point=255, deadline_ms=3_600_000, payloads=(b"", b"b" * 40, bytes(range(256)))),
    **_replies(),
    "presence": PRESENCE,
    "presence_offline": Presence(kind="edge", id="cam-1", session="s-2", state=PresenceState.OFFLINE),
    "stats": STATS,
    "dead_letter": DEAD_LETTER,
    "outcome": OUTCOME,
    "outcome_of_a_point": OUTCOME.model_copy(update={"point": 3}),
    "outcome_unscored": OUTCOME.model_copy(update={"scores": None, "source": "edge", "label_name": "Füße"}),
}


def encode(message: OpenRecord) -> bytes:
    """The wire bytes of any message."""
    if isinstance(message, Work):
        return encode_work(message)
    if isinstance(message, Reply):
        return encode_reply(message)
    return encode_outcome(message) if isinstance(message, Outcome) else encode_map(message)


DECODERS: dict[str, Callable[[bytes], OpenRecord]] = {
    "Work": decode_work,
    "Reply": decode_reply,
    "Outcome": decode_outcome,
    "Presence": lambda data: decode_map(Presence, data),
    "Stats": lambda data: decode_map(Stats, data),
    "DeadLetter": lambda data: decode_map(DeadLetter, data),
}


def plain(value: Any) -> Any:
    """A message as JSON holds it, with bytes in hex."""
    if isinstance(value, OpenRecord):
        return plain(value.model_dump(mode="python"))
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.value if isinstance(value, Status | PresenceState | Route | PrivacyLevel) else value


def lcg(count: int, seed: int = 1) -> list[int]:
    """Integers below 2**16 from a linear congruential generator: no library, no platform in it."""
    numbers = []
    for _ in range(count):
        seed = (seed * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        numbers.append(seed >> 15)
    return numbers


def normal(shape: tuple[int, ...], seed: int = 1) -> FloatArray:
    """Roughly normal values, mean 0, deviation about 1: sums of twelve uniform ones, exact in float32."""
    count = int(np.prod(shape))
    rows = np.array(lcg(12 * count, seed), dtype=np.int64).reshape(count, 12)
    values: FloatArray = ((rows.sum(axis=1) - 6 * 65_536) / 65_536.0).astype(np.float32)
    return values.reshape(shape)


def pixels(shape: tuple[int, ...], seed: int = 1) -> Array:
    """A smooth gradient with a little noise, as uint8."""
    noise = np.array(lcg(int(np.prod(shape)), seed), dtype=np.int64).reshape(shape) % 8
    picture: Array = (np.indices(shape).sum(axis=0) * 9 % 240 + noise).astype(np.uint8)
    return picture


SPEC = TensorSpec(dtype="float32", shape=(3, 2, 5))
GREY = TensorSpec(dtype="uint8", shape=(6, 7, 1))
COLOUR = TensorSpec(dtype="uint8", shape=(6, 7, 3))


def _nonfinite() -> FloatArray:
    array = normal(SPEC.shape, seed=3)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    array[2, 1, 4] = -0.0
    return array


TENSORS: dict[str, FloatArray] = {
    "constant": np.full(SPEC.shape, 0.625, np.float32),
    "nonfinite": _nonfinite(),
    "normal": normal(SPEC.shape),
}
AFFINE: dict[str, dict[str, Any]] = {
    "2bit": {"bits": 2, "scale": [1.5], "zero": [-2.25]},
    "3bit": {"bits": 3, "scale": [0.7, 0.9, 1.1], "zero": [-2.0, -3.0, 0.0]},
    "5bit": {"bits": 5, "scale": [0.1], "zero": [-1.0, 0.0, 1e-3]},
    "8bit": {"bits": 8, "scale": [0.01, 0.02, 0.03], "zero": [-1.3]},
}
INPUT: dict[str, dict[str, Any]] = {
    "png": {"format": "png"},
    "webp_lossless": {"format": "webp"},
    "webp_q80": {"format": "webp", "quality": 80},
    "jpeg_q90": {"format": "jpeg", "quality": 90},
    "avif_q60": {"format": "avif", "quality": 60},
    "zstd": {"format": "zstd"},
    "png_shrunk": {"format": "png", "shrink": [5, 4]},
    "webp_q80_shrunk": {"format": "webp", "quality": 80, "shrink": [3, 7]},
}


def halves(shape: tuple[int, ...], seed: int, most: int) -> FloatArray:
    """Halves between -most / 2 and most / 2: exact in float32, and so is what little arithmetic they get."""
    count = int(np.prod(shape))
    return (np.array(lcg(count, seed), np.int64) % (2 * most + 1) - most).astype(np.float32).reshape(shape) / 2


def _prior(count: int) -> Tables:
    """Tables of 3, 5, 7 and so on values about 0, each half as likely as its neighbour nearer to 0."""
    sides = [[1 << 12 >> size for size in range(index + 2)] for index in range(count)]
    return pack_prior([Table(1 - len(side), normalise([*side[:0:-1], *side, 1])) for side in sides])


TRANSFORM: Tables = {
    "mean": halves((3,), 1, 2),
    "rows": np.array([[0.75], [0.5]], np.float32),
    "columns": halves((4, 3), 2, 2),
    "band": np.array([[0, 1, 1, 1], [1, 1, 0, 1]], np.uint8),
    "weight": np.array([[1, 0.5, 0.75, 1.25], [2, 1, 0.5, 1]], np.float32),
    "quantiser": np.array([0.5, 0.4375, 0.0625], np.float32),
    "spread_component": np.array([[9, 5, 2], [6, 3, 1]], np.int16),
    "spread_frequency": np.array([[0, 1, -1, 0], [-2, 0, 1, -7]], np.int16),
    "forward": (2 * halves((2, 3, 3), 3, 9)).astype(np.int16),
    "forward_scale": np.array([0.25, 0.125], np.float32),
    "inverse": (2 * halves((2, 3, 3), 4, 9)).astype(np.int16),
    "inverse_scale": np.array([0.0625, 0.125], np.float32),
    **_prior(8),
}
"""Of codec transform for SPEC; no transform that anybody would fit, but one of every kind of number."""
BOTTLENECK: Tables = {
    "step": np.array([[0.25, 0.5, 0.375], [1, 0.75, 1.5]], np.float32),
    "index": np.array(lcg(60, 5), np.uint16).reshape(2, 3, 10) % 8,
    **_prior(8),
}


@dataclass(frozen=True)
class CodecCase:
    """A codec with its configuration and a tensor to encode."""

    name: str
    codec_id: str
    spec: TensorSpec
    config: dict[str, Any]
    array: Array
    tables: Tables | None = None

    @property
    def codec(self) -> Codec:
        return open_codec(self.codec_id, self.spec, self.config, self.tables)

    @property
    def stable(self) -> bool:
        """Whether every release of every library makes the same bytes."""
        return self.codec_id != "input"

    @property
    def tolerance(self) -> int:
        """Levels by which releases of an image library may differ when they decode or resize."""
        return 3 if {"quality", "shrink"} & set(self.config) else 0


def codec_cases() -> Iterator[CodecCase]:
    for tensor, array in TENSORS.items():
        yield CodecCase(f"minmax_u8_{tensor}", "minmax_u8", SPEC, {}, array)
        for name, config in AFFINE.items():
            yield CodecCase(f"affine_{name}_{tensor}", "affine", SPEC, config, array)
        for level in (-3, 0, 6):
            yield CodecCase(f"transform_{level}_{tensor}", "transform", SPEC, {"level": level}, array, TRANSFORM)
        for rate in (0, 1):
            yield CodecCase(f"bottleneck_{rate}_{tensor}", "bottleneck", SPEC, {"rate": rate}, array, BOTTLENECK)
    for name, config in INPUT.items():
        for colours, spec in (("grey", GREY), ("colour", COLOUR)):
            yield CodecCase(f"input_{name}_{colours}", "input", spec, config, pixels(spec.shape))
    yield CodecCase("input_zstd_float", "input", SPEC, INPUT["zstd"], TENSORS["nonfinite"])


CODEC_CASES = {case.name: case for case in codec_cases()}
