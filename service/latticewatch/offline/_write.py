"""What `latticewatch analyse` leaves behind: tables, a summary, the events, and figures."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latticewatch import __version__
from latticewatch.errors import FileError
from latticewatch.offline._run import AnalysedFile
from latticewatch.offline._statistics import statistics_summary
from latticewatch.pipeline import ROLES, CatalogueEntry, FrameResult, said_in_all

COLUMNS = (
    "frame",
    "track",
    "row_px",
    "col_px",
    "sublattice",
    "class_id",
    "class_name",
    "role",
    "confidence",
)


def write_results(analysed: AnalysedFile, out: Path, figures: bool = True) -> list[Path]:
    """Write everything into a folder; all of it or nothing.

    Parameters
    ----------
    analysed : AnalysedFile
    out : Path
        Made where it is missing; files of the same name in it are replaced.
    figures : bool, optional
        Whether to draw figures, which takes longer than the analysis of a small frame.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    FileError
        The folder cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
            draft = Path(folder)
            _write_sites(draft / "sites.csv", analysed.results)
            _write_json(draft / "classes.json", [_class(entry) for entry in catalogue(analysed)])
            _write_json(draft / "summary.json", summary(analysed))
            _write_events(draft / "events.jsonl", analysed)
            if figures:
                from latticewatch.offline._figures import save_figures

                save_figures(draft, analysed.results, analysed.last_image)
            written = [out / part.name for part in sorted(draft.iterdir())]
            for part, target in zip(sorted(draft.iterdir()), written, strict=True):
                if target.is_dir():
                    shutil.rmtree(target)
                part.replace(target)
    except OSError as error:
        raise FileError(f"{out}: {error.strerror or error}; give a folder that can be written to") from error
    return written


def catalogue(analysed: AnalysedFile) -> list[CatalogueEntry]:
    """Every class that a site of any frame may have, as it was last; one learnt anew has other numbers."""
    newest = {entry.class_id: entry for result in analysed.results for entry in result.classes}
    return [newest[class_id] for class_id in sorted(newest)]


def summary(analysed: AnalysedFile) -> dict[str, Any]:
    """The run in a few numbers, each with its unit in its name."""
    last, series = analysed.results[-1], analysed.series
    pixel = series.pixel_size_nm
    constant = last.lattice_constant_px
    by_role = dict.fromkeys(ROLES, 0)
    for role in last.sites.role:
        by_role[ROLES[role]] += 1
    area = last.shape[0] * last.shape[1] * pixel**2 if pixel is not None else None
    return {
        "latticewatch": __version__,
        "file": series.path.name,
        "signal": series.name,
        "shape_px": list(last.shape),
        "pixel_size_nm": pixel,
        "frames": len(analysed.results),
        "frame_s": series.frame_s,
        "frames_with_lattice": sum(result.lattice_found for result in analysed.results),
        "lattice_found": last.lattice_found,
        "lattice_constant_px": constant,
        "lattice_constant_nm": constant * pixel if constant is not None and pixel is not None else None,
        "patch_size_px": int(last.classes[0].average.shape[0]) if last.classes else None,
        "sites": len(last.sites),
        "sites_by_role": by_role,
        "defects_per_nm2": by_role["defect"] / area if area else None,
        "classes": len(catalogue(analysed)),
        "events": len(analysed.events),
        "statistics": statistics_summary(analysed.results, series.frame_s)
        if len(analysed.results) > 1
        else None,
        "seconds": round(analysed.seconds, 3),
        "notes": [
            note.model_dump() | {"frames": frames}
            for note, frames in said_in_all((result.number, result.notes) for result in analysed.results)
        ],
        "file_notes": list(series.notes),
    }


def _write_sites(path: Path, results: Iterable[FrameResult]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for result in results:
            names = {entry.class_id: entry.name for entry in result.classes}
            sites = result.sites
            for k in range(len(sites)):
                class_id = int(sites.class_id[k])
                row, col = sites.position[k]
                writer.writerow(
                    (
                        result.number,
                        int(sites.track[k]),
                        f"{row:.3f}",
                        f"{col:.3f}",
                        int(sites.sublattice[k]),
                        class_id,
                        names.get(class_id, "unknown"),
                        ROLES[sites.role[k]],
                        f"{sites.confidence[k]:.4f}",
                    )
                )


def _class(entry: CatalogueEntry) -> dict[str, Any]:
    return {
        "class_id": entry.class_id,
        "name": entry.name,
        "role": entry.role,
        "sublattice": entry.sublattice,
        "host_class": entry.host_class,
        "total": entry.total,
        "prior": entry.prior,
        "separation_sigma": entry.separation,
        "template": entry.template,
        "score": entry.score,
        "runner_up": None
        if entry.runner_up is None
        else {"template": entry.runner_up[0], "score": entry.runner_up[1]},
        "average": _rows(entry.average),
        "template_patch": None if entry.template_patch is None else _rows(entry.template_patch),
    }


def _rows(patch: NDArray[np.float32]) -> list[list[float]]:
    return [[round(float(value), 5) for value in row] for row in patch]


def _write_events(path: Path, analysed: AnalysedFile) -> None:
    with path.open("w", encoding="utf-8") as file:
        for seq, (event, frame) in enumerate(analysed.events, start=1):
            line = {
                "seq": seq,
                "type": event.type,
                "frame": frame,
                "data": event.data.model_dump(mode="json"),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
