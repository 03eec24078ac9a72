"""What changes in the specimen, column by column, and what that means for a defect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

DefectEventType = Literal["defect.appeared", "defect.reclassified", "defect.moved", "defect.disappeared"]


@dataclass(frozen=True, slots=True)
class Change:
    """A column became another species between the frame before and this one."""

    id: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """What really happened to a defect, in the words of the service's events.

    Attributes
    ----------
    type : str
        As in the service's events.
    frame : int
        First frame that shows it.
    time_s : float
        Of that frame, since the first one at the nominal pace.
    site : int
        Identity of the column; of a move, where the defect went.
    from_site : int or None
        Where it came from, of a move.
    before, after : str
        Species of the column; of a move, of the defect.
    px : tuple of float
        Row and column in that frame, which may lie outside of it.
    nm : tuple of float
        The same in nanometres (x, y).
    """

    type: DefectEventType
    frame: int
    time_s: float
    site: int
    from_site: int | None
    before: str
    after: str
    px: tuple[float, float]
    nm: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "type": self.type,
            "frame": self.frame,
            "time_s": round(self.time_s, 6),
            "site": self.site,
            "from_site": self.from_site,
            "before": self.before,
            "after": self.after,
            "px": {"row": round(self.px[0], 3), "col": round(self.px[1], 3)},
            "nm": {"x": round(self.nm[0], 5), "y": round(self.nm[1], 5)},
        }

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> TrueEvent:
        """From JSON.

        Parameters
        ----------
        record : dict
            As `record` gave it.

        Returns
        -------
        TrueEvent
        """
        px, nm = record["px"], record["nm"]
        rest = {name: value for name, value in record.items() if name not in ("px", "nm")}
        return cls(**rest, px=(px["row"], px["col"]), nm=(nm["x"], nm["y"]))
