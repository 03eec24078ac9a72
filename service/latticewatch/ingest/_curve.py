"""Key files in; sockets of ZeroMQ that encrypt, and that let in known keys alone.

CurveZMQ (ZeroMQ RFC 26): whoever binds is the server, whose key those who connect must know; both ends have a pair of
keys of their own. The files are those of pyzmq, ``NAME.key`` and ``NAME.key_secret``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import structlog
import zmq
from zmq.auth import load_certificate
from zmq.auth.thread import ThreadAuthenticator

from latticewatch.config import IngestSettings
from latticewatch.errors import ConfigurationError

PUBLIC, SECRET = ".key", ".key_secret"
# Length of a key in Z85.
KEY_CHARS = 40
DOMAIN = "latticewatch"
REMEDY = "`latticewatch keys curve --out NAME` makes such a pair"

log = structlog.get_logger(__name__)


def write_pair(name: Path) -> tuple[Path, Path]:
    """Make a key pair.

    Parameters
    ----------
    name : Path
        Of the files, without ending.

    Returns
    -------
    public, secret : Path
        ``NAME.key``, for the other side, and ``NAME.key_secret``, which only the owner of the file can read.

    Raises
    ------
    ConfigurationError
        A file is there already, or cannot be written.
    """
    public, secret = zmq.curve_keypair()
    made = f"# CURVE key of ZeroMQ, made {datetime.now(UTC):%Y-%m-%d}\nmetadata\ncurve\n"
    texts = {
        PUBLIC: f'{made}    public-key = "{public.decode()}"\n',
        SECRET: f'{made}    public-key = "{public.decode()}"\n    secret-key = "{secret.decode()}"\n',
    }
    files = {ending: name.with_name(name.name + ending) for ending in texts}
    for file in files.values():
        if file.exists():
            raise ConfigurationError(f"{file} is there already; choose another --out, or remove it")
    for ending, file in files.items():
        try:
            handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if ending == SECRET else 0o644)
            with os.fdopen(handle, "w", encoding="ascii") as out:
                out.write(texts[ending])
        except OSError as error:
            raise ConfigurationError(f"{file}: {error.strerror or error}") from error
    return files[PUBLIC], files[SECRET]


class Curve:
    """The keys of this side, and of those it talks to.

    Parameters
    ----------
    key : Path
        The pair of this side, ``NAME.key_secret``.
    peers : Path
        Public keys of the other side: a file, or a folder of ``*.key``.

    Raises
    ------
    ConfigurationError
        A file cannot be read or holds no key.
    """

    def __init__(self, key: Path, peers: Path) -> None:
        if not zmq.has("curve"):
            raise ConfigurationError(
                "ingest.curve_key: this pyzmq was built without CURVE; install its wheel"
            )
        self._peers = peers
        self._public, secret = _load(key, "ingest.curve_key")
        if secret is None:
            raise ConfigurationError(
                f"ingest.curve_key {key}: holds no secret key; give the file NAME{SECRET} ({REMEDY})"
            )
        self._secret = secret
        self._known = self._read_peers()
        self._turned_away = 0

    def serve(self, context: zmq.Context) -> ThreadAuthenticator:
        """Let in known keys alone; call before a socket binds, and ``stop`` what is returned before the context ends.

        The keys of the peers are read again at each connection: one that is taken away makes no new one.
        """
        authenticator = ThreadAuthenticator(context)
        authenticator.configure_curve_callback(DOMAIN, self)
        try:
            authenticator.start()
        except zmq.ZMQError as error:
            raise ConfigurationError(f"connections cannot be authenticated: {error}") from error
        return authenticator

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - called by pyzmq with both
        """Whether a key, in Z85, is one of those that are known now."""
        try:
            self._known = self._read_peers()
        except ConfigurationError as error:
            log.error("keys are as they were", error=str(error))
        allowed = key in self._known
        if not allowed:
            # It comes again and again: the first, second, fourth, eighth … time fill no disk.
            self._turned_away += 1
            if self._turned_away & (self._turned_away - 1) == 0:
                log.warning(
                    "a sender was turned away: its key is not known",
                    public_key=key.decode(),
                    count=self._turned_away,
                )
        return allowed

    def apply(self, socket: zmq.Socket, *, bind: bool) -> None:
        """Make a socket encrypt; before it binds or connects.

        Raises
        ------
        ConfigurationError
            It connects, and which of several keys the other side has is not clear.
        """
        socket.curve_publickey, socket.curve_secretkey = self._public, self._secret
        if bind:
            socket.curve_server = True
            socket.zap_domain = DOMAIN.encode()
            return
        if len(self._known) != 1:
            raise ConfigurationError(
                f"ingest.curve_peers {self._peers}: holds {len(self._known)} keys; a service that connects needs the "
                "one of the sender; several senders connect to it (ingest.bind)"
            )
        socket.curve_serverkey = self._known[0]

    def _read_peers(self) -> list[bytes]:
        files = sorted(self._peers.glob(f"*{PUBLIC}")) if self._peers.is_dir() else [self._peers]
        keys = [_load(file, "ingest.curve_peers")[0] for file in files]
        if not keys:
            raise ConfigurationError(
                f"ingest.curve_peers {self._peers}: holds no file *{PUBLIC}; give the public keys of the senders"
            )
        return keys


def curve_of(settings: IngestSettings) -> Curve | None:
    """The keys that are configured, if there are any."""
    if settings.curve_key is None or settings.curve_peers is None:
        return None
    return Curve(settings.curve_key, settings.curve_peers)


def _load(file: Path, setting: str) -> tuple[bytes, bytes | None]:
    try:
        public, secret = load_certificate(file)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{setting} {file}: no key can be read: {why} ({REMEDY})") from error
    if len(public) != KEY_CHARS or (secret is not None and len(secret) != KEY_CHARS):
        # what is there may be a key: it is not repeated
        raise ConfigurationError(f"{setting} {file}: holds no key of {KEY_CHARS} characters ({REMEDY})")
    return public, secret
