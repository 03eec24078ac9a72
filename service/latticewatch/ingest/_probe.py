"""What is at the other end of an address: nothing, something that speaks no ZeroMQ, or a socket of which kind.

A publisher and a service whose kinds of socket do not fit are silent for ever, on both sides. The handshake of ZMTP 3
(ZeroMQ RFC 23) tells the kind, so that it can be said.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from latticewatch.messages import Note

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
VERSION_ENDS = 12
TIMEOUT_S = 1.0
CURVE = "CURVE"
# Kinds of socket that speak to ours.
PARTNERS = {"sub": ("PUB", "XPUB"), "pull": ("PUSH",), "req": ("REP", "ROUTER")}
OPTION = {"sub": "--sub", "pull": "--pull", "req": "--req"}


@dataclass(frozen=True, slots=True)
class Peer:
    """What answers at an address.

    Attributes
    ----------
    listens : bool
        A connection was accepted.
    kind : str or None
        Of a ZeroMQ socket: PUB, PUSH, REP …; None where it speaks something else.
    why : str
        Why nothing listens.
    encrypts : bool
        It speaks ZeroMQ with CURVE alone, and says its kind only to whom it knows.
    """

    listens: bool
    kind: str | None = None
    why: str = ""
    encrypts: bool = False


def probe(endpoint: str, timeout_s: float = TIMEOUT_S) -> Peer | None:
    """Look at a ``tcp://HOST:PORT``; None for other addresses.

    Parameters
    ----------
    endpoint : str
    timeout_s : float
        For the connection, and for each answer.
    """
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not endpoint.startswith("tcp://") or not port.isdigit():
        return None
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as one:
            one.settimeout(timeout_s)
            kind = _kind(one)
            return Peer(True, encrypts=True) if kind == CURVE else Peer(True, kind)
    except TimeoutError:
        return Peer(False, why="no answer; a firewall, or a machine that is off")
    except OSError as error:
        return Peer(False, why=error.strerror or str(error))


def _kind(one: socket.socket) -> str | None:
    try:
        # Signature and version first: who wants another mechanism than ours hangs up when it reads that.
        one.sendall(GREETING[:VERSION_ENDS])
        greeting = _exactly(one, len(GREETING))
        if greeting[:1] != b"\xff":
            return None
        if greeting[12:32].rstrip(b"\0") == CURVE.encode():
            return CURVE
        one.sendall(GREETING[VERSION_ENDS:])
        flags, length = _exactly(one, 2)
        if flags != 4:  # a short command
            return None
        ready = _exactly(one, length)
    except OSError:
        return None
    name = b"Socket-Type"
    if not ready.startswith(b"\x05READY") or name not in ready:
        return None
    start = ready.index(name) + len(name)
    size = int.from_bytes(ready[start : start + 4], "big")
    kind = ready[start + 4 : start + 4 + size].decode("ascii", "replace")
    return kind if kind.isalpha() else None


def _exactly(one: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = one.recv(n - len(data))
        if not piece:
            raise ConnectionResetError("closed")
        data += piece
    return data


def silence_note(endpoint: str, ours: str, peer: Peer | None, *, encrypts: bool = False) -> Note | None:
    """Why nothing comes from an address, if it can be told.

    Parameters
    ----------
    endpoint : str
    ours : {"sub", "pull", "req"}
        The kind of our socket.
    peer : Peer or None
        What `probe` has found.
    encrypts : bool
        We do.
    """
    if peer is None:
        return None
    if not peer.listens:
        text = f"Nothing has come from {endpoint}: {peer.why}."
        remedy = (
            "Start the sender; check host, port and firewall. "
            "A sender that binds to 127.0.0.1 is heard on its own machine only."
        )
    elif peer.encrypts and encrypts:
        text = f"Nothing has come from {endpoint}: what is there encrypts (CURVE), and gives us nothing."
        remedy = "Start the acquisition; check that it knows our public key, and that ingest.curve_peers holds its own."
    elif peer.encrypts:
        text = f"Nothing can come from {endpoint}: what is there encrypts (CURVE), and this service does not."
        remedy = "Give ingest.curve_key and ingest.curve_peers."
    elif encrypts and peer.kind is not None:
        text = f"Nothing can come from {endpoint}: this service encrypts (CURVE), and the {peer.kind} there does not."
        remedy = "Give the sender a key, or leave out ingest.curve_key and ingest.curve_peers."
    elif peer.kind is None:
        text = f"Nothing has come from {endpoint}: what listens there speaks no ZeroMQ."
        remedy = "Check the port; a Merlin is attached as merlin://HOST:PORT."
    elif peer.kind not in PARTNERS[ours]:
        fitting = [OPTION[kind] for kind, partners in PARTNERS.items() if peer.kind in partners]
        text = f"Nothing can come from {endpoint}: it is a {peer.kind} socket, and this service uses {ours.upper()}."
        remedy = (
            f"Start the service with {fitting[0]}."
            if fitting
            else "Let the sender publish (PUB) or push (PUSH)."
        )
    else:
        text = f"Nothing has come from {endpoint} yet: a {peer.kind} socket is there, and sends nothing."
        remedy = "Start the acquisition."
    return Note(code="no-messages", text=text[:600], remedy=remedy)
