"""Nested objects of arrays, numbers and texts to bytes and back: npz with JSON in it, and never pickle.

What is stored with every event is not npz, whose archive costs more time than what is in it: `Packer.pack_fast`.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.lib import format as npy
from pydantic import BaseModel

from latticewatch.errors import FileError

FORMAT = 1
# What an archive may hold once it is unpacked [bytes].
MAX_BYTES = 512 * 2**20
MAX_ARRAYS = 100_000
MAX_DEPTH = 64
# What fast packing begins with: these letters, the checksum of all that follows and the length of the JSON, which is
# followed by the arrays, one behind another, each beginning at a multiple of so many bytes.
FAST = b"LWFP"
HEAD = struct.Struct("<4sIQ")
ALIGNED = 16
# An array of so many bytes is not sent again to where it is already.
LARGE_ARRAY = 1024

Buffer: TypeAlias = bytes | memoryview


class _Known(dict[str, type]):
    """Classes by their names; some are imported when they are first met."""

    def __init__(self, classes: Iterable[type], later: Mapping[str, str]) -> None:
        super().__init__({known.__name__: known for known in classes})
        self._later = later

    def get(self, name: str, default: Any = None) -> Any:
        """The class of a name."""
        if name not in self and name in self._later:
            self[name] = getattr(importlib.import_module(self._later[name]), name)
        return super().get(name, default)


class Packer:
    """Packs objects of known classes; everything else is refused, both ways.

    Parameters
    ----------
    classes : iterable of type
        Dataclasses, named tuples, pydantic models and plain classes; they are known by their names.
    left_out : mapping of (str, str) to callable, optional
        Attributes that are not packed, by class and name, and what makes them anew.
    later : mapping of str to str, optional
        Further classes and their modules, which are imported when an object of theirs is met.
    earlier : mapping of str to type, optional
        Names that classes had once: what was packed under them can still be read.

    Notes
    -----
    An object that occurs twice is packed once, and is one object again afterwards. A field that a class got later takes
    its default; a field that a class no longer has is passed over.
    """

    def __init__(
        self,
        classes: Iterable[type],
        left_out: Mapping[tuple[str, str], Any] | None = None,
        later: Mapping[str, str] | None = None,
        earlier: Mapping[str, type] | None = None,
    ) -> None:
        self._classes = _Known(classes, dict(later or {}))
        self._classes.update(earlier or {})
        self._left_out = dict(left_out or {})

    def pack(self, value: Any) -> bytes:
        """Bytes of a value.

        Raises
        ------
        TypeError
            It holds an object of a class that is not known.
        """
        tree, arrays = self._written(value)
        text = json.dumps({"format": FORMAT, "tree": tree}, allow_nan=False)
        arrays["json"] = np.frombuffer(text.encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    def pack_fast(self, value: Any) -> bytes:
        """Bytes of a value that nobody but this project reads, and that are made often.

        Raises
        ------
        TypeError
            It holds an object of a class that is not known.
        """
        parts, n_text = self.parts(value)
        body = b"".join(parts)
        return HEAD.pack(FAST, zlib.crc32(body), n_text) + body

    def write_fast(self, value: Any, file: BinaryIO) -> None:
        """The same, into a file, without copies of the arrays on the way.

        Parameters
        ----------
        value : object
        file : binary file
            Empty.

        Raises
        ------
        TypeError
            It holds an object of a class that is not known.
        """
        parts, n_text = self.parts(value)
        file.write(bytes(HEAD.size))
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
            file.write(part)
        file.seek(0)
        file.write(HEAD.pack(FAST, checksum, n_text))

    def parts(self, value: Any, known: Shared | None = None) -> tuple[list[Buffer], int]:
        """What `pack_fast` puts one behind another, for another process to read, see `value_of`.

        Parameters
        ----------
        value : object
        known : Shared, optional
            Objects that the other side has already are named, and those that it is to keep are told.

        Returns
        -------
        parts : list of buffer
            Of the arrays as they lie in memory, not copied where they lie together.
        n_text : int
            Length of the first, which says what the others are [bytes].

        Raises
        ------
        TypeError
            It holds an object of a class that is not known.
        """
        tree, arrays = self._written(value, known)
        about = {name: _laid_out(array) for name, array in arrays.items()}
        text = json.dumps({"format": FORMAT, "arrays": about, "tree": tree}, allow_nan=False).encode()
        parts: list[Buffer] = [text]
        size = len(text)
        for array in arrays.values():
            parts += [bytes(-size % ALIGNED), _bytes_of(array)]
            size += -size % ALIGNED + array.nbytes
        return parts, len(text)

    def value_of(self, data: Buffer, n_text: int, held: dict[int, Any] | None = None) -> Any:
        """The value that was packed in parts.

        Parameters
        ----------
        data : buffer
            The parts one behind another.
        n_text : int
            As `parts` gave it.
        held : dict of int to object, optional
            What was kept of values before; gets what is to be kept of this one.
        """
        whole, arrays = _fast_arrays(memoryview(data), n_text)
        return _Reader(self._classes, self._left_out, arrays, held).read(whole["tree"])

    def _written(self, value: Any, known: Shared | None = None) -> tuple[Any, dict[str, np.ndarray]]:
        arrays: dict[str, np.ndarray] = {}
        return _Writer(self._classes, self._left_out, arrays, known).write(value), arrays

    def unpack(self, data: bytes) -> Any:
        """The value that was packed.

        Raises
        ------
        FileError
            The bytes are damaged, of another version, or name a class that is not known.
        """
        try:
            whole, arrays = _unpacked_fast(data) if data[: len(FAST)] == FAST else _unpacked_archive(data)
            if whole["format"] != FORMAT:
                raise FileError(f"format {whole['format']}, expected {FORMAT}; update")
            return _Reader(self._classes, self._left_out, arrays).read(whole["tree"])
        except FileError:
            raise
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            OSError,
            EOFError,
            struct.error,
        ) as error:
            raise FileError(f"damaged: {error or type(error).__name__}") from error
        except (zipfile.BadZipFile, zlib.error, RecursionError, NotImplementedError) as error:
            raise FileError(f"not a model: {error or type(error).__name__}") from error


def _unpacked_archive(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """What `Packer.pack` wrote: the JSON, and the arrays by their names."""
    _check_sizes(data)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("json").tobytes().decode()), arrays


def _unpacked_fast(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """What `Packer.pack_fast` wrote: the JSON, and the arrays by their names."""
    _, checksum, n = HEAD.unpack_from(data)
    body = memoryview(data)[HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise FileError("damaged: the checksum is another one")
    return _fast_arrays(body, n)


def _fast_arrays(body: memoryview, n: int) -> tuple[Any, dict[str, np.ndarray]]:
    """The JSON, which is so long, and the arrays behind it by their names; copied."""
    whole = json.loads(bytes(body[:n]).decode())
    arrays, at = {}, n
    for name, (dtype, shape, *by_columns) in whole["arrays"].items():
        at += -at % ALIGNED
        kind, count = np.dtype(dtype), math.prod(shape)
        array = np.frombuffer(body, kind, count, at).copy()
        arrays[name] = array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)
        at += count * kind.itemsize
    return whole, arrays


def _by_columns(array: np.ndarray) -> bool:
    """Whether it lies in memory column by column: a product with it may differ in the last bit from one row by row."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def _laid_out(array: np.ndarray) -> tuple:
    """Type and shape of an array, and a word more where it lies column by column."""
    return array.dtype.str, array.shape, *(["F"] if _by_columns(array) else [])


