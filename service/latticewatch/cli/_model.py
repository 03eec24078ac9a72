"""``latticewatch model``: what was learnt, as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from latticewatch.cli._events import Key, Service
from latticewatch.errors import FileError

if TYPE_CHECKING:
    from latticewatch.pipeline import CatalogueEntry, SavedModel

model = typer.Typer(
    no_args_is_help=True, help="Save what was learnt, start from it again, look into its file."
)

File = Annotated[Path, typer.Argument(help="A saved model.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
# What a diff says of a class; numbers that differ by less than this share are the same.
COMPARED = ("name", "role", "sublattice", "prior", "separation")
SAME_SHARE = 0.01


@model.command()
def save(
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist.")],
    service: Service = "http://127.0.0.1:8765",
    key: Key = None,
) -> None:
    """Save the model of a running service."""
    from latticewatch_client import Client

    if file.exists():
        raise FileError(f"{file}: exists; choose another name")
    with Client(service, key) as client:
        data = client.saved_model()
    try:
        with file.open("xb") as out:
            out.write(data)
    except OSError as error:
        raise FileError(f"{file}: {error.strerror or error}; choose a writable place") from error
    typer.echo(f"{file}: {len(data) / 1e6:.1f} MB; start from it with  latticewatch serve --model {file}")


@model.command()
def load(file: File, service: Service = "http://127.0.0.1:8765", key: Key = None) -> None:
    """Have a running service start from a saved model."""
    from latticewatch_client import Client

    saved, data = _read(file)
    with Client(service, key) as client:
        loaded = client.load_model(data)
    moved = {
        one.class_id_in_file: one.class_id for one in loaded.classes if one.class_id != one.class_id_in_file
    }
    typer.echo(f"version {loaded.model_version} with {len(saved.model.classes)} classes is in force")
    if moved:
        typer.echo(
            "these numbers had been given to other classes: "
            + ", ".join(f"{old} is now {new}" for old, new in sorted(moved.items()))
        )


@model.command()
def show(file: File, as_json: AsJson = False) -> None:
    """Say what a saved model holds."""
    saved, _ = _read(file)
    if as_json:
        typer.echo(json.dumps(described(saved), ensure_ascii=False))
        return
    about = described(saved)
    classes = about.pop("classes")
    for name, value in about.items():
        typer.echo(f"{name.replace('_', ' '):<22}{'–' if value is None else value}")
    typer.echo()
    typer.echo(f"{'id':>4} {'in all':>9} {'share':>8} {'d′ [σ]':>8}  {'role':<10} class")
    for one in classes:
        separation = "–" if one["separation"] is None else f"{one['separation']:.1f}"
        typer.echo(
            f"{one['class_id']:>4} {one['total']:>9} {one['prior']:>8.4f} {separation:>8}  "
            f"{one['role']:<10} {one['name']}"
        )


@model.command()
def diff(first: File, second: File, as_json: AsJson = False) -> None:
    """Say in what two saved models differ; the exit status is 1 where they do."""
    found = differences(_read(first)[0], _read(second)[0])
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        for name, (before, after) in found["model"].items():
            typer.echo(f"{name.replace('_', ' ')}: {before} → {after}")
        for sign, which in (("-", "gone"), ("+", "new")):
            for one in found[which]:
                typer.echo(f"{sign} {one['class_id']:>4} {one['name']} ({one['role']})")
        for one in found["changed"]:
            what = ", ".join(f"{name} {before} → {after}" for name, (before, after) in one["fields"].items())
            typer.echo(f"~ {one['class_id']:>4} {one['name']}: {what}")
        if not any(found.values()):
            typer.echo("the same")
    if any(found.values()):
        raise typer.Exit(1)


def _read(path: Path) -> tuple[SavedModel, bytes]:
    from latticewatch.pipeline import MAX_FILE_BYTES, read_model

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        return read_model(data, trial=False), data
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    except FileError as error:
        raise FileError(f"{path}: {error}") from error


def described(saved: SavedModel) -> dict[str, Any]:
    """What a model holds, in plain words and numbers."""
    known = saved.model
    first, second = known.lattice.field.vectors
    cosine = float(first @ second) / float(np.hypot(*first) * np.hypot(*second))
    size = saved.pixel_size_nm
    lengths = [float(np.hypot(*vector)) for vector in (first, second)]
    return {
        "saved_at": saved.saved_at,
        "software": saved.software,
        "stream": saved.stream,
        "version": known.version,
        "pixel_size_nm": size,
        "lattice_vectors_px": [round(length, 3) for length in lengths],
        "lattice_vectors_nm": None if size is None else [round(size * length, 4) for length in lengths],
        "angle_deg": round(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), 2),
        "grains": len(known.lattice.grains),
        "columns_in_the_cell": [len(grain.cell.columns) for grain in known.lattice.grains],
        "patch_px": known.patch_px,
        "highest_zernike_order": known.n_max,
        "invariant": known.invariant,
        "material": known.material,
        "classes": [_class(entry) for entry in known.classes],
    }


def _class(entry: CatalogueEntry) -> dict[str, Any]:
    return {
        "class_id": entry.class_id,
        "name": entry.name,
        "role": entry.role,
        "sublattice": entry.sublattice,
        "total": int(entry.total),
        "prior": round(float(entry.prior), 6),
        "separation": None if entry.separation is None else round(float(entry.separation), 2),
    }


def differences(first: SavedModel, second: SavedModel) -> dict[str, Any]:
    """In what two models differ: in themselves, and class by class.

    Classes of one stream are compared by their numbers, those of two streams by their names.
    """
    one, two = described(first), described(second)
    key = "class_id" if first.stream and first.stream == second.stream else "name"
    before, after = ({entry[key]: entry for entry in about.pop("classes")} for about in (one, two))
    changed = []
    for shared in before.keys() & after.keys():
        old, new = before[shared], after[shared]
        fields = {name: (old[name], new[name]) for name in COMPARED if not _same(old[name], new[name])}
        if fields:
            changed.append({"class_id": new["class_id"], "name": new["name"], "fields": fields})
    told = set(one) - {"saved_at", "software", "stream"}
    return {
        "model": {
            name: (one[name], two[name]) for name in one if name in told and not _same(one[name], two[name])
        },
        "gone": [entry for name, entry in before.items() if name not in after],
        "new": [entry for name, entry in after.items() if name not in before],
        "changed": sorted(changed, key=lambda entry: entry["class_id"]),
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= SAME_SHARE * max(abs(one), abs(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
