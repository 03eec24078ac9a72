"""Messages of every format, damaged at random, through everything that reads them. ``--faults N`` sends N of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import cbor2
import lz4.block
import msgpack
import numpy as np
import pytest
import structlog

import _vendors as vendors
from latticewatch.config import IngestSettings, VirtualDetector
from latticewatch.errors import WireError
from latticewatch.ingest import Receiver
from latticewatch.ingest._karabo import decode_karabo
from latticewatch.ingest._merlin import Merlin
from latticewatch.messages import FrameHeader, SeriesEnd, encode_frame, encode_json

IMAGE = np.random.default_rng(0).poisson(9, (24, 32)).astype(np.uint16)
# Values that are no numbers, too large, or of another kind.
ODD = [
    0,
    -1,
    2**63,
    1e308,
    True,
    None,
    "",
    "x" * 300,
    [],
    [1],
    {},
    [2**31, 2**31],
    "\x00",
    "float64",
    [[]],
    "lz4",
]
# Damage that asks for more than it sends is refused before memory is taken for it.
MAX_MIB = 1
# Memory may grow by so much from a fifth of the way to its end; of a short way, allocators say little.
GROWTH, LONG = 1.05, 100_000

# A line for each refusal, drawn in colours, takes longer than to refuse.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("CRITICAL"))

pytestmark = pytest.mark.timeout(0)


def native() -> list[list[bytes]]:
    """Frames as we document them, their encodings, starts and ends, and the dialects of areaDetector."""
    plain = [bytes(part) for part in encode_frame(IMAGE, frame=3, series_id="a", msg_number=4)]
    rich = encode_frame(
        IMAGE,
        frame=4,
        series_id="a",
        msg_number=5,
        pixel_size_nm=0.02,
        stage_nm=[1.0, 2.0],
        scalars={"temperature_K": 300.0, "gas": "Ar"},
        detector="HAADF",
    )
    packed = {**json.loads(plain[0]), "encoding": "lz4"}
    older = {"htype": ["array-1.0"], "type": "uint16", "shape": [32, 24], "frame": 7, "ndattr": {"Gain": 1}}
    return [
        plain,
        [bytes(part) for part in rich],
        [json.dumps(packed).encode(), lz4.block.compress(IMAGE.tobytes(), store_size=False)],
        [json.dumps(older).encode(), IMAGE.tobytes()],
        [b'{"htype":"header","series_id":"a","msg_number":0,"frames":null}'],
        [encode_json(SeriesEnd(series_id="a", frames=9))],
    ]


def foreign() -> list[list[bytes]]:
    """What DECTRIS and Merlin detectors and a karabo bridge send."""
    pattern = vendors.diffraction(5)
    train = [
        {"source": "A", "content": "msgpack", "ignored_keys": [], "metadata": {"timestamp.tid": 5}},
        {"x": 1.5},
    ]
    array = {
        "source": "A",
        "content": "array",
        "path": "image",
        "dtype": "uint16",
        "shape": list(IMAGE.shape),
    }
    return [
        vendors.dectris1_start(1, 6),
        vendors.dectris1_image(1, 0, pattern),
        vendors.dectris1_image(1, 1, pattern, "lz4<"),
        vendors.dectris1_end(1),
        vendors.stream2_start(2, 6, ["threshold_1"]),
        vendors.stream2_image(2, 0, {"threshold_1": pattern}),
        vendors.stream2_image(2, 1, {"threshold_1": pattern}, "lz4"),
        vendors.stream2_end(2),
        [vendors.merlin_start(6).split(b",", 2)[2]],
        [vendors.merlin_image(1, pattern).split(b",", 2)[2]],
        [*(msgpack.packb(part) for part in (*train, array)), IMAGE.tobytes()],
    ]


def in_json(parts: list[bytes], rng: random.Random) -> list[bytes]:
    """One field of a JSON part is another, or gone."""
    which = rng.randrange(len(parts))
    try:
        fields = json.loads(parts[which])
    except ValueError:
        return in_bytes(parts, rng)
    if not isinstance(fields, dict) or not fields:
        return in_bytes(parts, rng)
    name = rng.choice([*fields, *FrameHeader.model_fields, "htype"])
    if rng.random() < 0.2:
        fields.pop(name, None)
    else:
        fields[name] = rng.choice(ODD)
    return [*parts[:which], json.dumps(fields).encode(), *parts[which + 1 :]]


def in_cbor(parts: list[bytes], rng: random.Random) -> list[bytes]:
    """One entry of a CBOR map is another."""
    try:
        fields = cbor2.loads(parts[0])
        fields = getattr(fields, "value", fields)
        fields[rng.choice(list(fields))] = rng.choice(ODD)
        return [cbor2.dumps(fields)]
    except Exception:  # noqa: BLE001 - not CBOR, whatever it is then
        return in_bytes(parts, rng)


def in_bytes(parts: list[bytes], rng: random.Random) -> list[bytes]:
    """Some bytes of a part are others, gone, or there twice."""
    which = rng.randrange(len(parts))
    data = bytearray(parts[which])
    for _ in range(rng.choice((1, 1, 1, 4, 30))):
        if not data:
            break
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                del data[place : place + rng.choice((1, 2, 50, len(data)))]
            case _:
                data[place:place] = data[place : place + rng.choice((1, 4, 100))]
    return [*parts[:which], bytes(data), *parts[which + 1 :]]


def in_parts(parts: list[bytes], rng: random.Random) -> list[bytes]:
    """A part is missing, is there twice, or in another place."""
    parts = list(parts)
    match rng.randrange(3):
        case 0:
            parts.pop(rng.randrange(len(parts)))
        case 1:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        case _:
            rng.shuffle(parts)
    return parts


DAMAGES: list[Callable[[list[bytes], random.Random], list[bytes]]] = [
    in_json,
    in_json,
    in_cbor,
    in_bytes,
    in_bytes,
    in_parts,
]


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.parametrize("as_frames", [False, True], ids=["diffraction", "frames"])
def test_whatever_is_sent_is_read_or_refused_and_costs_no_memory(request, as_frames):
    n = (request.config.getoption("--faults") or 6_000) // 2
    settings = IngestSettings(
        max_frame_mib=MAX_MIB,
        images_are_frames=as_frames,
        virtual_detector=None if as_frames else VirtualDetector(scan=(2, 3), inner_px=5, outer_px=9),
    )
    receiver, rng = Receiver(settings), random.Random(as_frames)
    receiver.endpoints = settings.sources
    messages = native() + foreign()
    early = 0.0
    for sent in range(n):
        parts = list(rng.choice(messages))
        for _ in range(rng.choice((0, 1, 1, 2))):
            parts = rng.choice(DAMAGES)(parts, rng) or [b""]
        receiver._read(0, [memoryview(part) for part in parts])
        while (item := receiver.get(0)) is not None:
            if hasattr(item, "ordinal"):
                receiver.done(item)
        if sent == n // 5:
            early = resident_mib()
    counts = receiver.counts()
    late = resident_mib()
    request.config.get_terminal_writer().line(
        f"\n{n} messages: {counts.received} frames, {sum(counts.rejected.values())} refused "
        f"({len(counts.rejected)} reasons), memory {early:.0f} → {late:.0f} MiB"
    )
    # a fault of our own
    assert "internal" not in counts.rejected
    assert counts.received == counts.analysed + sum(counts.dropped.values())
    # both happen, or the test tests nothing
    assert min(counts.received, sum(counts.rejected.values())) > n // 20
    if n >= LONG:
        assert late <= GROWTH * early


def test_a_karabo_image_whose_header_names_no_source_is_read():
    # found by the test above after 10,000 messages
    array = {"content": "array", "path": "image", "dtype": "uint16", "shape": list(IMAGE.shape)}
    train = [msgpack.packb(array), IMAGE.tobytes()]
    frame = decode_karabo([memoryview(part) for part in train], None, MAX_MIB)
    assert np.array_equal(frame.image, IMAGE)
    assert frame.header.series_id == ""


def test_a_merlin_header_that_ends_before_it_says_what_the_pixels_are_is_refused():
    # found by the test above after 288,143 messages
    with pytest.raises(WireError, match="cannot be read") as refused:
        list(Merlin(None, True, MAX_MIB).decode(memoryview(b"MQ1,000001,00384,01,0001,00")))
    assert refused.value.reason == "header"
