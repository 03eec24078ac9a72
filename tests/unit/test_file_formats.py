"""Formats of files, one row each of the table in docs/reference/files.md: what comes out of a file of each.

Every file is written by RosettaSciIO or by the library that belongs to its format.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latticewatch.errors import FileError
from latticewatch.ingest import read_frames
from latticewatch.ingest.files import _rosetta, _tiff

tifffile = pytest.importorskip("tifffile", reason="the io extra is not installed")
h5py = pytest.importorskip("h5py", reason="the io extra is not installed")
zarr = pytest.importorskip("zarr", reason="the io extra is not installed")
pytest.importorskip("rsciio", reason="the io extra is not installed")

N, ROWS, COLS = 5, 20, 24
STACK = np.random.default_rng(0).integers(0, 1000, (N, ROWS, COLS)).astype(np.uint16)
PIXEL_NM, FRAME_S = 0.02, 0.4


def axis(size: int, index: int, name: str, scale: float, units: str | None, navigate: bool) -> dict:
    return {
        "_type": "UniformDataAxis", "name": name, "size": size, "index_in_array": index, "scale": scale,
        "offset": 0.0, "units": units, "navigate": navigate, "is_binned": False,
    }  # fmt: skip


def signal(
    data: np.ndarray = STACK, units: str = "nm", scale: float = PIXEL_NM, title: str = "HAADF"
) -> dict:
    """What a writer of RosettaSciIO takes."""
    lead = data.ndim - 2
    axes = [axis(data.shape[0], 0, "time", FRAME_S, "s", True)] * lead
    rows, cols = data.shape[-2:]
    axes += [axis(rows, lead, "y", scale, units, False), axis(cols, lead + 1, "x", scale, units, False)]
    return {
        "data": data,
        "axes": axes,
        "metadata": {"General": {"title": title}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "tmp_parameters": {},
        "package_info": {"package": "", "package_version": ""},
        "models": {},
    }


def rosetta(module: str) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, data: np.ndarray) -> None:
        importlib.import_module(f"rsciio.{module}").file_writer(str(path), signal(data))

    return write


def berkeley(path: Path, data: np.ndarray, title: str = "HAADF") -> None:
    """As ncempy writes it: rows before columns, time first, units with underscores."""
    with h5py.File(path, "w") as file:
        file.attrs.update(version_major=0, version_minor=2)
        group = file.create_group(f"data/{title}")
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        names = (("t", "s", FRAME_S), ("y", "[n_m]", PIXEL_NM), ("x", "[n_m]", PIXEL_NM))[3 - data.ndim :]
        for k, (name, units, step) in enumerate(names):
            group[f"dim{k + 1}"] = np.arange(data.shape[k]) * step
            group[f"dim{k + 1}"].attrs.update(name=name, units=units)


def imagej(path: Path, data: np.ndarray) -> None:
    tifffile.imwrite(
        path, data, imagej=True, resolution=(1 / PIXEL_NM, 1 / PIXEL_NM),
        metadata={"unit": "nm", "axes": "TYX"[3 - data.ndim :], "finterval": FRAME_S},
    )  # fmt: skip


def ome(path: Path, data: np.ndarray) -> None:
    metadata: dict[str, Any] = {
        "axes": "TYX"[3 - data.ndim :], "PhysicalSizeX": PIXEL_NM * 1e-3, "PhysicalSizeY": PIXEL_NM * 1e-3,
        "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    if data.ndim == 3:
        metadata |= {"TimeIncrement": FRAME_S * 1e3, "TimeIncrementUnit": "ms"}
    tifffile.imwrite(path, data, ome=True, metadata=metadata)


def zspy(path: Path, data: np.ndarray, title: str = "HAADF", mode: Any = "w") -> None:
    """The layout of RosettaSciIO's writer, which needs Zarr 2, by Zarr itself."""
    root = zarr.open_group(path, mode=mode, zarr_format=2)
    root.attrs.update(file_format="ZSpy", file_format_version="3.3")
    group = root.create_group(f"Experiments/{title}")
    group.create_array("data", data=data)
    for k, described in enumerate(signal(data)["axes"]):
        described = {**described, "index_in_array": k}
        group.create_group(f"axis-{k}").attrs.update(described)
    group.create_group("metadata/General").attrs.update(title=title)


