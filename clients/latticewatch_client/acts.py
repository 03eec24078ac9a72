"""What to do with a target: functions of hands and target that a `Loop` takes as its ``act``."""

from __future__ import annotations

import math
from collections.abc import Callable

from latticewatch.errors import ControlTimeoutError
from latticewatch.messages import Target
from latticewatch_client._hands import Hands, Sight

Act = Callable[[Hands, Target], object]
# What goes farther between two looks has hopped, which is no drift: shorter than the way between any two columns [nm].
MOST_LEAD_NM = 0.1
# Frames in a row that may fail to show what is followed.
MOST_UNSEEN = 5
# Farther from the middle than this at the end of an act, a defect is brought back to it [nm].
OFF_NM = 0.05


def centre(do: Hands, target: Target, tolerance_nm: float = 0.04, tries: int = 6) -> Sight:
    """Bring a target to the middle of the field, and look until it is there.

    The way that it drifts between two looks is led.

    Parameters
    ----------
    do : Hands
    target : Target
    tolerance_nm : float
        How far from the middle is near enough [nm].
    tries : int
        Most looks.

    Returns
    -------
    Sight
        With the best offset that was reached.

    Raises
    ------
    ControlTimeoutError
        Frames that were acquired do not show it.
    """
    assert target.track.stage_nm is not None
    at, lead = target.track.stage_nm, (0.0, 0.0)
    place: tuple[float, float] | None = None
    for _ in range(tries):
        do.go_to(at.x + lead[0], at.y + lead[1])
        sight = do.look()
        if sight is None or sight.track.stage_nm is None:
            raise ControlTimeoutError(f"track {target.track.track}: not seen where the stage went")
        if sight.offset_nm <= tolerance_nm:
            return sight
        at = sight.track.stage_nm
        # From one look to the next it went this far, and will go as far again.
        lead = (0.0, 0.0) if place is None else (at.x - place[0], at.y - place[1])
        place = (at.x, at.y)
    do.go_to(at.x + lead[0], at.y + lead[1])
    sight = do.look()
    if sight is None:
        raise ControlTimeoutError(f"track {target.track.track}: not seen where the stage went")
    return sight


def follow(looks: int, tolerance_nm: float = 0.03, on_look: Callable[[Sight], None] | None = None) -> Act:
    """Keep a target in the middle of the field while it hops and everything drifts.

    Parameters
    ----------
    looks : int
        Frames to take of it, after it was brought to the middle.
    tolerance_nm : float
        Farther from the middle than this, the field goes after it before the next look [nm].
    on_look : callable, optional
        Called with what each of them shows.

    Returns
    -------
    callable
        For `Loop`.
    """

    def act(do: Hands, target: Target) -> Sight:
        sight, lead = centre(do, target), (0.0, 0.0)
        for _ in range(looks):
            at = sight.track.stage_nm
            assert at is not None
            if sight.offset_nm > tolerance_nm:
                do.go_to(at.x + lead[0], at.y + lead[1])
            seen = do.look()
            for _ in range(MOST_UNSEEN):
                if seen is not None:
                    break
                # Just after a hop a frame may leave it open what is where.
                seen = do.look()
            if seen is None or seen.track.stage_nm is None:
                raise ControlTimeoutError(f"track {target.track.track}: lost sight of it")
            sight, now = seen, seen.track.stage_nm
            if math.dist((now.x, now.y), (at.x, at.y)) < MOST_LEAD_NM:
                lead = (now.x - at.x, now.y - at.y)
            if on_look is not None:
                on_look(sight)
        at = sight.track.stage_nm
        if sight.offset_nm > OFF_NM and at is not None:
            # It has hopped in the last frame.
            do.go_to(at.x, at.y)
            return do.look() or sight
        return sight

    return act


def image(frames: int = 10, fov_nm: float | None = None) -> Act:
    """Centre a target and take frames of it, of another field if wanted.

    Parameters
    ----------
    frames : int
        How many.
    fov_nm : float, optional
        Width of the field for them [nm]; it stays so afterwards.

    Returns
    -------
    callable
        For `Loop`.
    """

    def act(do: Hands, target: Target) -> Sight | None:
        centre(do, target)
        if fov_nm is not None:
            do.set_scan(fov_nm=fov_nm)
        return do.look(frames)

    return act


def expose(duration_s: float, frames: int = 1) -> Act:
    """Centre a target, let the beam stand on it, and look what became of it.

    Parameters
    ----------
    duration_s : float
        How long the beam stands there [s].
    frames : int
        Taken afterwards.

    Returns
    -------
    callable
        For `Loop`.
    """

    def act(do: Hands, target: Target) -> Sight | None:
        sight = centre(do, target)
        assert sight.track.stage_nm is not None
        do.expose(sight.track.stage_nm.x, sight.track.stage_nm.y, duration_s)
        after = do.look(frames)
        if after is not None and after.track.stage_nm is not None and after.offset_nm > OFF_NM:
            # Time has passed, as in an interruption.
            do.go_to(after.track.stage_nm.x, after.track.stage_nm.y)
            after = do.look(frames)
        return after

    return act
