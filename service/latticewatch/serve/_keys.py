"""Keys at rest: a file of their hashes, read again whenever it changes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Literal

import structlog

from latticewatch.errors import ConfigurationError

Scope = Literal["read", "control"]
SCOPES: tuple[Scope, ...] = ("read", "control")
PREFIX = "sha256:"
# Larger than any list of keys; the file is read while a request waits.
MAX_BYTES = 64 * 1024
# The file is looked at so often [s].
LOOK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


def new_key() -> str:
    """A key that nobody guesses: 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """What is kept of a key.

    Notes
    -----
    One round of SHA-256: it hides keys of `new_key`, not passwords that people make up.
    """
    return PREFIX + hashlib.sha256(key.encode()).hexdigest()


class Hashed:
    """Hashes of the keys of each scope.

    Parameters
    ----------
    hashes : sequence of tuple
        Scope and hash.
    """

    def __init__(self, hashes: list[tuple[Scope, str]]) -> None:
        self._hashes = hashes

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def allows(self, key: str | None, scope: Scope) -> bool:
        """Whether a key grants a scope; the keys for control grant both."""
        given = hash_of(key or "")
        # all are compared, whatever the first says: the time taken tells nothing
        found = [hmac.compare_digest(given, known) for _, known in self._hashes]
        return any(
            same and (of == "control" or scope == "read")
            for same, (of, _) in zip(found, self._hashes, strict=True)
        )


class KeyFile:
    """The keys in a file; a line for each: ``read`` or ``control``, the hash, and a comment if there is one.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ConfigurationError
        It cannot be read, or holds no key.

    Notes
    -----
    It is read again when it has changed. Where it cannot be read then, or is not such a file, the keys of before hold,
    and the log says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._sign = _sign(path)
        self._keys = _read(path)

    def allows(self, key: str | None, scope: Scope) -> bool:
        """Whether a key of the file, as it is now, grants a scope."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = now
                self._look()
            keys = self._keys
        return keys.allows(key, scope)

    def _look(self) -> None:
        sign = _sign(self._path)
        if sign == self._sign:
            return
        self._sign = sign
        try:
            self._keys = _read(self._path)
        except ConfigurationError as error:
            log.error("keys are as they were", error=str(error))
        else:
            log.info("keys read again", file=str(self._path))


def _sign(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> Hashed:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"serve.keys_file {path}: cannot be read: {error}") from error
    if len(text) > MAX_BYTES:
        raise ConfigurationError(
            f"serve.keys_file {path}: larger than {MAX_BYTES} bytes; it holds a line a key"
        )
    hashes: list[tuple[Scope, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        scope, _, rest = line.strip().partition(" ")
        if not scope or scope.startswith("#"):
            continue
        found = re.fullmatch(rf"{PREFIX}[0-9a-f]{{64}}", (rest.split() or [""])[0])
        if scope not in SCOPES or found is None:
            # what is there instead may be a key: it is not repeated
            raise ConfigurationError(
                f"serve.keys_file {path}, line {number}: expected 'read' or 'control' and a hash, {PREFIX} and 64 "
                "digits; `latticewatch keys` prints such lines"
            )
        hashes.append((scope, found.group()))
    if not hashes:
        raise ConfigurationError(
            f"serve.keys_file {path}: holds no key; `latticewatch keys` prints lines for it"
        )
    return Hashed(hashes)
