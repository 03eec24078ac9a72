"""A stand-in for the analysis core: bright pixels of a known grid are sites, dark ones are defects.

It keeps the contract of `latticewatch.pipeline` (versions, learning phase, results that come again, events) so that
the engine, the service and the client are tested without the hours of CPU of the real one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from latticewatch.errors import UnknownClassError
from latticewatch.ingest import Frame
from latticewatch.messages import ClassEventData, DefectEventData, ModelEventData, Nanometres, Pixel
from latticewatch.pipeline import CatalogueEntry, EventDraft, FrameResult, SiteTable

SPACING = 16
HOST, VACANCY = 0, 1


@dataclass(frozen=True)
class FakeModel:
    version: int


@dataclass(frozen=True)
class FakeAnalysis:
    frame: Frame
    grid: np.ndarray


def grid_image(size=128, vacancies=((3, 4),), background=10, peak=200):
    """A square lattice of single bright pixels; those at ``vacancies`` (row, column of the lattice) are missing."""
    image = np.full((size, size), background, np.uint16)
    image[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING] = peak
    for row, column in vacancies:
        image[SPACING // 2 + row * SPACING, SPACING // 2 + column * SPACING] = background
    return image


def fake_analyse(frame, model, settings):
    if frame.image.max() == frame.image.min():
        raise RuntimeError("constant image")
    return FakeAnalysis(frame, np.asarray(frame.image[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING]))


def entry(class_id, name, role, total):
    average = np.outer(np.hanning(16), np.hanning(16)).astype(np.float32)
    host = None if class_id == HOST else HOST
    one = CatalogueEntry(class_id, name, role, 0, host, total, 0.5, 9.5, average=average)
    if role != "defect":
        return one
    return replace(
        one,
        template="A vacancy",
        score=0.97,
        runner_up=("A −75 %", 0.91),
        template_patch=average - np.float32(0.01),
    )


class FakeLearner:
    def __init__(self, learning_frames=2):
        self.needed = learning_frames
        self.model = None
        self.gathered = []
        self.catalogue = {}
        self.tracks = {}
        self.drafts = []

    def fits(self, model):
        return True

    def fold(self, analysis):
        if self.model is not None:
            return [self._classified(analysis)]
        self.gathered.append(analysis)
        if len(self.gathered) < self.needed:
            return [self._result(analysis, np.full(analysis.grid.shape, -1, np.int16), 3, ())]
        self.model = FakeModel(1 if not self.catalogue else 2)
        self.catalogue = {
            HOST: entry(HOST, "host A", "host", 100),
            VACANCY: entry(VACANCY, "vacancy", "defect", 1),
        }
        self.drafts.append(
            EventDraft("model.updated", ModelEventData(model_version=1, n_classes=2, reason="learnt"))
        )
        gathered, self.gathered = self.gathered, []
        return [self._classified(one) for one in gathered]

    def _classified(self, analysis):
        frame = analysis.frame
        classes = np.where(analysis.grid < analysis.grid.max() / 2, VACANCY, HOST).astype(np.int16)
        drafts = []
        for row, column in np.argwhere(classes == VACANCY).tolist():
            if (row, column) not in self.tracks:
                self.tracks[row, column] = len(self.tracks) + 1
                drafts.append(EventDraft("defect.appeared", self._defect(frame, row, column)))
        return self._result(analysis, classes, None, tuple(drafts))

    def _defect(self, frame, row, column):
        px = Pixel(row=SPACING // 2 + row * SPACING, col=SPACING // 2 + column * SPACING)
        nm = stage = None
        if frame.pixel_size_nm:
            nm = Nanometres(x=px.col * frame.pixel_size_nm, y=px.row * frame.pixel_size_nm)
            if frame.stage_nm:
                middle = [(n - 1) / 2 * frame.pixel_size_nm for n in frame.image.shape]
                stage = Nanometres(
                    x=frame.stage_nm[0] + nm.x - middle[1], y=frame.stage_nm[1] + nm.y - middle[0]
                )
        return DefectEventData(
            series_id=frame.series_id,
            frame=frame.number,
            t_acquired=frame.t_acquired,
            t_received=frame.t_received,
            model_version=self.model.version,
            track=self.tracks[row, column],
            class_id=VACANCY,
            class_name=self.catalogue[VACANCY].name,
            role="defect",
            confidence=0.97,
            px=px,
            sigma_px=0.1,
            nm=nm,
            stage_nm=stage,
        )

    def _result(self, analysis, classes, role, events):
        frame = analysis.frame
        rows, columns = np.indices(classes.shape)
        position = np.stack([rows.ravel(), columns.ravel()], 1) * SPACING + SPACING // 2
        ids = classes.ravel()
        roles = np.full(ids.shape, role, np.uint8) if role is not None else ids.astype(np.uint8)
        stretched = (np.asarray(frame.image, float) * (255 / frame.image.max())).astype(np.uint8)
        return FrameResult(
            series_id=frame.series_id,
            number=frame.number,
            ordinal=frame.ordinal,
            shape=frame.image.shape,
            t_received=frame.t_received,
            received_at=frame.received_at,
            t_acquired=frame.t_acquired,
            pixel_size_nm=frame.pixel_size_nm,
            calibration=frame.calibration,
            stage_nm=frame.stage_nm,
            scalars=frame.scalars,
            picture=stretched,
            sites=SiteTable(
                position=position.astype(np.float32),
                sublattice=np.zeros(len(ids), np.int16),
                class_id=ids,
                role=roles,
                confidence=np.full(len(ids), 0.97, np.float32),
                track=np.arange(len(ids), dtype=np.int32),
            ),
            lattice_found=True,
            lattice_constant_px=float(SPACING),
            drift_px=(0.0, 0.0),
            model_version=self.model.version if self.model else 0,
            learning=(self.needed if self.model else len(self.gathered), self.needed),
            classes=tuple(self.catalogue.values()) if self.model else (),
            embedding=np.zeros((4, 2), np.float32),
            embedding_class=np.zeros(4, np.int16),
            events=events,
        )

    def rename(self, class_id, name):
        return self._edit(class_id, "class.renamed", name=name)

    def set_role(self, class_id, role):
        return self._edit(class_id, "class.renamed", role=role)

    def merge(self, class_id, others):
        for other in others:
            if self.catalogue.pop(other, None) is None:
                raise UnknownClassError(f"class {other}: not there")
        return self._edit(class_id, "class.merged", others=tuple(others))

    def split(self, class_id, wanted):
        raise ValueError(f"layout {wanted.layout} is not kept any more; class {class_id} stays whole")

    def _edit(self, class_id, kind, others=(), **fields):
        if class_id not in self.catalogue:
            raise UnknownClassError(f"class {class_id}: not there")
        before = self.catalogue[class_id]
        after = self.catalogue[class_id] = replace(before, **fields)
        data = ClassEventData(
            model_version=self.model.version,
            class_id=class_id,
            class_name=after.name,
            role=after.role,
            previous_name=before.name,
            merged=others,
        )
        self.drafts.append(EventDraft(kind, data))
        return after

    def relearn(self):
        version = self.model.version if self.model else 0
        self.model, self.gathered = None, []
        self.drafts.append(
            EventDraft("model.updated", ModelEventData(model_version=version, n_classes=0, reason="relearn"))
        )

    def take_events(self):
        drafts, self.drafts = self.drafts, []
        return tuple(drafts)
