"""Whether an object that came from outside is what its class says: the types of its fields, all the way down."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from latticewatch.errors import FileError


def check_conforms(value: Any, wanted: Any, names: Mapping[str, type], where: str = "model") -> None:
    """Refuse what does not have the type that is wanted.

    Parameters
    ----------
    value : object
    wanted : type or annotation
        A dataclass is looked into, field by field.
    names : mapping of str to type
        Classes that annotations name without importing them.
    where : str
        Begins the message.

    Raises
    ------
    FileError
        Names the field, what it is and what was expected.
    """
    if is_dataclass(wanted):
        if type(value) is not wanted:
            raise _wrong(where, value, wanted.__name__)  # type: ignore[union-attr]
        hints = _hints(wanted, tuple(names.items()))  # type: ignore[arg-type]
        for one in fields(wanted):
            check_conforms(getattr(value, one.name), hints[one.name], names, f"{where}.{one.name}")
        return
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        _check_any(value, arguments, names, where)
    elif origin is Literal:
        if value not in arguments:
            raise _wrong(where, value, f"one of {', '.join(map(str, arguments))}")
    elif origin is np.ndarray:
        _check_array(value, arguments, where)
    elif origin is tuple:
        _check_tuple(value, arguments, names, where)
    elif origin is dict:
        if type(value) is not dict:
            raise _wrong(where, value, "a dictionary")
        for key, item in value.items():
            check_conforms(key, arguments[0], names, f"{where} key")
            check_conforms(item, arguments[1], names, f"{where}[{key!r}]")
    elif wanted is float:
        if isinstance(value, bool) or not isinstance(value, float | int | np.floating | np.integer):
            raise _wrong(where, value, "a number")
    elif wanted is int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise _wrong(where, value, "a whole number")
    elif isinstance(wanted, type) and not isinstance(value, wanted):
        raise _wrong(where, value, wanted.__name__)


@lru_cache(maxsize=64)
def _hints(wanted: type, names: tuple[tuple[str, type], ...]) -> dict[str, Any]:
    return get_type_hints(wanted, localns=dict(names))


def _check_any(value: Any, wanted: tuple[Any, ...], names: Mapping[str, type], where: str) -> None:
    problems = []
    for one in wanted:
        try:
            check_conforms(value, one, names, where)
        except FileError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def _check_array(value: Any, arguments: tuple[Any, ...], where: str) -> None:
    dtype: Any = (get_args(arguments[1]) or (Any,))[0]
    if not isinstance(value, np.ndarray):
        raise _wrong(where, value, "an array")
    if dtype is not Any and not issubclass(value.dtype.type, dtype):
        raise FileError(f"{where}: an array of {value.dtype}, expected {dtype.__name__}")


def _check_tuple(value: Any, arguments: tuple[Any, ...], names: Mapping[str, type], where: str) -> None:
    if not isinstance(value, tuple):
        raise _wrong(where, value, "a tuple")
    each = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
    if len(each) != len(value):
        raise FileError(f"{where}: {len(value)} values, expected {len(each)}")
    for k, (item, wanted) in enumerate(zip(value, each, strict=True)):
        check_conforms(item, wanted, names, f"{where}[{k}]")


def _wrong(where: str, value: Any, expected: str) -> FileError:
    return FileError(f"{where}: a {type(value).__name__}, expected {expected}")
