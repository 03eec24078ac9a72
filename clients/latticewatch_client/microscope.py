"""What a program may ask of a microscope: a typed protocol that every microscope's adapter keeps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from latticewatch.messages import Acquired, Capabilities, Exposed, Limits, MicroscopeState


@runtime_checkable
class Microscope(Protocol):
    """A microscope that a program steers.

    Lengths are nanometres, angles degrees, times seconds, currents picoamperes, doses electrons per square angstrom.
    Places are those of the stage, as in ``stage_nm`` of an event: the middle of the field lies at the position of the
    stage and the image shift together.

    Every action has an id. The same action with the same id is done once, however often it is asked for, so that an
    action whose answer was lost can be asked for again. An id of another action is refused.

    An action has ended, and well, when it returns. Otherwise it raises:

    - `ControlRefusedError`: the microscope says no, and has done nothing.
    - `ControlTimeoutError`: it was begun, and did not end in time or did not arrive.
    - `ControlUnreachableError`: no answer; nobody knows whether it was done.
    """

    def limits(self) -> Limits:
        """What it can do at the utmost; everything beyond is refused."""
        ...

    def state(self) -> MicroscopeState:
        """What it does now."""
        ...

    def capabilities(self) -> Capabilities:
        """What it is, and which actions it has."""
        ...

    def move_stage(self, x_nm: float, y_nm: float, id: str) -> MicroscopeState:  # noqa: A002
        """Bring the stage to a place; returns when it has settled there within the tolerance.

        Parameters
        ----------
        x_nm, y_nm : float
            [nm]
        id : str
            Of this action.

        Returns
        -------
        MicroscopeState
            After it.
        """
        ...

    def shift_image(self, dx_nm: float, dy_nm: float, id: str) -> MicroscopeState:  # noqa: A002
        """Set the image shift: the shift itself, not a step.

        Parameters
        ----------
        dx_nm, dy_nm : float
            [nm]
        id : str
            Of this action.

        Returns
        -------
        MicroscopeState
            After it.
        """
        ...

    def set_scan(
        self,
        fov_nm: float | None = None,
        rotation_deg: float | None = None,
        dwell_s: float | None = None,
        shape: tuple[int, int] | None = None,
        *,
        id: str,  # noqa: A002
    ) -> MicroscopeState:
        """Take another scan from the next frame on; what is not given stays.

        Parameters
        ----------
        fov_nm : float, optional
            Width of the field [nm].
        rotation_deg : float, optional
            [degrees]
        dwell_s : float, optional
            Time for one pixel [s].
        shape : tuple of int, optional
            Rows and columns.
        id : str
            Of this action.

        Returns
        -------
        MicroscopeState
            After it.
        """
        ...

    def acquire(self, frames: int, id: str) -> Acquired:  # noqa: A002
        """Take frames that begin from now on, with nothing moving; returns when they are sent.

        Parameters
        ----------
        frames : int
            How many.
        id : str
            Of this action.

        Returns
        -------
        Acquired
            Which ones they are.
        """
        ...

    def expose(self, x_nm: float, y_nm: float, duration_s: float, id: str) -> Exposed:  # noqa: A002
        """Let the beam stand at a place for a time.

        Parameters
        ----------
        x_nm, y_nm : float
            Place of the stage [nm].
        duration_s : float
            [s]
        id : str
            Of this action.

        Returns
        -------
        Exposed
            With the dose that it gave.
        """
        ...

    def blank(self, on: bool) -> None:
        """Take the beam off the specimen, or let it back.

        Parameters
        ----------
        on : bool
            True takes it off.
        """
        ...

    def stop(self) -> None:
        """Emergency stop, from any thread: nothing moves, the beam is blanked, until a person releases it."""
        ...
