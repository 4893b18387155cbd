"""Golden bytes: what was once sent is decoded for ever, and nothing less than it is."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from schemas.codecs import CODECS, Codec, open_codec
from schemas.codecs.tables import pack_tables, unpack_tables
from schemas.errors import DecodeError, WireError
from schemas.messages import Status
from schemas.tensor import Array, TensorSpec
from tests.golden.store import FOLDER, Entry, Golden, read_index
from tests.schemas.samples import (
    CODEC_CASES,
    DECODERS,
    MESSAGES,
    PRESENCE,
    CodecCase,
    encode,
    plain,
)

_INDEX = read_index()
_WIRE = {name: entry for name, entry in _INDEX.items() if "message" in entry}
_CODEC = {name: entry for name, entry in _INDEX.items() if "codec" in entry}

_WORK = msgpack.unpackb(encode(MESSAGES["work_1"]))
_LATER: dict[str, tuple[str, bytes]] = {
    "work_with_a_later_item": ("work_1", msgpack.packb([*_WORK, {"trace": "ab"}])),
    "reply_with_a_later_item": (
        "reply_failed",
        msgpack.packb([*msgpack.unpackb(encode(MESSAGES["reply_failed"])), [1, 2]], use_single_float=True),
    ),
    "presence_with_a_later_key": (
        "presence",
        msgpack.packb({**PRESENCE.model_dump(mode="json"), "uptime": 3, "tags": ["a"]}),
    ),
    "outcome_with_a_later_key": ("outcome", b'{"later":[1],' + encode(MESSAGES["outcome"])[1:]),
}


def message_entry(name: str) -> Entry:
    return {"message": type(MESSAGES[name]).__name__, "decodes_to": plain(MESSAGES[name])}


def codec_entry(case: CodecCase, payload: bytes) -> Entry:
    decoded = case.codec.decode(payload)
    tables = {} if case.tables is None else {"tables": pack_tables(case.tables).hex()}
    return {
        **tables,
        **({"encoded_from": plain_hex(case.array)} if case.stable else {}),
        "codec": case.codec_id,
        "spec": case.spec.model_dump(mode="json"),
        "config": case.config,
        "tolerance": case.tolerance,
        "decodes_to": plain_hex(decoded),
    }


def plain_hex(array: Array) -> str:
    """Little-endian, in C order."""
    return array.astype(array.dtype.newbyteorder("<")).tobytes().hex()


def codec_of(entry: Entry) -> Codec:
    tables = unpack_tables(bytes.fromhex(entry["tables"])) if "tables" in entry else None
    return open_codec(entry["codec"], TensorSpec.model_validate(entry["spec"]), entry["config"], tables)


def decode_codec(entry: Entry, payload: bytes) -> Any:
    return codec_of(entry).decode(payload)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_still_makes_its_golden_bytes(name: str, golden: Golden) -> None:
    assert golden.bytes_of(f"{name}.bin", encode(MESSAGES[name]), message_entry(name)) == encode(MESSAGES[name])


@pytest.mark.parametrize("name", _LATER)
def test_a_message_of_a_later_release_decodes_without_what_is_new(name: str, golden: Golden) -> None:
    base, fresh = _LATER[name]
    data = golden.bytes_of(f"{name}.bin", fresh, message_entry(base))
    assert DECODERS[type(MESSAGES[base]).__name__](data) == MESSAGES[base]


@pytest.mark.parametrize("name", CODEC_CASES)
def test_a_codec_still_makes_its_golden_bytes(name: str, golden: Golden) -> None:
    case = CODEC_CASES[name]
    fresh = case.codec.encode(case.array)
    old = FOLDER / f"{name}.bin"
    reference = fresh if case.stable or not old.exists() else old.read_bytes()
    data = golden.bytes_of(f"{name}.bin", fresh, {**codec_entry(case, reference), **_pinned(case, name)})
    if case.stable:
        assert data == fresh


def _pinned(case: CodecCase, name: str) -> Entry:
    """What an image library of another release decodes is compared with tolerance, in the test below."""
    known = _INDEX.get(f"{name}.bin")
    return {"decodes_to": known["decodes_to"]} if known and case.tolerance else {}


@pytest.mark.parametrize("name", _WIRE)
def test_every_golden_message_decodes_to_what_the_index_says(name: str) -> None:
    """Fields that came later are not in the bytes: they have their defaults."""
    entry = _WIRE[name]
    message = DECODERS[entry["message"]]((FOLDER / name).read_bytes())
    decoded = plain(message)
    assert {field: decoded[field] for field in entry["decodes_to"]} == entry["decodes_to"]
    assert not message.model_fields_set - set(entry["decodes_to"])


@pytest.mark.parametrize("name", _CODEC)
def test_every_golden_payload_decodes_to_what_the_index_says(name: str) -> None:
    entry = _CODEC[name]
    spec = TensorSpec.model_validate(entry["spec"])
    decoded = spec.check(decode_codec(entry, (FOLDER / name).read_bytes()))
    told = np.frombuffer(bytes.fromhex(entry["decodes_to"]), np.dtype(spec.dtype).newbyteorder("<")).reshape(spec.shape)
    if entry["tolerance"]:
        assert np.abs(decoded.astype(int) - told.astype(int)).max() <= entry["tolerance"]
    else:
        assert decoded.tobytes() == told.tobytes()


@pytest.mark.parametrize("name", [name for name, entry in _CODEC.items() if "encoded_from" in entry])
def test_what_a_golden_payload_was_made_of_makes_it_again(name: str) -> None:
    entry = _CODEC[name]
    spec = TensorSpec.model_validate(entry["spec"])
    flat = np.frombuffer(bytes.fromhex(entry["encoded_from"]), np.dtype(spec.dtype).newbyteorder("<"))
    array = flat.astype(spec.dtype).reshape(spec.shape)
    assert codec_of(entry).encode(array) == (FOLDER / name).read_bytes()


def test_the_index_and_the_folder_name_the_same_files() -> None:
    assert sorted(_INDEX) == sorted(path.name for path in FOLDER.glob("*.bin"))


def test_every_status_message_and_codec_has_a_golden_file() -> None:
    assert {f"reply_{status.name.lower()}.bin" for status in Status} <= set(_INDEX)
    assert {entry["message"] for entry in _WIRE.values()} == set(DECODERS)
    assert {entry["codec"] for entry in _CODEC.values()} == set(CODECS)


def test_a_missing_golden_file_fails_unless_it_is_to_be_written() -> None:
    with pytest.raises(AssertionError, match="--write-golden"):
        Golden(write=False).bytes_of("of_tomorrow.bin", b"", {})


@pytest.mark.parametrize("name", _WIRE)
def test_every_prefix_of_a_golden_message_is_refused(name: str) -> None:
    # No exception is needed: msgpack states the number of items in front, and JSON ends with its brace.
    data = (FOLDER / name).read_bytes()
    for length in range(len(data)):
        with pytest.raises(WireError):
            DECODERS[_WIRE[name]["message"]](data[:length])


@pytest.mark.parametrize("name", _CODEC)
def test_every_prefix_of_a_golden_payload_is_refused(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode_codec(_CODEC[name], data[:length])


@pytest.mark.parametrize("name", [*_WIRE, *_CODEC])
def test_bytes_after_a_golden_file_are_refused(name: str) -> None:
    data = (FOLDER / name).read_bytes() + b"\x00"
    with pytest.raises(WireError):
        DECODERS[_WIRE[name]["message"]](data) if name in _WIRE else decode_codec(_CODEC[name], data)


def flips(data: bytes) -> list[bytes]:
    whole = int.from_bytes(data, "big")
    return [(whole ^ (1 << bit)).to_bytes(len(data), "big") for bit in range(8 * len(data))]


@pytest.mark.parametrize("name", _WIRE)
def test_a_flipped_bit_in_a_golden_message_decodes_or_is_a_wire_error(name: str) -> None:
    decode = DECODERS[_WIRE[name]["message"]]
    for data in flips((FOLDER / name).read_bytes()):
        try:
            decode(data)
        except WireError as error:
            assert str(error)  # noqa: PT017 - either outcome is right, another exception is not


@pytest.mark.parametrize("name", _CODEC)
def test_a_flipped_bit_in_a_golden_payload_gives_the_right_shape_or_is_a_decode_error(name: str) -> None:
    entry = _CODEC[name]
    codec = codec_of(entry)
    for data in flips((FOLDER / name).read_bytes()):
        try:
            assert list(codec.decode(data).shape) == entry["spec"]["shape"]
        except DecodeError as error:
            assert str(error)  # noqa: PT017
