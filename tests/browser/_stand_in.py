"""Stand-ins for microscope and learner around the real service: frames and classes that a test decides.

The lattice is WS2-like; what is a defect is known because it was put there, so a test can say which pixel must
have which colour. Receiver, engine, event log, sockets and page are the real ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import zmq
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from latticewatch.errors import UnknownClassError
from latticewatch.ingest import Frame
from latticewatch.messages import (
    ClassEventData,
    ClassSplit,
    DefectEventData,
    ModelEventData,
    Nanometres,
    Note,
    Pixel,
    Role,
    SeriesEnd,
    encode_frame,
    encode_json,
)
from latticewatch.pipeline import ROLES, CatalogueEntry, EventDraft, FrameResult, SiteTable

PIXEL_SIZE_NM = 0.01
SPACING_PX = 31.6
PATCH_PX = 40
# name, role, sublattice, intensity at the column, share of its sublattice, d'
KINDS: tuple[tuple[str, Role, int, float, float, float | None], ...] = (
    ("W", "host", 0, 1.0, 0.0, None),
    ("S2", "host", 1, 0.30, 0.0, None),
    ("S1", "defect", 1, 0.15, 0.022, 9.4),
    ("V_S2", "defect", 1, 0.02, 0.009, 17.8),
    ("Fe on W", "defect", 0, 0.36, 0.012, 26.1),
    ("Te+S", "defect", 1, 0.83, 0.012, 31.5),
    ("W next to S1", "neighbour", 0, 1.0, 0.0, 4.6),
)
NEIGHBOUR = len(KINDS) - 1
# Of a column that is displaced: row, column and error [px]; how probable class 2 and *unknown* are.
SHIFT_PX = (-2.0, 3.0, 0.4)
SHARES = (0.15, 0.03)
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Specimen:
    """Columns of one field of view and the noise-free picture of them."""

    position: NDArray[np.float32]
    class_id: NDArray[np.int16]
    scene: NDArray[np.float32]


def ws2(size: int, rng: np.random.Generator, unknown: int = 3) -> Specimen:
    """A honeycomb of two sublattices with defects at the shares of `KINDS`."""
    a = SPACING_PX
    n = int(2 * size / a)
    i, j = np.mgrid[-n:n, -n:n].reshape(2, -1)
    corner = np.stack([j * a * np.sqrt(3) / 2, i * a + j * a / 2], 1)
    position = np.concatenate([corner, corner + np.array([a / (2 * np.sqrt(3)), a / 2])])
    sublattice = np.repeat([0, 1], len(corner))
    turn = np.deg2rad(7.0)
    position = position @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + size / 2
    inside = np.all((position > 14) & (position < size - 14), axis=1)
    position, sublattice = position[inside], sublattice[inside]

    class_id = sublattice.astype(np.int16)
    for kind, (_, _, lattice, _, share, _) in enumerate(KINDS):
        hosts = np.flatnonzero(class_id == lattice)
        if share:
            class_id[rng.choice(hosts, max(2, round(share * len(hosts))), replace=False)] = kind
    intensity = np.array([kind[3] for kind in KINDS])[class_id]
    for vacancy in np.flatnonzero(class_id == 2):
        near = np.linalg.norm(position - position[vacancy], axis=1) < 0.7 * a
        class_id[near & (class_id == 0)] = NEIGHBOUR
    class_id[rng.choice(np.flatnonzero(class_id == 1), unknown, replace=False)] = UNKNOWN
    return Specimen(position.astype(np.float32), class_id, _rendered(position, intensity, size))


def _rendered(position: NDArray[Any], intensity: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Two Gaussians a column, as a probe with tails makes them."""
    columns = np.zeros((size, size), np.float32)
    floor = np.floor(position).astype(int)
    part = position - floor
    for dr in (0, 1):
        for dc in (0, 1):
            weight = np.abs(1 - dr - part[:, 0]) * np.abs(1 - dc - part[:, 1])
            np.add.at(columns, (floor[:, 0] + dr, floor[:, 1] + dc), intensity * weight)
    scene = gaussian_filter(columns, 4.2) * 4.2**2 + 0.25 * gaussian_filter(columns, 9.0) * 9.0**2
    return scene / scene.max()