def ome_zarr(path: Path, data: np.ndarray, order: str = "TYX") -> None:
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.create_array("0", data=data)
    described = {
        "T": ({"name": "t", "type": "time", "unit": "second"}, FRAME_S),
        "Y": ({"name": "y", "type": "space", "unit": "nanometer"}, PIXEL_NM),
        "X": ({"name": "x", "type": "space", "unit": "nanometer"}, PIXEL_NM),
    }
    axes, scale = zip(*(described[letter] for letter in order[3 - data.ndim :]), strict=True)
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    root.attrs["multiscales"] = [{"version": "0.4", "name": "HAADF", "axes": axes, "datasets": datasets}]


def foreign(path: Path, data: np.ndarray, order: str = "TYX") -> None:
    """A data set with dimension scales, as h5py makes them."""
    described = {"T": ("t", "s", FRAME_S), "Y": ("y", "nm", PIXEL_NM), "X": ("x", "nm", PIXEL_NM)}
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("entry/frames", data=data)
        for k, (name, units, step) in enumerate(described[letter] for letter in order[3 - data.ndim :]):
            scale = file.create_dataset(f"entry/{name}", data=np.arange(data.shape[k]) * step)
            scale.attrs["units"] = units
            scale.make_scale(name)
            dataset.dims[k].label = name
            dataset.dims[k].attach_scale(scale)


def npz(path: Path, data: np.ndarray) -> None:
    key = "frames" if data.ndim == 3 else "image"
    np.savez(path, **{key: data}, pixel_size_nm=PIXEL_NM, **({"frame_s": FRAME_S} if data.ndim == 3 else {}))


def first_of(one: dict[str, Any], two: dict[str, Any]) -> None:
    """The parts of a second file of a layout of groups, into the first, as its library copies them."""
    for name in two:
        if name not in one:
            two.copy(name, one, name=name)
        elif isinstance(one[name], h5py.Group):
            first_of(one[name], two[name])


def beside(write: Callable[..., None]) -> Callable[[Path, np.ndarray, np.ndarray], None]:
    """Two images in one HDF5 file: each written by itself, the groups of the second copied to the first."""

    def both(path: Path, one: np.ndarray, two: np.ndarray) -> None:
        other = path.with_name(f"b{path.suffix}")
        write(path, one, "HAADF")
        write(other, two, "BF")
        with h5py.File(path, "a") as file, h5py.File(other) as second:
            first_of(file, second)
        other.unlink()

    return both


def titled(module: str) -> Callable[[Path, np.ndarray, str], None]:
    def write(path: Path, data: np.ndarray, title: str) -> None:
        importlib.import_module(f"rsciio.{module}").file_writer(str(path), signal(data, title=title))

    return write


def two_nexus(path: Path, one: np.ndarray, two: np.ndarray) -> None:
    signals = [signal(one, title="HAADF"), signal(two, title="BF")]
    importlib.import_module("rsciio.nexus").file_writer(str(path), signals)


def two_pages(path: Path, one: np.ndarray, two: np.ndarray, **options: Any) -> None:
    with tifffile.TiffWriter(path, **options) as writer:
        writer.write(one, metadata={"axes": "TYX", "Name": "HAADF"})
        writer.write(two, metadata={"axes": "YX", "Name": "BF"})


def two_zspy(path: Path, one: np.ndarray, two: np.ndarray) -> None:
    zspy(path, one)
    zspy(path, two, "BF", "a")


def two_ome_zarr(path: Path, one: np.ndarray, two: np.ndarray) -> None:
    ome_zarr(path, one)
    root = zarr.open_group(path, mode="a")
    root.create_array("1", data=two)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    scale = {"type": "scale", "scale": [PIXEL_NM, PIXEL_NM]}
    datasets = [{"path": "1", "coordinateTransformations": [scale]}]
    more = {"version": "0.4", "name": "BF", "axes": axes, "datasets": datasets}
    root.attrs["multiscales"] = [*root.attrs["multiscales"], more]


