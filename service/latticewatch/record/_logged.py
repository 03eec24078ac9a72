"""An event as the log has it: text that was written once, and goes out as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from latticewatch.messages import EventType


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event on disk, in its envelope.

    Attributes
    ----------
    seq : int
        Sequence number.
    type : str
    time : str
        RFC 3339, UTC.
    text : str
        Its data, as JSON.
    stream, source : str
        Of the log.
    """

    seq: int
    type: EventType
    time: str
    text: str
    stream: str
    source: str

    @property
    def id(self) -> str:
        """``stream:seq``."""
        return f"{self.stream}:{self.seq}"

    @property
    def data(self) -> dict[str, Any]:
        """Its data, read from the text each time: for who looks into single events, as after a restart."""
        return json.loads(self.text)

    def json(self) -> str:
        """What `latticewatch.messages.Event` is as JSON; the data is taken over as it was written."""
        head = {
            "specversion": "1.0",
            "type": self.type,
            "source": self.source,
            "id": self.id,
            "stream": self.stream,
            "seq": self.seq,
            "time": self.time,
        }
        return f'{json.dumps(head, ensure_ascii=False, separators=(",", ":"))[:-1]},"data":{self.text}}}'