def _regions(size: int) -> dict[str, NDArray[np.bool_]]:
    """A round spot of dirt right of the middle, and a bar along the lower edge."""
    row, column = np.mgrid[:size, :size]
    dirt = np.hypot(row - 0.4 * size, column - 0.6 * size) < 0.15 * size * (1 + 0.2 * np.sin(row / 9))
    return {"no-specimen": row >= 0.92 * size, "dirt": dirt}


class ScriptedLearner:
    """Classes that are known beforehand, after a learning phase of a few frames."""

    def __init__(
        self,
        specimen: Specimen,
        learning_frames: int = 0,
        lattice_found: bool = True,
        notes: tuple[Note, ...] = (),
        drift_px: tuple[float, float] = (0.0, 0.0),
        retrack: bool = False,
        certain: bool = False,
        displaced: bool = False,
        regions: bool = False,
    ) -> None:
        """``drift_px`` a frame; with ``retrack`` each frame has new tracks; ``certain``: every confidence is 1.

        ``displaced``: columns of class 4 stand beside their place, and may as well be of class 2. ``regions``: dirt
        in the middle, and a bar below.
        """
        self.displaced = displaced
        self.regions = _regions(len(specimen.scene)) if regions else {}
        self.drift_px = np.array(drift_px)
        self.retrack = retrack
        self.certain = certain
        self.specimen = specimen
        self.lattice_found = lattice_found
        self.notes = notes
        self.model: Any = None
        self._learning_frames = learning_frames
        self._folded = 0
        self._version = 0
        self._drafts: list[EventDraft] = []
        self._class_id = specimen.class_id
        self._rng = np.random.default_rng(5)
        centre = self._rng.normal(0, 5, (len(KINDS) + 1, 2))[specimen.class_id]
        self._embedding = self._rng.normal(centre, 0.5).astype(np.float32)
        self._entries: dict[int, CatalogueEntry] = {}

    @property
    def _role(self) -> NDArray[np.uint8]:
        """Index into ``ROLES`` of each column, as the catalogue has it now."""
        of_class = np.full(len(KINDS) + 1, ROLES.index("unknown"), np.uint8)
        for entry in self._entries.values():
            of_class[entry.class_id] = ROLES.index(entry.role)
        return of_class[self._class_id]

    def _entry(self, kind: int) -> CatalogueEntry:
        name, role, sublattice, _, share, separation = KINDS[kind]
        members = np.flatnonzero(self.specimen.class_id == kind)
        return CatalogueEntry(
            class_id=kind,
            name=name,
            role=role,
            sublattice=sublattice,
            host_class=None if role == "host" else sublattice,
            total=len(members),
            prior=share,
            separation=separation,
            average=self._average(members),
        )

    def _average(self, members: NDArray[np.intp]) -> NDArray[np.float32]:
        half = PATCH_PX // 2
        size = len(self.specimen.scene)
        patches = []
        for row, col in self.specimen.position[members].round().astype(int)[:40]:
            if half <= min(row, col) and max(row, col) < size - half:
                patches.append(self.specimen.scene[row - half : row + half, col - half : col + half])
        return np.mean(patches, axis=0) if patches else np.zeros((PATCH_PX, PATCH_PX), np.float32)

    def fits(self, model: object) -> bool:
        return True

    def fold(self, analysis: Frame) -> list[FrameResult]:
        frame = analysis
        self._folded += 1
        learnt = self._folded > self._learning_frames and self.lattice_found
        events: tuple[EventDraft, ...] = ()
        if learnt and not self._entries:
            self._entries = {kind: self._entry(kind) for kind in range(len(KINDS))}
            self._version += 1
            events = self._learnt(frame)
        n = len(self._class_id)
        moved = (self._folded - 1) * self.drift_px
        confidence = (1 - 0.05 * self._rng.random(n) ** 3).astype(np.float32)
        sites = SiteTable(
            position=self.specimen.position + moved.astype(np.float32),
            sublattice=np.zeros(n, np.int16),
            class_id=self._class_id if learnt else np.full(n, -1, np.int16),
            role=self._role if learnt else np.full(n, 3, np.uint8),
            confidence=np.ones(n, np.float32) if self.certain else confidence,
            track=np.arange(n, dtype=np.int32) + (10_000 * self._folded if self.retrack else 0),
        )
        if self.displaced and learnt:
            sites = self._doubtful(sites)
        return [
            FrameResult(
                series_id=frame.series_id,
                number=frame.number,
                ordinal=frame.ordinal,
                shape=frame.image.shape,
                t_received=frame.t_received,
                t_acquired=None,
                pixel_size_nm=frame.pixel_size_nm,
                stage_nm=None,
                picture=frame.image,
                sites=sites,
                lattice_found=self.lattice_found,
                lattice_constant_px=SPACING_PX if self.lattice_found else None,
                drift_px=(float(moved[0]), float(moved[1])),
                model_version=self._version if learnt else 0,
                learning=(min(self._folded, self._learning_frames), self._learning_frames),
                classes=tuple(self._entries.values()) if learnt else (),
                embedding=self._embedding if learnt else np.zeros((0, 2), np.float32),
                embedding_class=self._class_id if learnt else np.zeros(0, np.int16),
                events=events,
                notes=(*self.notes, *frame.notes),
                scalars=frame.scalars,
                regions=self.regions,
                calibration=frame.calibration if self.displaced else None,
                kinds={4: "displaced"} if self.displaced else {},
            )
        ]

    def _doubtful(self, sites: SiteTable) -> SiteTable:
        """Columns of class 4 stand aside, and are less surely of it."""
        mine = sites.class_id == 4
        shift = np.full((len(sites), 3), np.nan, np.float32)
        shift[mine] = SHIFT_PX
        other = np.full((len(sites), 2), -1, np.int16)
        share = np.zeros((len(sites), 2), np.float32)
        other[mine], share[mine] = (2, UNKNOWN), SHARES
        confidence = np.where(mine, np.float32(0.8), sites.confidence)
        return replace(sites, displacement=shift, other_class=other, other_share=share, confidence=confidence)

    def _learnt(self, frame: Frame) -> tuple[EventDraft, ...]:
        defects = np.flatnonzero(self._role == ROLES.index("defect")).tolist()
        return (
            self._model_event("learnt", frame.number),
            *(self._appeared(frame, track) for track in defects),
        )

    def _model_event(self, reason: str, frame: int | None = None) -> EventDraft:
        data = ModelEventData(
            model_version=self._version, frame=frame, n_classes=len(self._entries), reason=reason
        )
        return EventDraft("model.updated", data)

    def _appeared(self, frame: Frame, track: int) -> EventDraft:
        row, col = (float(x) for x in self.specimen.position[track])
        class_id = int(self._class_id[track])
        size_nm = frame.pixel_size_nm
        data = DefectEventData(
            series_id=frame.series_id,
            frame=frame.number,
            t_acquired=None,
            t_received=frame.t_received,
            t_emitted=frame.t_received,
            model_version=self._version,
            track=track,
            class_id=class_id,
            class_name=self._entries[class_id].name,
            role="defect",
            confidence=0.97,
            px=Pixel(row=row, col=col),
            sigma_px=0.2,
            nm=Nanometres(x=col * size_nm, y=row * size_nm) if size_nm else None,
            drift_nm=Nanometres(x=0.0, y=0.0),
        )
        return EventDraft("defect.appeared", data)

    def rename(self, class_id: int, name: str) -> CatalogueEntry:
        before = self._known(class_id)
        self._entries[class_id] = entry = replace(before, name=name)
        self._tell("class.renamed", entry, previous_name=before.name)
        return entry

    def set_role(self, class_id: int, role: Role) -> CatalogueEntry:
        self._entries[class_id] = entry = replace(self._known(class_id), role=role)
        self._version += 1
        self._drafts.append(self._model_event(f"role of {entry.name} set to {role}"))
        return entry

    def merge(self, class_id: int, others: list[int]) -> CatalogueEntry:
        entry = self._known(class_id)
        taken = [self._known(other) for other in others if other != class_id]
        self._entries[class_id] = entry = replace(
            entry,
            total=entry.total + sum(other.total for other in taken),
            prior=entry.prior + sum(other.prior for other in taken if other.sublattice == entry.sublattice),
        )
        gone = tuple(other.class_id for other in taken)
        for other in gone:
            del self._entries[other]
        self._class_id = np.where(np.isin(self._class_id, gone), class_id, self._class_id).astype(np.int16)
        self._version += 1
        self._tell("class.merged", entry, merged=gone)
        return entry

    def split(self, class_id: int, wanted: ClassSplit) -> tuple[CatalogueEntry, NDArray[np.intp]]:
        raise ValueError(f"layout {wanted.layout}: there is none; class {class_id} stays whole")

    def relearn(self) -> None:
        self._folded = 0
        self._class_id = self.specimen.class_id
        self._entries = {}
        self._version += 1
        self._drafts.append(self._model_event("asked to learn anew"))

    def _known(self, class_id: int) -> CatalogueEntry:
        if class_id not in self._entries:
            raise UnknownClassError(f"class {class_id}: there is none; give one of {sorted(self._entries)}")
        return self._entries[class_id]

    def _tell(
        self, kind: Literal["class.renamed", "class.merged"], entry: CatalogueEntry, **facts: Any
    ) -> None:
        data = ClassEventData(
            model_version=self._version,
            class_id=entry.class_id,
            class_name=entry.name,
            role=entry.role,
            **facts,
        )
        self._drafts.append(EventDraft(kind, data))

    def take_events(self) -> tuple[EventDraft, ...]:
        drafts, self._drafts = tuple(self._drafts), []
        return drafts


