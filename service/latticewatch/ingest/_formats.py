"""Whatever a sender speaks: each message is taken for what it looks like, and read by who knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latticewatch.config import IngestSettings
from latticewatch.errors import WireError
from latticewatch.ingest._wire import Message, decode

DECTRIS_1 = (b'"dheader-1.0"', b'"dimage-1.0"', b'"dseries_end-1.0"')
# How bytes begin that are no format of ours, and what to do about them.
FOREIGN = (
    (
        b"\x80\x02",
        "a Python pickle",
        "a pickle runs code when it is read, and is never read; send the raw buffer",
    ),
    (
        b"\x80\x03",
        "a Python pickle",
        "a pickle runs code when it is read, and is never read; send the raw buffer",
    ),
    (
        b"\x80\x04",
        "a Python pickle",
        "a pickle runs code when it is read, and is never read; send the raw buffer",
    ),
    (
        b"\x80\x05",
        "a Python pickle",
        "a pickle runs code when it is read, and is never read; send the raw buffer",
    ),
    (b"\x89PNG", "a PNG file", "send the raw buffer behind a JSON header"),
    (
        b"\xff\xd8\xff",
        "a JPEG file",
        "send the raw buffer behind a JSON header; JPEG loses what is looked for",
    ),
    (b"II*\0", "a TIFF file", "send the raw buffer behind a JSON header"),
    (b"MM\0*", "a TIFF file", "send the raw buffer behind a JSON header"),
    (b"\x89HDF", "an HDF5 file", "send the raw buffer behind a JSON header"),
    (b"\x93NUMPY", "a .npy file", "send the raw buffer behind a JSON header"),
)


class Formats:
    """Reads the messages of one source, in any format.

    Parameters
    ----------
    settings : IngestSettings
    """

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._dectris = self._merlin = None
        self.name: str | None = None

    def decode(self, parts: Sequence[memoryview]) -> Iterator[Message | WireError]:
        """Read one message.

        Yields
        ------
        WireFrame, SeriesStart, SeriesEnd or WireError
            None, one or several; an error is something beside the message that cannot be used.

        Raises
        ------
        WireError
            The message cannot be read; its ``reason`` as in `latticewatch.ingest._wire.decode`.
        """
        head = bytes(parts[0][:256]) if parts else b""
        for magic, what, remedy in FOREIGN:
            if head.startswith(magic):
                raise WireError(f"{what}: {remedy}", "format")
        if head[:1] == b"{":
            if any(kind in head for kind in DECTRIS_1):
                yield from self._with_dectris("DECTRIS stream v1", parts)
                return
        elif head.startswith((b"HDR,", b"MQ1,")):
            from latticewatch.ingest._merlin import Merlin

            self.name = "Merlin"
            if self._merlin is None:
                settings = self._settings
                self._merlin = Merlin(
                    settings.virtual_detector, settings.images_are_frames, settings.max_frame_mib
                )
            yield from self._merlin.decode(parts[0])
            return
        elif parts and head:
            from latticewatch.ingest._dectris import is_stream2

            if is_stream2(parts):
                yield from self._with_dectris("DECTRIS stream v2", parts)
                return
            from latticewatch.ingest._karabo import decode_karabo, is_karabo

            if is_karabo(parts):
                self.name = "karabo bridge"
                yield decode_karabo(parts, self._settings.karabo_path, self._settings.max_frame_mib)
                return
        message = decode(parts, max_frame_mib=self._settings.max_frame_mib)
        self.name = "areaDetector" if b'"ndattr"' in bytes(parts[0]) else "JSON header and raw buffer"
        yield message

    def _with_dectris(self, name: str, parts: Sequence[memoryview]) -> Iterator[Message | WireError]:
        from latticewatch.ingest._dectris import Dectris

        self.name = name
        if self._dectris is None:
            settings = self._settings
            self._dectris = Dectris(
                settings.virtual_detector, settings.images_are_frames, settings.max_frame_mib
            )
        yield from self._dectris.decode(parts)
