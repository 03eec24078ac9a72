"""The wire format: what goes in comes out, and nothing that a peer sends raises anything but a WireError."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib

import lz4.block
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from threadpoolctl import threadpool_limits

from latticewatch.errors import FrameTooLargeError, WireError
from latticewatch.ingest._wire import MAX_HEADER_BYTES, WireFrame, decode
from latticewatch.messages import SeriesEnd, SeriesStart, encode_frame

DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "<u2", ">u2", ">i4", ">f4", "<f8"]
ENCODINGS = ["", "none", "lz4", "lz4+size", "bslz4", "bslz4+header", "zlib"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the receiver: bitshuffle's OpenMP team only spins here."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def pack(image: np.ndarray, encoding: str, block: int = 0) -> bytes:
    if encoding.startswith("lz4"):
        return lz4.block.compress(image.tobytes(), store_size=encoding == "lz4+size")
    if encoding == "zlib":
        return zlib.compress(image.tobytes())
    if encoding.startswith("bslz4"):
        size = image.dtype.itemsize
        bits = np.frombuffer(image.tobytes(), f"u{size}")
        header = struct.pack(">QI", image.nbytes, (block or 8192 // size) * size)
        bitshuffle = pytest.importorskip("bitshuffle", reason="published for some platforms only")
        payload = bitshuffle.compress_lz4(bits, block).tobytes()
        return (header if encoding == "bslz4+header" else b"") + payload
    return image.tobytes()


def message(image: np.ndarray, encoding: str = "", block: int = 0, **fields) -> list[bytes]:
    header = {"htype": "array-1.0", "type": image.dtype.str, "shape": image.shape, "frame": 3}
    header |= {"encoding": encoding.split("+")[0], **fields}
    return [json.dumps(header).encode(), pack(image, encoding, block)]


def decode_frame(parts, **limits) -> WireFrame:
    frame = decode(parts, **limits)
    assert isinstance(frame, WireFrame)
    return frame


def reason_of(parts, **limits) -> str:
    with pytest.raises(WireError) as caught:
        decode(parts, **limits)
    return caught.value.reason


@given(
    image=st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))
    ),
    encoding=st.sampled_from(ENCODINGS),
)
@settings(max_examples=200, deadline=None)
def test_every_dtype_shape_and_encoding_survives_the_wire(image: np.ndarray, encoding: str) -> None:
    received = decode_frame(message(image, encoding)).image
    assert received.dtype == image.dtype
    assert received.shape == image.shape
    assert received.tobytes() == image.tobytes()
    assert not received.flags.writeable


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", ["u1", "u2", ">u4", "f8"])
def test_a_frame_of_many_compression_blocks_survives_the_wire(rng, dtype: str, encoding: str) -> None:
    image = rng.poisson(40, (131, 257)).astype(dtype)
    assert np.array_equal(decode_frame(message(image, encoding)).image, image)


def test_bitshuffle_blocks_of_any_stated_size_are_read(rng) -> None:
    image = rng.poisson(40, (61, 67)).astype("u2")
    for block in (128, 512, 8192):
        assert np.array_equal(decode_frame(message(image, "bslz4+header", block)).image, image)
    assert reason_of(message(image, "bslz4+header", 64)) == "compressed"


@pytest.mark.parametrize("encoding", ["", "lz4", "zlib"])
def test_our_own_encoder_is_understood(rng, encoding: str) -> None:
    image = rng.normal(size=(20, 30)).astype(np.float32)
    frame = decode_frame(
        encode_frame(image, frame=7, series_id="a", msg_number=8, encoding=encoding, dwell_us=2.0)
    )
    assert np.array_equal(frame.image, image)
    assert (frame.header.frame, frame.header.series_id, frame.header.dwell_us) == (7, "a", 2.0)


def test_our_own_encoder_keeps_values_of_foreign_byte_order() -> None:
    image = np.arange(12, dtype=">u2").reshape(3, 4)
    assert np.array_equal(decode_frame(encode_frame(image, frame=0, series_id="", msg_number=0)).image, image)


def test_an_uncompressed_frame_is_not_copied() -> None:
    parts = message(np.zeros((64, 64), np.uint16))
    assert np.shares_memory(decode_frame(parts).image, np.frombuffer(parts[1], np.uint8))


def test_an_unaligned_buffer_becomes_an_aligned_image() -> None:
    image = np.arange(64, dtype=np.float64).reshape(8, 8)
    header, buffer = message(image)
    received = decode_frame([header, memoryview(b"\0" + buffer)[1:]]).image
    assert received.flags.aligned
    assert np.array_equal(received, image)


def test_aliases_are_understood() -> None:
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    header = {"dtype": "uint16", "shape": [1, 3, 4], "compression": "LZ4", "timestamp": 5.5}
    frame = decode_frame([json.dumps(header).encode(), pack(image, "lz4")])
    assert np.array_equal(frame.image, image)
    assert frame.header.shape == (3, 4)
    assert frame.header.timestamp == 5.5


def test_a_bool_frame_is_read_as_bytes() -> None:
    image = np.eye(4, dtype=bool)
    header = {"type": "bool", "shape": [4, 4]}
    received = decode_frame([json.dumps(header).encode(), image.tobytes()]).image
    assert received.dtype == np.uint8
    assert np.array_equal(received, image)


@pytest.mark.parametrize(
    ("htype", "shape"),
    [
        ('["array-1.0"]', "[4,3]"),
        ('"array-1.0"', "[3,4]"),
        ('["array-1.0"]', "[4,3,1]"),
        ('"array-1.0"', "[1,3,4]"),
        ('"chunk-1.0"', "[4,3]"),
        ('["chunk-1.0"]', "[4,3]"),
    ],
    ids=["before 1.4", "since 1.4", "three axes before 1.4", "three axes since 1.4", "chunk", "listed chunk"],
)
@pytest.mark.parametrize(
    ("ndattr", "ignored"),
    [
        ("{}", ()),
        ('{"ColorMode":0,"Gain":1.5}', ()),
        ('{"Gain":nan,"Bias":-inf}', ("ndattr",)),
        ('{"ColorMode":0,"Undefined":,"Name":"a {b}"}', ("ndattr",)),
    ],
)
def test_an_areadetector_message_is_read_as_its_plugin_writes_it(htype, shape, ndattr, ignored) -> None:
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    header = (
        f'{{"htype":{htype}, "type":"uint16", "shape":{shape}, "frame":12, "timeStamp":1132650892.5, '
        f'"encoding":"", "ndattr":{ndattr}}}'
    )
    frame = decode_frame([header.encode(), image.tobytes()])
    assert np.array_equal(frame.image, image)
    assert frame.header.timestamp == 1132650892.5 + 631152000
    assert (frame.header.frame, frame.ignored) == (12, ignored)


def test_areadetector_padding_behind_bitshuffled_blocks_is_ignored(rng) -> None:
    image = rng.poisson(3, (50, 60)).astype("u2")
    header, buffer = message(image, "bslz4")
    assert np.array_equal(decode_frame([header, buffer.ljust(image.nbytes, b"\0")]).image, image)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (b'{"htype":"header","series_id":"s","msg_number":0,"frames":null,"operator":"me"}', SeriesStart),
        (b'{"htype":"series_start","series_id":"s"}', SeriesStart),
        (b'{"htype":"series_end","series_id":"s","frames":9}', SeriesEnd),
    ],
)
def test_series_messages_come_alone_or_with_an_empty_buffer(text: bytes, model: type) -> None:
    for parts in ([text], [text, b""]):
        start_or_end = decode(parts)
        assert isinstance(start_or_end, model)
        assert start_or_end.series_id == "s"
    assert reason_of([text, b"x"]) == "parts"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "object"}, "dtype"),
        ({"type": "O"}, "dtype"),
        ({"type": "complex64"}, "dtype"),
        ({"type": "S2"}, "dtype"),
        ({"type": "u2,u2"}, "dtype"),
        ({"type": None}, "dtype"),
        ({"type": 5}, "dtype"),
        ({"type": "uint8"}, "size"),
        ({"shape": [4, 4, 4]}, "shape"),
        ({"shape": [16]}, "shape"),
        ({"shape": [0, 4]}, "shape"),
        ({"shape": [-1, 4]}, "shape"),
        ({"shape": [1 << 70, 4]}, "shape"),
        ({"shape": [65537, 1]}, "shape"),
        ({"shape": "4,4"}, "shape"),
        ({"shape": [], "fov_nm": [1, 1]}, "shape"),
        ({"shape": [4], "fov_nm": [None]}, "shape"),
        ({"shape": [65536, 65536]}, "size"),
        ({"shape": [4, 5]}, "size"),
        ({"encoding": "blosc"}, "encoding"),
        ({"htype": "array-2.0"}, "htype"),
        ({"htype": ["array-1.0", "x"]}, "htype"),
        ({"htype": {}}, "htype"),
    ],
)
def test_a_wrong_header_is_refused_with_a_reason(change: dict, reason: str) -> None:
    assert reason_of(message(np.zeros((4, 4), np.uint16), **change)) == reason


@pytest.mark.parametrize(
    "change",
    [
        {"frame": -1},
        {"frame": "x"},
        {"series_id": "x" * 257},
        {"series_id": "a\nb"},
        {"series_id": "\ud800"},
        {"series_id": ["a"]},
        {"msg_number": 1.5},
        {"pixel_size_nm": 0},
        {"pixel_size_nm": [0.01, 0.02]},
        {"pixel_size_nm": 1e9},
        {"pixel_size_nm": float("nan")},
        {"pixel_size_nm": float("inf")},
        {"fov_nm": "10 nm"},
        {"timeStamp": "yesterday"},
        {"timeStamp": "2026-03-01T10:00:00"},
        {"stage_nm": [1]},
        {"rotation_deg": {}},
        {"flip_x": "maybe"},
        {"detector": 7},
        {"scalars": [1, 2]},
    ],
)
def test_an_optional_field_that_cannot_be_read_costs_itself_and_not_the_frame(change: dict) -> None:
    image = np.arange(16, dtype=np.uint16).reshape(4, 4)
    frame = decode_frame(message(image, dwell_us=2.0, **change))
    assert np.array_equal(frame.image, image)
    assert frame.ignored == tuple(change)
    assert frame.header.dwell_us == 2.0
    assert (frame.pixel_size_nm, frame.header.timestamp, frame.header.stage_nm) == (None, None, None)


def test_a_date_with_its_zone_a_numbered_series_and_a_size_for_each_axis_are_understood() -> None:
    fields = {"timestamp": "2026-03-01T10:00:00+01:00", "series_id": 12, "pixel_size_nm": [0.02, 0.02]}
    frame = decode_frame(message(np.zeros((4, 8), "u1"), **fields))
    assert (frame.header.timestamp, frame.header.series_id, frame.pixel_size_nm) == (1772355600.0, "12", 0.02)
    assert frame.ignored == ()


def test_a_scalar_that_cannot_be_read_leaves_the_others() -> None:
    scalars = {"temperature_K": 300.5, "holder": "heating", "bias_V": [1], "gas": None}
    frame = decode_frame(message(np.zeros((4, 4), "u1"), scalars=scalars))
    assert frame.header.scalars == {"temperature_K": 300.5, "holder": "heating"}
    assert sorted(frame.ignored) == ["scalars.'bias_V'", "scalars.'gas'"]


def test_a_pixel_size_that_contradicts_the_field_of_view_is_not_used_without_a_word() -> None:
    image = np.zeros((4, 100), "u1")
    frame = decode_frame(message(image, pixel_size_nm=0.02, fov_nm=1.0))
    assert frame.pixel_size_nm == 0.02
    assert [note.code for note in frame.notes] == ["pixel-size-disagrees"]
    assert "0.02" in frame.notes[0].text
    assert "0.01" in frame.notes[0].text
    for fov_nm in (2.0, 0.02 * 99):
        assert decode_frame(message(image, pixel_size_nm=0.02, fov_nm=fov_nm)).notes == ()


def test_what_a_refused_frame_said_of_itself_is_kept() -> None:
    with pytest.raises(WireError) as caught:
        decode([message(np.zeros((4, 4), "u2"), series_id="a")[0], b"short"])
    assert (caught.value.fields["frame"], caught.value.fields["series_id"]) == (3, "a")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "parts"),
        ([b"{}", b"", b""], "parts"),
        ([b'{"type":"uint8","shape":[2,2]}'], "parts"),
        ([b"", b""], "header"),
        ([b"[]", b""], "header"),
        ([b"\xff\xfe", b""], "header"),
        ([b"[" * 60000, b""], "header"),
        ([b'{"frame":' + b"9" * 5000 + b"}", b""], "header"),
        ([b"{" + b" " * MAX_HEADER_BYTES + b"}", b""], "header"),
    ],
)
def test_a_message_that_is_no_frame_is_refused_with_a_reason(parts: list[bytes], reason: str) -> None:
    assert reason_of(parts) == reason


def test_a_frame_above_the_limit_is_refused_before_it_is_unpacked() -> None:
    bomb = lz4.block.compress(bytes(4 << 20), store_size=False)
    header = {"type": "uint8", "shape": [2048, 2048], "encoding": "lz4"}
    parts = [json.dumps(header).encode(), bomb]
    with pytest.raises(FrameTooLargeError, match="limit 1;"):
        decode(parts, max_frame_mib=1)
    assert decode_frame(parts, max_frame_mib=4).image.shape == (2048, 2048)


@pytest.mark.parametrize("encoding", ["lz4", "bslz4", "zlib"])
def test_a_short_block_cannot_claim_a_large_frame(encoding: str) -> None:
    header = {"type": "uint8", "shape": [16384, 16384], "encoding": encoding}
    assert reason_of([json.dumps(header).encode(), b"\x1f\0\1\0\xff"]) == "compressed"


@given(parts=st.lists(st.binary(max_size=200), max_size=3))
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_raise_nothing_but_a_wire_error(parts: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(parts)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "htype",
    "type",
    "dtype",
    "shape",
    "frame",
    "series_id",
    "encoding",
    "timeStamp",
    "fov_nm",
    "ndattr",
    "x",
]


@given(change=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), buffer=st.binary(max_size=64))
@settings(max_examples=250, deadline=None)
def test_any_json_header_raises_nothing_but_a_wire_error(change: dict, buffer: bytes) -> None:
    header = {"htype": "array-1.0", "type": "uint8", "shape": [4, 4]} | change
    with contextlib.suppress(WireError):
        decode([json.dumps(header).encode(), buffer])


@given(
    encoding=st.sampled_from(ENCODINGS),
    seed=st.integers(0, 99),
    edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4),
    cut=st.none() | st.integers(0, 5000),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_buffer_raises_nothing_but_a_wire_error(encoding, seed, edits, cut) -> None:
    image = np.random.default_rng(seed).poisson(9, (37, 61)).astype("u2")
    header, buffer = message(image, encoding)
    damaged = bytearray(buffer[:cut])
    for place, value in edits:
        if damaged:
            damaged[place % len(damaged)] = value
    with contextlib.suppress(WireError):
        assert decode_frame([header, bytes(damaged)]).image.shape == image.shape