def _bytes_of(array: np.ndarray) -> Buffer:
    """As they lie in memory, not copied where they lie together."""
    if not array.nbytes:
        return b""
    return np.ascontiguousarray(array.T if _by_columns(array) else array).reshape(-1).view(np.uint8).data


def _check_sizes(data: bytes) -> None:
    """Refuse arrays that are too large, or larger than what the archive holds, before memory is taken for them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        size = sum(entry.file_size for entry in entries)
        if size > MAX_BYTES or len(entries) > MAX_ARRAYS:
            raise FileError(
                f"{size} bytes in {len(entries)} arrays, expected at most {MAX_BYTES} in {MAX_ARRAYS}"
            )
        for entry in entries:
            with archive.open(entry) as member:
                version = npy.read_magic(member)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(member)
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                raise FileError(f"{entry.filename}: an array of shape {shape} in {entry.file_size} bytes")


def _is_named_tuple(known: type) -> bool:
    return issubclass(known, tuple) and hasattr(known, "_fields")


class Shared:
    """Objects that two processes both have: what one sends again is named, and stays one object at the other.

    Parameters
    ----------
    classes : tuple of type
        Objects that are to be kept, beside large arrays.
    kept : int
        An object that so many values in a row did not hold is let go.
    """

    def __init__(self, classes: tuple[type, ...], kept: int) -> None:
        self._classes, self._kept = classes, kept
        # by its address: the object, which keeps it, its number, and the last value that held it
        self._known: dict[int, tuple[Any, int]] = {}
        self._last: dict[int, int] = {}
        self._values = self._numbers = 0

    def begin(self) -> list[int]:
        """Another value; numbers of what is let go before it."""
        self._values += 1
        gone = {number for number, last in self._last.items() if last < self._values - self._kept}
        self._known = {key: one for key, one in self._known.items() if one[1] not in gone}
        for number in gone:
            del self._last[number]
        return sorted(gone)

    def number_of(self, value: Any) -> tuple[int | None, bool]:
        """Number of an object, and whether the other side has it; None where it is not to be kept."""
        if not isinstance(value, self._classes) and getattr(value, "nbytes", 0) < LARGE_ARRAY:
            return None, False
        there = id(value) in self._known
        if not there:
            self._known[id(value)] = value, self._numbers
            self._numbers += 1
        number = self._known[id(value)][1]
        self._last[number] = self._values
        return number, there


class _Writer:
    def __init__(
        self,
        classes: Mapping[str, type],
        left_out: Mapping,
        arrays: dict[str, np.ndarray],
        known: Shared | None = None,
    ) -> None:
        self._classes, self._left_out, self._arrays = classes, left_out, arrays
        self._shared = known
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []

    def write(self, value: Any, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise TypeError(f"nested more than {MAX_DEPTH} deep")
        number, there = (None, False) if self._shared is None else self._shared.number_of(value)
        if there:
            return {"held": number}
        tree = self._written(value, depth)
        return tree if number is None else {"hold": number, "value": tree}

    def _written(self, value: Any, depth: int) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value)
        if isinstance(value, str):
            odd = any("\ud800" <= letter <= "\udfff" for letter in value)
            return {"text": value.encode("utf-8", "surrogatepass").hex()} if odd else value
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        return self._composite(value, depth + 1)

    def _array(self, value: np.ndarray | np.generic) -> Any:
        if value.dtype.hasobject:
            raise TypeError("an array of objects cannot be packed")
        if isinstance(value, np.generic):
            name = f"a{len(self._arrays)}"
            self._arrays[name] = np.asarray(value)
            return {"scalar": name}
        if id(value) in self._seen:
            return {"same": self._seen[id(value)]}
        name = f"a{len(self._arrays)}"
        self._arrays[name] = value
        return {"array": name, "id": self._remember(value)}

    def _composite(self, value: Any, depth: int) -> Any:
        known = type(value)
        if known is tuple:
            return {"tuple": [self.write(item, depth) for item in value]}
        if known is list:
            return [self.write(item, depth) for item in value]
        if known is dict:
            return {"dict": [[self.write(k, depth), self.write(v, depth)] for k, v in value.items()]}
        if known in (set, frozenset):
            items = [self.write(item, depth) for item in sorted(value, key=repr)]
            return {known.__name__: items}
        if known is deque:
            return {"deque": [self.write(item, depth) for item in value], "maxlen": value.maxlen}
        if self._classes.get(known.__name__) is not known:
            raise TypeError(f"{known.__module__}.{known.__name__} cannot be packed: it is not known")
        if id(value) in self._seen:
            return {"same": self._seen[id(value)]}
        number = self._remember(value)
        content = {
            name: self.write(item, depth)
            for name, item in _attributes(value).items()
            if (known.__name__, name) not in self._left_out
        }
        return {"class": known.__name__, "id": number, "fields": content}

    def _remember(self, value: Any) -> int:
        # kept alive, so that no other object gets its id meanwhile
        self._alive.append(value)
        self._seen[id(value)] = len(self._seen)
        return self._seen[id(value)]


def _attributes(value: Any) -> dict[str, Any]:
    if _is_named_tuple(type(value)):
        return value._asdict()
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return dict(vars(value))


class _Reader:
    def __init__(
        self,
        classes: Mapping[str, type],
        left_out: Mapping,
        arrays: dict[str, np.ndarray],
        held: dict[int, Any] | None = None,
    ) -> None:
        self._classes, self._left_out, self._arrays = classes, left_out, arrays
        self._known: dict[int, Any] = {}
        self._held = {} if held is None else held

    def read(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.read(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        if "text" in tree:
            return bytes.fromhex(tree["text"]).decode("utf-8", "surrogatepass")
        if "float" in tree:
            return float(tree["float"])
        if "held" in tree:
            return self._held[tree["held"]]
        if "hold" in tree:
            self._held[tree["hold"]] = self.read(tree["value"])
            return self._held[tree["hold"]]
        if "scalar" in tree:
            return self._arrays[tree["scalar"]][()]
        if "array" in tree:
            self._known[tree["id"]] = self._arrays[tree["array"]]
            return self._known[tree["id"]]
        if "same" in tree:
            return self._known[tree["same"]]
        if "tuple" in tree:
            return tuple(self.read(item) for item in tree["tuple"])
        if "dict" in tree:
            return {self.read(k): self.read(v) for k, v in tree["dict"]}
        if "set" in tree:
            return {self.read(item) for item in tree["set"]}
        if "frozenset" in tree:
            return frozenset(self.read(item) for item in tree["frozenset"])
        if "deque" in tree:
            return deque((self.read(item) for item in tree["deque"]), tree["maxlen"])
        return self._object(tree)

    def _object(self, tree: dict[str, Any]) -> Any:
        known = self._classes.get(tree["class"])
        if known is None:
            raise FileError(f"holds a {tree['class']!r}, which is not known; update")
        if _is_named_tuple(known):
            made = known(**{name: self.read(item) for name, item in tree["fields"].items()})
            self._known[tree["id"]] = made
            return made
        if issubclass(known, BaseModel):
            made = known.model_construct(**{name: self.read(item) for name, item in tree["fields"].items()})
            self._known[tree["id"]] = made
            return made
        made = object.__new__(known)
        self._known[tree["id"]] = made
        given = {name: self.read(item) for name, item in tree["fields"].items()}
        if is_dataclass(known):
            given = {f.name: given[f.name] if f.name in given else _default(known, f) for f in fields(known)}
        for (owner, name), make in self._left_out.items():
            if owner == known.__name__:
                given[name] = make()
        for name, item in given.items():
            object.__setattr__(made, name, item)
        return made


def _default(known: type, field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise FileError(f"{known.__name__} without {field.name}; learn anew")