def two_foreign(path: Path, one: np.ndarray, two: np.ndarray) -> None:
    foreign(path, one)
    with h5py.File(path, "a") as file:
        file["entry/BF"] = two


def two_npz(path: Path, one: np.ndarray, two: np.ndarray) -> None:
    np.savez(path, frames=one, image=two, pixel_size_nm=PIXEL_NM)


@dataclass(frozen=True)
class Format:
    """What is read of one format, beside the images themselves."""

    ending: str
    write: Callable[[Path, np.ndarray], None]
    axes: bool = True
    calibration: bool = True
    time: bool = True
    several: Callable[[Path, np.ndarray, np.ndarray], None] | None = None
    lazy: bool = True


FORMATS = {
    "HyperSpy": Format(".hspy", rosetta("hspy"), several=beside(titled("hspy"))),
    "HyperSpy, Zarr": Format(".zspy", zspy, several=two_zspy),
    "EMD, HyperSpy": Format(".emd", rosetta("emd"), several=beside(titled("emd"))),
    "EMD, Berkeley": Format(".emd", berkeley, several=beside(berkeley)),
    "NeXus": Format(".nxs", rosetta("nexus"), several=two_nexus),
    "Ripple": Format(".rpl", rosetta("ripple")),
    "DigitalSurf": Format(".sur", rosetta("digitalsurf"), lazy=False),
    "TIFF, HyperSpy": Format(".tif", rosetta("tiff"), time=False, several=two_pages),
    "TIFF, ImageJ": Format(".tif", imagej),
    "OME-TIFF": Format(".ome.tif", ome, several=partial(two_pages, ome=True)),
    "OME-Zarr": Format(".zarr", ome_zarr, several=two_ome_zarr),
    "HDF5, other": Format(".h5", foreign, several=two_foreign),
    "NumPy, npz": Format(".npz", npz, axes=False, several=two_npz, lazy=False),
    "NumPy, npy": Format(".npy", np.save, axes=False, calibration=False, time=False),
}


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def written(tmp_path: Path, name: str, data: np.ndarray) -> Path:
    path = tmp_path / f"a{FORMATS[name].ending}"
    FORMATS[name].write(path, data)
    return path


def test_every_format_gives_each_image_of_a_stack_unchanged(tmp_path: Path, name: str) -> None:
    series = read_frames(written(tmp_path, name, STACK))
    assert (len(series), series.shape) == (N, (ROWS, COLS))
    assert np.array_equal(np.stack(list(series)), STACK)


def test_every_format_gives_a_single_image_with_its_pixel_size(tmp_path: Path, name: str) -> None:
    series = read_frames(written(tmp_path, name, STACK[2]))
    assert len(series) == 1
    assert np.array_equal(series.frame(0), STACK[2])
    expected = pytest.approx(PIXEL_NM) if FORMATS[name].calibration else None
    assert series.pixel_size_nm == expected


def test_the_time_of_a_stack_is_read_where_the_format_keeps_it(tmp_path: Path, name: str) -> None:
    series = read_frames(written(tmp_path, name, STACK))
    expected = pytest.approx(FRAME_S) if FORMATS[name].time else None
    assert series.frame_s == expected
    assert (series.t_acquired(3) is not None) == FORMATS[name].time


def test_large_files_are_read_frame_by_frame_where_the_format_allows(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, name, STACK)
    monkeypatch.setattr(_rosetta, "LAZY_BYTES", 0)
    monkeypatch.setattr(_tiff, "LAZY_BYTES", 0)
    series = read_frames(path)
    whole = isinstance(series._data, np.ndarray) and not isinstance(series._data, np.memmap)
    assert whole != FORMATS[name].lazy
    assert np.array_equal(series.frame(4), STACK[4])


