"""Up to where a log was written, noted beside it: a log that was emptied or set back is noticed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import structlog

from latticewatch.errors import ConfigurationError

# Of a note, the blanks behind it included: less than any disk writes at once.
NOTE_BYTES = 128

log = structlog.get_logger(__name__)


class Seal:
    """Identifier and newest sequence number of a log, in a file beside it.

    Parameters
    ----------
    path : Path
        Of the log; the seal has its name with ``.seal`` behind it.

    Notes
    -----
    It is written after the log is on disk, and need not be there itself: after a power failure it is older than the log
    or gone, but never newer.
    """

    def __init__(self, path: Path) -> None:
        self._log = path
        self._path = path.with_name(path.name + ".seal")

    def check(self, stream: str, last_seq: int, was_empty: bool) -> None:
        """Compare with the log as it was found.

        Raises
        ------
        ConfigurationError
            The log was emptied, or is an older copy: numbers that clients have seen would come again with another
            meaning.
        """
        sealed = self._read()
        if sealed is None:
            return
        sealed_stream, sealed_seq = sealed
        if was_empty and sealed_seq:
            raise ConfigurationError(
                f"{self._log}: empty, though events up to {sealed_seq} were stored; put the file back, or remove it "
                f"and {self._path.name} to start a new event log"
            )
        if stream == sealed_stream and last_seq < sealed_seq:
            raise ConfigurationError(
                f"{self._log}: ends at event {last_seq}, though events up to {sealed_seq} were stored: an older copy; "
                f"put the newer one back, or move both it and {self._path.name} away to start a new event log"
            )
        if stream != sealed_stream:
            log.warning(
                "another event log than before", log=str(self._log), stream=stream, before=sealed_stream
            )

    def write(self, stream: str, last_seq: int) -> None:
        """Note up to where the log is written; a disk that is full keeps the older note.

        In the place of the older note and of the same length: a new file under the same name costs a millisecond or
        more on some file systems, and everybody who follows the log would wait for it.
        """
        note = json.dumps({"stream": stream, "seq": last_seq}).ljust(NOTE_BYTES).encode()
        how = "r+b" if self._path.exists() else "wb"
        with contextlib.suppress(OSError), self._path.open(how, buffering=0) as file:
            file.write(note)

    def _read(self) -> tuple[str, int] | None:
        try:
            sealed = json.loads(self._path.read_text(encoding="utf-8"))
            return str(sealed["stream"]), int(sealed["seq"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
