"""Numbers of events in; rates per time, area and dose with their intervals out."""

from __future__ import annotations

from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class EventRate:
    """How often something happened.

    Attributes
    ----------
    n : int
        Events.
    n_low, n_high : float
        Interval of their expected number, confidence 95 %; the rates scale with them.
    per_minute : float or None
        ``None`` where no time was observed.
    per_nm2_per_minute : float or None
        ``None`` where the area is not known either.
    per_nm2_per_dose : float or None
        For each square nanometre and electron per square angstrom; ``None`` where area or dose are not known.
    """

    n: int
    n_low: float
    n_high: float
    per_minute: float | None
    per_nm2_per_minute: float | None
    per_nm2_per_dose: float | None


def event_rate(
    n: int, seconds: float, area_nm2: float | None = None, dose_e_per_a2: float | None = None
) -> EventRate:
    """Rates of events counted while a field was watched.

    Parameters
    ----------
    n : int
        Events.
    seconds : float
        How long it was watched [s].
    area_nm2 : float, optional
        Area of the field, the mean over that time [nm²].
    dose_e_per_a2 : float, optional
        Dose in that time [electrons/Å²].

    Returns
    -------
    EventRate
    """
    low, high = poisson_interval(n)
    per_minute = 60.0 * n / seconds if seconds > 0 else None
    return EventRate(
        n,
        low,
        high,
        per_minute,
        per_minute / area_nm2 if per_minute is not None and area_nm2 else None,
        n / (area_nm2 * dose_e_per_a2) if area_nm2 and dose_e_per_a2 else None,
    )


def poisson_interval(n: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact confidence interval of the expectation of a Poisson count.

    Parameters
    ----------
    n : int
        The count.
    level : float
        Confidence, between 0 and 1.

    Returns
    -------
    low, high : float
        Low is 0 for a count of 0.

    Notes
    -----
    Garwood (1936), Fiducial limits for the Poisson distribution, doi:10.1093/biomet/28.3-4.437.
    """
    from scipy.special import chdtri  # here, so that a service answers before it is loaded

    tail = (1.0 - level) / 2.0
    low = float(chdtri(2 * n, 1.0 - tail)) / 2.0 if n else 0.0
    return low, float(chdtri(2 * n + 2, tail)) / 2.0