@pytest.mark.parametrize("several", [name for name in FORMATS if FORMATS[name].several is not None])
def test_of_several_images_one_is_taken_and_each_can_be(tmp_path: Path, several: str) -> None:
    path = tmp_path / f"a{FORMATS[several].ending}"
    write = FORMATS[several].several
    assert write is not None
    two = np.pad(STACK[1], 4, mode="reflect")
    write(path, STACK, two)
    if several == "HDF5, other":  # nothing says which of an unknown layout is meant
        with pytest.raises(FileError, match=r"entry/BF .*--dataset"):
            read_frames(path)
        assert np.array_equal(read_frames(path, dataset="entry/BF").frame(0), two)
        assert np.array_equal(read_frames(path, dataset="entry/frames").frame(3), STACK[3])
        return
    taken = read_frames(path)
    assert np.array_equal(taken.frame(0), two), "the largest"
    assert sum("also in the file" in note for note in taken.notes) == 1
    found = [read_frames(path, image=number) for number in range(2)]
    assert sorted((len(one), *one.shape) for one in found) == [(1, 28, 32), (N, ROWS, COLS)]
    assert np.array_equal(next(one for one in found if len(one) == N).frame(4), STACK[4])


def test_the_table_in_the_documentation_says_what_was_measured(project: Path) -> None:
    page = (project / "docs/reference/files.md").read_text(encoding="utf-8")
    rows = {
        cells[0]: tuple(cell == "yes" for cell in cells[2:7])
        for line in re.findall(r"^\| (.*) \|$", page, flags=re.MULTILINE)
        if (cells := [cell.strip() for cell in line.split("|")])[0] in FORMATS
    }
    assert rows == {
        k: (f.axes, f.calibration, f.time, f.several is not None, f.lazy) for k, f in FORMATS.items()
    }


