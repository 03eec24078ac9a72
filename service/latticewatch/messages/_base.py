"""The two kinds of message: ours, which are exact, and those of others, which we read with tolerance."""

from pydantic import BaseModel, ConfigDict


class Written(BaseModel):
    """A message that we write: frozen, and without a field that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Read(BaseModel):
    """A message that others write: frozen, unknown fields are kept and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)
