"""Three kinds of message: what a service is asked, which is exact; what we write; and what others write."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, WrapValidator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler


class Asked(BaseModel):
    """What a service is sent: frozen, and refused with a field that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Written(BaseModel):
    """What a service answers: frozen. A client reads it with this same model and keeps fields that it does not know.

    So a client goes on when the service is newer: an unknown field is an attribute like any other, and an unknown
    word where it knows only some (`known`) is kept as it is.
    """

    model_config = ConfigDict(frozen=True, extra="allow")


class Read(BaseModel):
    """A message that others write: frozen, unknown fields are kept and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


def _tolerant(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        if isinstance(value, str):
            return value
        raise


known = WrapValidator(_tolerant)
"""Beside a `Literal`: these are the words that we know, and another one passes."""
