from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.codecs
from schemas.codecs import CODECS, open_codec
from schemas.errors import ConfigError, DecodeError, TensorError
from tests.schemas.samples import CODEC_CASES, COLOUR, SPEC, CodecCase

_FOLDER = Path(schemas.codecs.__file__).parent
_FILES = sorted(path.stem for path in _FOLDER.glob("*.py") if "    id: ClassVar[str] = " in path.read_text("utf-8"))
"""Modules that define a codec, registered or not; the others only help them."""

_number = st.floats() | st.integers() | st.text()
_setting = st.none() | _number | st.lists(_number, max_size=3)
cases = pytest.mark.parametrize("case", CODEC_CASES.values(), ids=CODEC_CASES)


def test_every_codec_file_is_registered_under_its_own_name() -> None:
    assert sorted(CODECS) == _FILES
    for name, codec in CODECS.items():
        assert codec.id == name
        assert codec.__module__ == f"schemas.codecs.{name}"


@pytest.mark.parametrize("name", _FILES)
def test_every_codec_file_says_what_its_payload_is(name: str) -> None:
    doc = importlib.import_module(f"schemas.codecs.{name}").__doc__ or ""
    assert doc.startswith(f"`{name}`: ")
    assert "payload" in doc.lower()


@pytest.mark.parametrize("codec_id", ["", "AFFINE", "affine ", "zip", "__class__"])
def test_an_unknown_codec_is_refused_with_those_there_are(codec_id: str) -> None:
    with pytest.raises(ConfigError, match=r"this release knows affine, .*minmax_u8"):
        open_codec(codec_id, SPEC, {})


@cases
def test_a_payload_keeps_its_promised_size_and_gives_the_spec_back(case: CodecCase) -> None:
    payload = case.codec.encode(case.array)
    assert 0 < len(payload) <= case.codec.max_payload
    assert case.spec.check(case.codec.decode(payload)).flags.writeable


@cases
def test_encoding_leaves_its_array_as_it_was_and_does_not_care_for_memory_order(case: CodecCase) -> None:
    before = case.array.tobytes()
    payload = case.codec.encode(case.array)
    assert case.array.tobytes() == before
    assert case.codec.encode(np.asfortranarray(case.array)) == payload
    readonly = case.array.copy()
    readonly.flags.writeable = False
    assert case.codec.encode(readonly) == payload


@cases
def test_an_array_of_another_dtype_or_shape_is_refused(case: CodecCase) -> None:
    for wrong in (case.array.astype(np.float64), case.array[None], case.array[:1], case.array.ravel()):
        with pytest.raises(TensorError):
            case.codec.encode(wrong)


@pytest.mark.parametrize("case", [case for case in CODEC_CASES.values() if case.config.get("format") != "zstd"])
def test_a_spec_that_the_codec_cannot_take_is_a_config_error(case: CodecCase) -> None:
    spec = COLOUR if case.spec == SPEC else SPEC
    with pytest.raises(ConfigError, match=f"codec {case.codec_id}"):
        open_codec(case.codec_id, spec, case.config, case.tables)


@cases
def test_tables_are_refused_where_none_are_needed_and_needed_where_they_are(case: CodecCase) -> None:
    needed = CODECS[case.codec_id].needs_tables
    assert needed == (case.tables is not None)
    message = "needs tables; name the file" if needed else "takes no tables; leave the operating point's tables out"
    with pytest.raises(ConfigError, match=f"codec {case.codec_id} {message}"):
        open_codec(case.codec_id, case.spec, case.config, None if needed else {})


@pytest.mark.parametrize("codec_id", CODECS)
@given(
    config=st.dictionaries(
        st.sampled_from(["bits", "scale", "zero", "format", "quality", "shrink", "level", "rate", "x"]), _setting
    )
)
def test_any_configuration_works_or_is_a_config_error(codec_id: str, config: dict[str, Any]) -> None:
    tables = next(case.tables for case in CODEC_CASES.values() if case.codec_id == codec_id)
    for spec in (SPEC, COLOUR):
        try:
            codec = open_codec(codec_id, spec, config, tables)
        except ConfigError:
            continue
        assert spec.check(codec.decode(codec.encode(np.zeros(spec.shape, spec.dtype)))).shape == spec.shape


@cases
@given(payload=st.binary(max_size=400))
def test_random_bytes_are_a_tensor_or_a_decode_error(case: CodecCase, payload: bytes) -> None:
    try:
        case.spec.check(case.codec.decode(payload))
    except DecodeError as error:
        assert str(error)  # noqa: PT017


@cases
@given(data=st.data())
def test_a_changed_byte_is_a_tensor_or_a_decode_error(case: CodecCase, data: st.DataObject) -> None:
    payload = bytearray(case.codec.encode(case.array))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        case.spec.check(case.codec.decode(bytes(payload)))
    except DecodeError as error:
        assert str(error)  # noqa: PT017
