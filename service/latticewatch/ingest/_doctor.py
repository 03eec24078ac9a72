"""Listens to an address for some seconds with every kind of socket, and says what comes and how to attach it."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field

from latticewatch.config import IngestSettings
from latticewatch.ingest._frame import Frame
from latticewatch.ingest._items import SeriesStarted
from latticewatch.ingest._probe import PARTNERS, probe, silence_note
from latticewatch.ingest._receiver import Receiver
from latticewatch.messages import FrameCounts, Note


@dataclass(slots=True)
class Heard:
    """What came through one kind of socket.

    Attributes
    ----------
    socket : str
        ``sub``, ``pull``, ``req`` or ``merlin``.
    format : str or None
        In which format, if it was recognised.
    fps : float or None
        Frames per second, from the second frame on.
    """

    socket: str
    format: str | None = None
    counts: FrameCounts = field(default_factory=FrameCounts)
    fps: float | None = None
    last: Frame | None = None
    detectors: set[str] = field(default_factory=set)
    sizes: set[tuple[int, ...]] = field(default_factory=set)
    series: list[str] = field(default_factory=list)
    notes: dict[str, Note] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an address gives.

    Attributes
    ----------
    source : str
    heard : Heard or None
        Through the socket through which most came; None where nothing did.
    notes : tuple of Note
        What is wrong, and what to do about it.
    command : str or None
        How to attach it.
    """

    source: str
    heard: Heard | None
    notes: tuple[Note, ...]
    command: str | None


def examine(source: str, seconds: float, settings: IngestSettings) -> Diagnosis:
    """Listen to an address.

    Parameters
    ----------
    source : str
    seconds : float
        How long [s].
    settings : IngestSettings
        For what a source needs beside its address, such as ``virtual_detector``.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ConfigurationError
        It is no address.
    """
    kinds = ("merlin",) if source.startswith("merlin://") else ("sub", "pull", "req")
    peer = None if kinds == ("merlin",) else probe(source)
    if peer is not None and peer.kind is not None:
        # One that fits, so that no other one is turned away in its log.
        kinds = tuple(kind for kind in kinds if peer.kind in PARTNERS[kind])
    heard = [Heard(kind) for kind in kinds]
    receivers = [_receiver(source, kind, settings) for kind in kinds]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_listen, args=(*pair, until), daemon=True)
        for pair in zip(receivers, heard, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    best = max(heard, key=lambda one: (one.counts.received, sum(one.counts.rejected.values())), default=None)
    if best is None or not (best.counts.received or best.counts.rejected):
        ours = "sub" if peer is None or peer.kind in (None, "PUB", "XPUB") else _ours(peer.kind)
        note = silence_note(source, ours, peer, encrypts=settings.curve_key is not None)
        return Diagnosis(source, None, () if note is None else (note,), None)
    option = "" if best.socket in ("sub", "merlin") else f" --{best.socket}"
    command = f"latticewatch serve --source {source}{option}"
    return Diagnosis(source, best, tuple(best.notes.values()), command if best.counts.received else None)


def _ours(kind: str) -> str:
    return next((ours for ours, partners in PARTNERS.items() if kind in partners), "sub")


def _receiver(source: str, kind: str, settings: IngestSettings) -> Receiver:
    socket = "sub" if kind == "merlin" else kind
    own = {"sources": (source,), "socket": socket, "bind": False, "mode": "latest", "queue_frames": 16}
    return Receiver(settings.model_copy(update=own)).start()


def _listen(receiver: Receiver, heard: Heard, until: float) -> None:
    first: float | None = None
    n = 0
    with contextlib.closing(receiver):
        while (left := until - time.monotonic()) > 0:
            item = receiver.get(min(left, 0.2))
            if isinstance(item, SeriesStarted):
                heard.series.append(item.series_id)
            if not isinstance(item, Frame):
                continue
            receiver.done(item)
            n += 1
            first = first or time.monotonic()
            heard.last = item
            heard.sizes.add(item.image.shape)
            if item.detector is not None:
                heard.detectors.add(item.detector)
            heard.notes |= {note.code: note for note in item.notes}
        counts = receiver.counts()
        took = 0.0 if first is None else time.monotonic() - first
        heard.fps = (n - 1) / took if n > 1 and took else None
        heard.counts, heard.format = counts, receiver.formats[0]
        heard.notes |= {note.code: note for note in receiver.notes()}