class Microscope:
    """Sends noisy frames of a specimen over ZeroMQ, one each time that a test says so."""

    def __init__(self, specimen: Specimen) -> None:
        self.series_id = "test-series"
        self._scene = specimen.scene
        self._rng = np.random.default_rng(3)
        self._socket = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDTIMEO, 10_000)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.number = 0

    def send(
        self, pixel_size_nm: float | None = PIXEL_SIZE_NM, scalars: dict[str, float] | None = None
    ) -> int:
        """Send one frame, with numbers in its header, and give its number."""
        self.number += 1
        noise = self._rng.normal(0, 1, self._scene.shape).astype(np.float32)
        counts = 235 * self._scene + 12 + noise * (3 + 14 * np.sqrt(self._scene))
        fields: dict[str, Any] = {"pixel_size_nm": pixel_size_nm} if pixel_size_nm else {}
        if scalars:
            fields["scalars"] = scalars
        parts = encode_frame(
            np.clip(counts, 0, 255).astype(np.uint8),
            frame=self.number,
            series_id=self.series_id,
            msg_number=self.number,
            **fields,
        )
        self._socket.send_multipart(parts)
        return self.number

    def end(self) -> None:
        """End the series."""
        self.say(encode_json(SeriesEnd(series_id=self.series_id, msg_number=self.number + 1)))

    def say(self, message: bytes) -> None:
        """Send what is no frame."""
        self._socket.send(message)

    def close(self) -> None:
        self._socket.close()