ENDINGS = {"berkeley": "emd", "foreign": "h5", "nexus": "nxs", "ome_zarr": "zarr"}
ORDERS = ["TYX", "YXT", "XYT", "TXY", "YTX", "XTY"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("write", ["hspy", "emd", "nexus", "berkeley", "foreign", "ome_zarr"])
def test_axes_are_taken_by_their_names_in_every_order(tmp_path: Path, order: str, write: str) -> None:
    described = {"T": ("time", FRAME_S, "s"), "Y": ("y", PIXEL_NM, "nm"), "X": ("x", PIXEL_NM, "nm")}
    data = np.ascontiguousarray(STACK.transpose(["TYX".index(letter) for letter in order]))
    path = tmp_path / f"a.{ENDINGS.get(write, write)}"
    if write in ("foreign", "ome_zarr"):
        {"foreign": foreign, "ome_zarr": ome_zarr}[write](path, data, order)
    elif write == "berkeley":
        with h5py.File(path, "w") as file:
            file.attrs.update(version_major=0, version_minor=2)
            group = file.create_group("data/a")
            group.attrs["emd_group_type"] = 1
            group["data"] = data
            for k, letter in enumerate(order):
                called, step, units = described[letter]
                group[f"dim{k + 1}"] = np.arange(data.shape[k]) * step
                group[f"dim{k + 1}"].attrs.update(name=called, units=units)
    else:
        given = signal(data)
        given["axes"] = [
            axis(data.shape[k], k, *described[letter], letter == "T") for k, letter in enumerate(order)
        ]
        importlib.import_module(f"rsciio.{write}").file_writer(str(path), given)
    series = read_frames(path)
    assert (series.pixel_size_nm, series.frame_s) == (pytest.approx(PIXEL_NM), pytest.approx(FRAME_S))
    assert np.array_equal(np.stack(list(series)), STACK)


def test_a_berkeley_emd_without_names_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file.attrs.update(version_major=0, version_minor=2)
        group = file.create_group("data/a")
        group.attrs["emd_group_type"] = 1
        group["data"] = STACK
        for k, size in enumerate(STACK.shape):
            group[f"dim{k + 1}"] = np.arange(size)
    assert np.array_equal(np.stack(list(read_frames(tmp_path / "a.emd"))), STACK)


UNITS = [
    ("nm", 1), ("n_m", 1), ("[n_m]", 1), ("nanometers", 1), ("Nanometre", 1), ("Å", 10), ("Å", 10), ("A", 10),
    ("Angstroms", 10), ("ANGSTROM", 10), ("pm", 1e3), ("picometers", 1e3), ("µm", 1e-3), ("μm", 1e-3),
    ("um", 1e-3), ("microns", 1e-3), ("Micron", 1e-3), ("\\u00B5m", 1e-3), ("Âµm", 1e-3), ("micrometer", 1e-3),
    ("m", 1e-9), ("meters", 1e-9), ("mm", 1e-6), ("nm/px", 1), ("nm per pixel", 1),
]  # fmt: skip


@pytest.mark.parametrize(("units", "in_nm"), UNITS)
@pytest.mark.parametrize("ending", ["hspy", "emd", "nxs"])
def test_every_spelling_of_a_length_is_read(tmp_path: Path, units: str, in_nm: float, ending: str) -> None:
    if ending == "emd" and units.startswith("["):
        pytest.skip("the writer adds brackets of its own")
    path = tmp_path / f"a.{ending}"
    module = {"nxs": "nexus"}.get(ending, ending)
    importlib.import_module(f"rsciio.{module}").file_writer(
        str(path), signal(STACK[0], units, PIXEL_NM * in_nm)
    )
    assert read_frames(path).pixel_size_nm == pytest.approx(PIXEL_NM)


RECIPROCAL = [
    "1/nm",
    "1 / nm",
    "nm^-1",
    "nm-1",
    "nm⁻¹",
    "1/Å",
    "A^-1",
    "1 / A",
    "[1_/n_m]",
    "1/µm",
    "mrad",
    "rad",
]


@pytest.mark.parametrize("units", RECIPROCAL)
def test_every_spelling_of_reciprocal_space_is_refused(tmp_path: Path, units: str) -> None:
    importlib.import_module("rsciio.hspy").file_writer(str(tmp_path / "a.hspy"), signal(STACK[0], units))
    with pytest.raises(FileError, match=r"calibrated in .*diffraction"):
        read_frames(tmp_path / "a.hspy")


@pytest.mark.parametrize(
    ("units", "scale", "said"),
    [
        ("m", 1e8, "a pixel of 1e+17 nm"), ("nm", 10.0, "a pixel of 10 nm"), ("nm", 1e-5, "a pixel of 1e-05 nm"),
        ("furlong per fortnight", 0.02, "no length"), ("V", 0.02, "no length"), ("s", 0.02, None),
        ("", 0.02, "without a unit"), ("nm", 0.0, "cannot be"),
    ],
)  # fmt: skip
def test_a_size_that_is_not_believed_is_said(
    tmp_path: Path, units: str, scale: float, said: str | None
) -> None:
    importlib.import_module("rsciio.hspy").file_writer(
        str(tmp_path / "a.hspy"), signal(STACK[0], units, scale)
    )
    if said is None:
        with pytest.raises(FileError, match=r"no rows and columns|more than one axis"):
            read_frames(tmp_path / "a.hspy")
        return
    series = read_frames(tmp_path / "a.hspy")
    assert series.pixel_size_nm is None
    assert any(said in note for note in series.notes)
    assert read_frames(tmp_path / "a.hspy", pixel_size_nm=0.01).pixel_size_nm == 0.01


@pytest.mark.parametrize("units", ["eV", "keV", "mrad", "nm", "V"])
def test_only_an_axis_of_time_is_time(tmp_path: Path, units: str) -> None:
    given = signal()
    given["axes"][0] = axis(N, 0, "z" if units == "nm" else "", 0.5, units, True)
    importlib.import_module("rsciio.hspy").file_writer(str(tmp_path / "a.hspy"), given)
    if units.endswith("eV"):
        with pytest.raises(FileError, match="spectra"):
            read_frames(tmp_path / "a.hspy")
        return
    series = read_frames(tmp_path / "a.hspy")
    assert (len(series), series.frame_s, series.t_acquired(1)) == (N, None, None)
    assert any("no time" in note or "no unit of time" in note for note in series.notes)


def channels(path: Path, kind: str) -> None:
    two = np.stack([STACK, STACK + 1], axis=1)
    if kind == "imagej":
        tifffile.imwrite(path, two, imagej=True, metadata={"axes": "TCYX", "unit": "nm"}, resolution=(50, 50))
    elif kind == "ome":
        named = {"axes": "TCYX", "Channel": {"Name": ["BF", "HAADF"]}}
        tifffile.imwrite(path, two, ome=True, metadata=named)
    else:
        given = signal(two[0])
        given["axes"][0] = axis(2, 0, "channel", 1.0, None, True)
        importlib.import_module("rsciio.hspy").file_writer(str(path), given)


@pytest.mark.parametrize(("kind", "first"), [("imagej", 0), ("ome", 1), ("hspy", 0)])
def test_a_channel_axis_is_no_time(tmp_path: Path, kind: str, first: int) -> None:
    path = tmp_path / ("a.hspy" if kind == "hspy" else "a.ome.tif" if kind == "ome" else "a.tif")
    channels(path, kind)
    series = read_frames(path)
    assert len(series) == (2 if kind == "hspy" else N) // (2 if kind == "hspy" else 1)
    assert any("took channel" in note for note in series.notes)
    assert np.array_equal(series.frame(0), STACK[0] + first)
    for channel in (0, 1):
        chosen = read_frames(path, channel=channel)
        assert np.array_equal(chosen.frame(0), STACK[0] + channel)
        assert not any("took channel" in note for note in chosen.notes)
    with pytest.raises(FileError, match="no channel 2; there are 0"):
        read_frames(path, channel=2)


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd"])
def test_compressed_tiffs_are_read(tmp_path: Path, compression: str) -> None:
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression=compression, photometric="minisblack")
    assert np.array_equal(np.stack(list(read_frames(tmp_path / "a.tif"))), STACK)


