"""The errors of Latticewatch.

::

    LatticewatchError                 everything below; the command line prints it as one line and exits with 2
    ├── ConfigurationError            a setting that cannot work: stops the start
    ├── WireError                     a message that cannot be read: counted, logged, skipped
    │   └── FrameTooLargeError        larger than the configured limit
    ├── FileError                     a file that cannot be read or is not an image
    ├── NoLatticeError                a frame in which no lattice was found
    ├── NotLearntError                a model was asked for before the learning phase ended
    ├── UnknownClassError             a class id that the catalogue does not hold
    ├── ControlError                  what a microscope's control raises
    │   ├── ControlRefusedError       the microscope says no: out of bounds, blanked, stopped
    │   ├── ControlTimeoutError       it was begun and did not end in time, or did not arrive
    │   └── ControlUnreachableError   no connection, or no answer
    └── ServiceError                  what the client raises
        ├── ServiceUnreachableError   no connection, or no answer in time
        ├── UnauthorizedError         the key is missing, wrong, or lacks the scope
        ├── CursorGoneError           410: the cursor is too old, in the future, or of another log
        └── StaleStreamError          frames have stopped arriving; acting on old positions is refused

A message names the value, the limit and the remedy.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConfigurationError",
    "ControlError",
    "ControlRefusedError",
    "ControlTimeoutError",
    "ControlUnreachableError",
    "CursorGoneError",
    "FileError",
    "FrameTooLargeError",
    "LatticewatchError",
    "NoLatticeError",
    "NotLearntError",
    "ServiceError",
    "ServiceUnreachableError",
    "StaleStreamError",
    "UnauthorizedError",
    "UnknownClassError",
    "WireError",
]


class LatticewatchError(Exception):
    """Base of everything that Latticewatch raises on purpose."""


class ConfigurationError(LatticewatchError):
    """A setting that cannot work."""


class WireError(LatticewatchError):
    """A message that cannot be read.

    Parameters
    ----------
    message : str
        What is wrong, with the value and the limit.
    reason : str
        Short word under which the message is counted (``header``, ``dtype``, ``size``, ``encoding`` …).
    """

    def __init__(self, message: str, reason: str = "header") -> None:
        super().__init__(message)
        self.reason = reason
        # What the header said, where that could be read: it tells which frame was lost.
        self.fields: dict[str, Any] = {}


class FrameTooLargeError(WireError):
    """A frame larger than the configured limit.

    Parameters
    ----------
    message : str
        Both sizes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="size")


class FileError(LatticewatchError):
    """A file that cannot be read, or that holds no image."""


class NoLatticeError(LatticewatchError):
    """No lattice was found in a frame."""


class NotLearntError(LatticewatchError):
    """The learning phase has not ended yet."""


class UnknownClassError(LatticewatchError):
    """A class id that the catalogue does not hold."""


class ControlError(LatticewatchError):
    """The control socket of the microscope refused a request or did not answer."""


class ControlRefusedError(ControlError):
    """The microscope says no, and has done nothing."""


class ControlTimeoutError(ControlError):
    """It was begun and did not end in time; nobody knows how far it went."""


class ControlUnreachableError(ControlError):
    """No connection to the microscope, or no answer; nobody knows whether it was done."""


class ServiceError(LatticewatchError):
    """The service answered with an error, or not at all."""


class ServiceUnreachableError(ServiceError):
    """No connection to the service, no answer in time, or one that says to come again (429, 5xx).

    Parameters
    ----------
    message : str
        In words.
    retry_after_s : float
        When to come again, where the service says it [s].
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnauthorizedError(ServiceError):
    """The API key is missing, wrong, or lacks the scope."""


class CursorGoneError(ServiceError):
    """The cursor is too old, in the future, or belongs to another log.

    Parameters
    ----------
    message : str
        In words.
    stream : str
        Identifier of the log that the service keeps now.
    first_seq, last_seq : int
        First and last sequence number that it can still give.
    lost : tuple of int, optional
        First and last sequence number that the cursor has missed for good, where that is known.
    """

    def __init__(
        self, message: str, stream: str, first_seq: int, last_seq: int, lost: tuple[int, int] | None = None
    ) -> None:
        super().__init__(message)
        self.stream = stream
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.lost = lost


class StaleStreamError(ServiceError):
    """Frames have stopped arriving, so the positions are old."""
