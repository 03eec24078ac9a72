"""What is kept comes back as it was, and nothing else is read."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latticewatch.errors import FileError
from latticewatch.messages import Note
from latticewatch.pipeline._pack import FAST, HEAD, Packer


@dataclass(frozen=True, slots=True, eq=False)
class Inner:
    name: str
    values: np.ndarray
    later: int = 7


@dataclass
class Outer:
    parts: tuple[Inner, ...]
    by_key: dict[tuple[int, int], float] = field(default_factory=dict)


class Pair(NamedTuple):
    left: object
    right: object


class Plain:
    def __init__(self, value):
        self.value = value
        self.cache = object()


PACKER = Packer((Inner, Outer, Pair, Plain), {("Plain", "cache"): dict})
ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int16, np.uint8, np.bool_, np.int64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.characters(categories=["Cs"]),
    ARRAYS,
    st.floats().map(np.float64),
)
KEYS = st.one_of(st.integers(), st.text(), st.tuples(st.integers(), st.integers()))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Plain, inner),
        st.lists(inner, max_size=3).map(lambda items: deque(items, maxlen=5)),
        st.builds(Inner, st.text(), ARRAYS, st.integers()),
    ),
    max_leaves=8,
)


def same(one, other) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple | list | deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Inner):
        return same((one.name, one.values, one.later), (other.name, other.values, other.later))
    if isinstance(one, Plain):
        return one.cache == {} and same(one.value, other.value)
    return one == other


@given(VALUES)
def test_a_value_comes_back_as_it_was(value):
    assert same(PACKER.unpack(PACKER.pack(value)), value)
    assert same(PACKER.unpack(PACKER.pack_fast(value)), value)


def test_an_object_that_occurs_twice_is_one_object_again():
    inner = Inner("x", np.arange(3))
    outer = PACKER.unpack(PACKER.pack(Outer((inner, inner), {(1, 2): 0.5})))
    assert outer.parts[0] is outer.parts[1]
    assert outer.by_key == {(1, 2): 0.5}


def test_an_array_lies_in_memory_as_it_did():
    rows = np.arange(12.0).reshape(3, 4)
    for array in (
        rows,
        rows.T,
        np.asfortranarray(rows),
        rows[:, 1:3],
        rows[:0].T,
        np.zeros((0, 3), order="F"),
    ):
        for pack in (PACKER.pack, PACKER.pack_fast):
            back = PACKER.unpack(pack(array))
            assert np.array_equal(back, array)
            assert back.flags.c_contiguous or back.flags.f_contiguous == array.flags.f_contiguous
            assert back.flags.f_contiguous or not array.flags.f_contiguous


def test_a_file_holds_the_same_bytes(tmp_path):
    value = {"a": np.arange(6.0).reshape(2, 3).T, "b": [np.float32(2), "text"]}
    with (tmp_path / "file").open("wb") as file:
        PACKER.write_fast(value, file)
    assert (tmp_path / "file").read_bytes() == PACKER.pack_fast(value)


def test_a_note_comes_back_as_one_that_can_be_copied():
    note = Note(code="no-lattice", text="None was found.", remedy="Look.")
    back = Packer((Note,)).unpack(Packer((Note,)).pack(note))
    assert back == note
    assert back.model_copy(update={"since_frame": 3}).since_frame == 3


def test_what_is_not_known_is_refused_both_ways():
    with pytest.raises(TypeError, match="not known"):
        PACKER.pack(io.BytesIO())
    with pytest.raises(TypeError, match="objects"):
        PACKER.pack(np.array([object()]))
    stranger = Packer((Inner,)).pack(Inner("x", np.zeros(1)))
    with pytest.raises(FileError, match="not known"):
        Packer((Outer,)).unpack(stranger)


def test_what_was_packed_under_an_earlier_name_is_read():
    old = rewritten(PACKER.pack(Plain(3)), lambda whole: whole["tree"].update({"class": "Simple"}))
    with pytest.raises(FileError, match="'Simple', which is not known"):
        PACKER.unpack(old)
    renamed = Packer((Plain,), {("Plain", "cache"): dict}, earlier={"Simple": Plain})
    assert same(renamed.unpack(old), PACKER.unpack(PACKER.pack(Plain(3))))
    assert renamed.pack(Plain(3)) == PACKER.pack(Plain(3))


def rewritten(data: bytes, change) -> bytes:
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    whole = json.loads(arrays["json"].tobytes())
    change(whole)
    arrays["json"] = np.frombuffer(json.dumps(whole).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_a_field_that_came_later_takes_its_default_and_one_that_went_is_passed_over():
    data = PACKER.pack(Inner("x", np.zeros(2), 3))

    def change(whole):
        del whole["tree"]["fields"]["later"]
        whole["tree"]["fields"]["gone"] = 5

    assert PACKER.unpack(rewritten(data, change)).later == 7
    with pytest.raises(FileError, match="Inner without name"):
        PACKER.unpack(rewritten(data, lambda whole: whole["tree"]["fields"].pop("name")))


@given(st.binary(max_size=200))
def test_damaged_bytes_are_refused_in_one_line(data):
    for pack in (PACKER.pack, PACKER.pack_fast):
        whole = pack({"a": np.arange(50)})
        for damaged in (data, whole[: len(data)], whole[:40] + data + whole[40 + len(data) :]):
            if damaged != whole:
                with contextlib.suppress(FileError):
                    PACKER.unpack(damaged)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_wrong_byte_of_what_was_packed_fast_is_seen(at, flip):
    whole = bytearray(PACKER.pack_fast({"a": np.arange(50), "b": "text"}))
    whole[at % len(whole)] ^= flip
    with pytest.raises(FileError):
        PACKER.unpack(bytes(whole))


def test_arrays_larger_than_the_bytes_take_no_memory():
    text = json.dumps(
        {"format": 1, "arrays": {"a0": ["<f8", [2**40]]}, "tree": {"array": "a0", "id": 0}}
    ).encode()
    whole = HEAD.pack(FAST, zlib.crc32(text), len(text)) + text
    with pytest.raises(FileError, match="damaged"):
        PACKER.unpack(whole)


def test_pickles_are_not_read():
    with pytest.raises(FileError):
        PACKER.unpack(pickle.dumps({"a": 1}))
    file = io.BytesIO()
    np.savez(file, json=np.array([{"format": 1}], object), allow_pickle=True)
    with pytest.raises(FileError):
        PACKER.unpack(file.getvalue())