def test_a_resolution_without_a_unit_is_said(tmp_path: Path) -> None:
    imagej(tmp_path / "a.tif", STACK)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content.replace(b"unit=nm", b"tnit=nm"))
    series = read_frames(tmp_path / "a.tif")
    assert series.pixel_size_nm is None
    assert any("50 pixels a unit along X, but no unit" in note for note in series.notes)


def velox(path: Path) -> None:
    """Images and spectra beside them, in the groups of Velox."""
    described = {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1600000000"}},
        "Scan": {"FrameTime": str(FRAME_S)},
        "BinaryResult": {
            "Detector": "HAADF", "PixelSize": {"width": "2e-11", "height": "2e-11"}, "PixelUnitX": "m",
            "PixelUnitY": "m", "Offset": {"x": "0", "y": "0"},
        },
        "Detectors": {"Detector-0": {"DetectorName": "HAADF"}},
    }  # fmt: skip
    text = np.zeros((4096, 1), np.uint8)
    said = json.dumps(described).encode()
    text[: len(said), 0] = np.frombuffer(said, np.uint8)
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([b'{"format": "Velox", "version": "11"}'])
        image = file.create_group("Data/Image/" + "0" * 31 + "1")
        image["Data"], image["Metadata"] = STACK[0][..., None], text
        image["FrameLookupTable"] = np.zeros(1, int)
        stream = file.create_group("Data/SpectrumStream/" + "0" * 31 + "2")
        stream["Data"], stream["Metadata"] = np.zeros((50, 1), np.uint16), text
        settings = np.array([b'{"endFramePosition": "1"}'], dtype="S64")
        file["Data/SpectrumImage/" + "0" * 31 + "3/SpectrumImageSettings"] = settings
        file.create_group("Displays/ImageDisplay")


def test_an_image_beside_spectra_keeps_its_pixel_size(tmp_path: Path) -> None:
    pytest.importorskip("sparse")
    velox(tmp_path / "a.emd")
    series = read_frames(tmp_path / "a.emd")
    assert np.array_equal(series.frame(0), STACK[0])
    assert series.pixel_size_nm == pytest.approx(PIXEL_NM)
    assert "SpectrumStream in the same file was not read" in series.notes


def test_without_its_package_the_image_is_taken_and_the_package_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    velox(tmp_path / "a.emd")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "sparse" else find_spec(name, *a)
    )
    series = read_frames(tmp_path / "a.emd")
    assert (series.shape, series.pixel_size_nm) == ((ROWS, COLS), None)
    assert any("needs the package sparse; pip install 'latticewatch[io]'" in note for note in series.notes)


def test_an_axis_has_the_length_of_the_data_whatever_is_said(tmp_path: Path) -> None:
    rosetta("hspy")(tmp_path / "a.hspy", STACK[0])
    with h5py.File(tmp_path / "a.hspy", "a") as file:
        file["Experiments/HAADF/axis-0"].attrs["size"] = ROWS + 8
    series = read_frames(tmp_path / "a.hspy")
    assert np.array_equal(series.frame(0), STACK[0])
    assert any(f"says {ROWS + 8} for an axis on which the data has {ROWS}" in note for note in series.notes)


def test_the_largest_image_of_a_file_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(STACK[0][:16, :16])
        writer.write(STACK[1])
    series = read_frames(tmp_path / "a.tif")
    assert np.array_equal(series.frame(0), STACK[1])
    assert any("16 x 16" in note and "--image" in note for note in series.notes)
    assert read_frames(tmp_path / "a.tif", image=0).shape == (16, 16)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "npy"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_grey_picture_saved_as_colour_is_grey(tmp_path: Path, ending: str, mode: str) -> None:
    from PIL import Image

    grey = (STACK[0] % 251).astype(np.uint8)
    colour = np.stack([grey] * 3 + [np.full_like(grey, 255)] * (mode == "RGBA"), axis=-1)
    path = tmp_path / f"a.{ending}"
    if ending == "npy":
        np.save(path, colour)
    elif ending == "bmp" and mode == "RGBA":
        pytest.skip("Pillow writes no transparent bitmaps that it reads as such")
    else:
        Image.fromarray(colour).save(path)
    series = read_frames(path)
    assert np.array_equal(series.frame(0), grey)
    assert any("all colours equal" in note for note in series.notes)


def test_axes_without_names_are_time_first_and_a_doubt_is_said(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 99, (96, 96, 20)).astype(np.uint8)
    np.save(tmp_path / "a.npy", data)
    series = read_frames(tmp_path / "a.npy")
    assert (len(series), series.shape) == (96, (96, 20))
    assert any("--axes YXT" in note for note in series.notes)
    told = read_frames(tmp_path / "a.npy", axes="YXT")
    assert (len(told), told.shape, told.notes) == (20, (96, 96), [])
    assert np.array_equal(told.frame(7), data[..., 7])
    turned = read_frames(tmp_path / "a.npy", axes="xyt")
    assert np.array_equal(turned.frame(7), data[..., 7].T)
    for letters in ("YX", "TTYX", "QYX", "TYXC"):
        with pytest.raises(FileError, match="--axes"):
            read_frames(tmp_path / "a.npy", axes=letters)


def test_a_foreign_hdf5_file_lists_its_images_and_one_is_chosen(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw/detector"] = STACK
        file["raw/sum"] = STACK.sum(0)
        file["other/times"] = np.arange(5.0)
    with pytest.raises(
        FileError, match=r"tried .*raw/detector \(5 x 20 x 24\), raw/sum .*--dataset"
    ) as caught:
        read_frames(tmp_path / "a.h5")
    assert "damaged" not in str(caught.value)
    series = read_frames(tmp_path / "a.h5", dataset="raw/detector")
    assert np.array_equal(np.stack(list(series)), STACK)
    with pytest.raises(FileError, match=r"no data set 'x'; it holds raw/detector"):
        read_frames(tmp_path / "a.h5", dataset="x")


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    pytest.importorskip("rsciio.mrcz")
    if importlib.util.find_spec("mrcz") is not None:
        pytest.skip("mrcz is installed")
    (tmp_path / "a.mrcz").write_bytes(b"x" * 2000)
    with pytest.raises(FileError, match=r"needs the package mrcz; pip install mrcz"):
        read_frames(tmp_path / "a.mrcz")
