"""Microscope files: images and pixel sizes out of good ones, one helpful line out of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latticewatch.errors import FileError
from latticewatch.ingest import read_frames
from latticewatch.ingest.files import _rosetta

h5py = pytest.importorskip("h5py", reason="the io extra is not installed")
tifffile = pytest.importorskip("tifffile", reason="the io extra is not installed")
hspy = pytest.importorskip("rsciio.hspy", reason="the io extra is not installed")

RAMP = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24)
COLOUR = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
STACK = np.stack([RAMP, RAMP + 1, RAMP + 2])


def axis(size: int, index: int, scale: float = 1.0, units: str | None = None, navigate: bool = False) -> dict:
    return {
        "_type": "UniformDataAxis", "name": f"axis{index}", "size": size, "index_in_array": index,
        "scale": scale, "offset": 0.0, "units": units, "navigate": navigate,
    }  # fmt: skip


def write_hspy(path: Path, data: np.ndarray, axes: list[dict]) -> None:
    signal = {
        "data": data,
        "axes": axes,
        "metadata": {"General": {"title": "HAADF"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "tmp_parameters": {},
        "package_info": {"package": "", "package_version": ""},
        "models": {},
    }
    hspy.file_writer(str(path), signal)


def image_axes(units: str | None, scale: float = 0.02, scale_y: float | None = None) -> list[dict]:
    return [axis(20, 0, scale_y or scale, units), axis(24, 1, scale, units)]


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", ">i4", "u4", "i8", "f2", ">f4", "f8", "bool", "g"])
def test_values_of_every_numeric_dtype_come_out_in_native_order(tmp_path: Path, dtype: str) -> None:
    recorded = (RAMP % 2 if dtype == "bool" else RAMP % 100).astype(dtype)
    np.save(tmp_path / "a.npy", recorded)
    (image,) = read_frames(tmp_path / "a.npy")
    assert image.dtype.isnative
    assert image.dtype.kind in "uif"
    assert image.dtype.itemsize <= 8
    assert np.array_equal(image, recorded.astype(np.float64))
    assert not image.flags.writeable


def test_a_stack_gives_its_frames_in_order_as_often_as_asked(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    series = read_frames(tmp_path / "a.npy", pixel_size_nm=0.01)
    assert (len(series), series.n_frames, series.shape, series.name) == (3, 3, (20, 24), "a")
    assert series.pixel_size_nm == 0.01
    for _ in range(2):
        assert np.array_equal(np.stack(list(series)), STACK)


@pytest.mark.parametrize("key", ["image", "frames"])
def test_an_npz_gives_its_image_and_its_pixel_size(tmp_path: Path, key: str) -> None:
    np.savez(tmp_path / "a.npz", **{key: STACK, "pixel_size_nm": 0.012, "other": np.zeros(3)})
    series = read_frames(tmp_path / "a.npz")
    assert (series.n_frames, series.pixel_size_nm) == (3, 0.012)
    assert read_frames(tmp_path / "a.npz", pixel_size_nm=0.5).pixel_size_nm == 0.5


def test_tiffs_are_read_alone_stacked_and_calibrated(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", RAMP)
    tifffile.imwrite(tmp_path / "stack.TIFF", STACK, photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "imagej.tif", STACK, imagej=True, resolution=(2.5, 2.5), metadata={"unit": "Angstrom", "axes": "TYX"}
    )  # fmt: skip
    assert np.array_equal(read_frames(tmp_path / "one.tif").frame(0), RAMP)
    assert np.array_equal(np.stack(list(read_frames(tmp_path / "stack.TIFF"))), STACK)
    series = read_frames(tmp_path / "imagej.tif")
    assert series.n_frames == 3
    assert series.pixel_size_nm == pytest.approx(0.04)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_grey_pictures_are_read(tmp_path: Path, name: str) -> None:
    Image.fromarray((RAMP % 251).astype(np.uint8)).save(tmp_path / name)
    assert read_frames(tmp_path / name).frame(0).shape == (20, 24)


def test_a_16_bit_png_keeps_its_values(tmp_path: Path) -> None:
    Image.fromarray(RAMP * 100).save(tmp_path / "a.png")
    assert np.array_equal(read_frames(tmp_path / "a.png").frame(0), RAMP * 100)


@pytest.mark.parametrize(
    ("units", "scale", "nm"),
    [
        ("nm", 0.02, 0.02), ("Å", 0.2, 0.02), ("A", 0.2, 0.02), ("pm", 20, 0.02), ("µm", 2e-5, 0.02),
        ("μm", 2e-5, 0.02), ("um", 2e-5, 0.02), ("m", 2e-11, 0.02), ("nm", -0.02, 0.02),
        (None, 1.0, None), ("px", 1.0, None),
    ],
)  # fmt: skip
def test_the_calibration_is_converted_to_nanometres(tmp_path: Path, units, scale, nm) -> None:
    write_hspy(tmp_path / "a.hspy", RAMP, image_axes(units, scale))
    series = read_frames(tmp_path / "a.hspy")
    assert series.pixel_size_nm == (None if nm is None else pytest.approx(nm))
    assert series.name == series.metadata["title"] == "HAADF"
    assert np.array_equal(series.frame(0), RAMP)


def test_a_large_file_is_read_frame_by_frame(tmp_path: Path, monkeypatch) -> None:
    write_hspy(tmp_path / "a.hspy", STACK, [axis(3, 0, navigate=True), axis(20, 1), axis(24, 2)])
    monkeypatch.setattr(_rosetta, "LAZY_BYTES", 0)
    series = read_frames(tmp_path / "a.hspy")
    assert not isinstance(series._data, np.ndarray)
    assert np.array_equal(np.stack(list(series)), STACK)


def test_a_leading_axis_of_length_one_is_dropped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK[None])
    assert read_frames(tmp_path / "a.npy").n_frames == 3


@pytest.mark.parametrize("n_missing", [5, 240])
def test_missing_values_are_let_through_as_nan_and_counted(tmp_path: Path, n_missing: int) -> None:
    image = RAMP.astype(np.float32)
    image.flat[:n_missing] = np.resize([np.nan, np.inf, -np.inf], n_missing)
    np.save(tmp_path / "a.npy", image)
    series = read_frames(tmp_path / "a.npy")
    read = series.frame(0).ravel()
    assert np.isnan(read[:n_missing]).all()
    assert np.array_equal(read[n_missing:], RAMP.ravel()[n_missing:])
    assert series.notes == [
        f"frame 0: {n_missing} of 480 pixels have no finite value; not taken for specimen"
    ]


def test_a_constant_image_is_an_image(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((32, 32)))
    assert read_frames(tmp_path / "a.npy").frame(0).min() == 1


def text(path: Path) -> None:
    path.write_text("this is not what its name says\n" * 50)


def array(data: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, data, allow_pickle=True)


def truncated_npy(path: Path) -> None:
    np.save(path, RAMP)
    path.write_bytes(path.read_bytes()[:300])


def truncated_hspy(path: Path) -> None:
    write_hspy(path, RAMP, image_axes("nm"))
    path.write_bytes(path.read_bytes()[:2000])


def hspy_with(axes: list[dict], data: np.ndarray = RAMP) -> Callable[[Path], None]:
    return lambda path: write_hspy(path, data, axes)


SPECTRA = [axis(20, 0, navigate=True), axis(24, 1, navigate=True), axis(50, 2)]
BAD = {
    "missing.npy": (lambda path: None, "no such file"),
    "folder.dm4": (lambda path: path.mkdir(), "a folder"),
    "empty.dm4": (lambda path: path.touch(), "an empty file"),
    "text.dm4": (text, "damaged"),
    "text.dm3": (text, "damaged"),
    "text.emd": (text, "damaged"),
    "text.ser": (text, "damaged"),
    "text.mrc": (text, "damaged"),
    "text.hspy": (text, "damaged"),
    "text.h5": (text, "damaged"),
    "text.tif": (text, "damaged"),
    "text.png": (text, "damaged"),
    "text.npy": (text, "not a NumPy file"),
    "text.npz": (text, "damaged"),
    "text.txt": (text, "no reader for '.txt'"),
    "text": (text, "no reader"),
    "cut.npy": (truncated_npy, "damaged"),
    "cut.hspy": (truncated_hspy, "damaged"),
    "one.npy": (array(np.zeros(400)), "400 values"),
    "none.npy": (array(np.array(3.0)), "no values"),
    "four.npy": (array(np.zeros((2, 2, 20, 20))), "2 x 2 x 20 x 20"),
    "zero.npy": (array(np.zeros((0, 20, 20))), "without frames"),
    "small.npy": (array(np.zeros((10, 10))), "10 x 10 pixels; 16 a side"),
    "complex.npy": (array(np.zeros((20, 20), complex)), "complex numbers"),
    "object.npy": (array(np.full((20, 20), None)), "damaged"),
    "words.npy": (array(np.full((20, 20), "a")), "not numbers"),
    "nan.npy": (array(np.full((20, 20), np.nan)), "frame 0: no pixel has a finite value"),
    "rgb.npy": (array(COLOUR), "a colour image"),
    "rgb.tif": (lambda path: tifffile.imwrite(path, COLOUR, photometric="rgb"), "colour"),
    "rgb.png": (lambda path: Image.new("RGB", (20, 20), "red").save(path), "a colour image"),
    "rgba.png": (lambda path: Image.new("RGBA", (20, 20), "red").save(path), "a colour image"),
    "keys.npz": (lambda path: np.savez(path, a=RAMP, b=RAMP), "it holds a, b"),
    "scale.npz": (lambda path: np.savez(path, image=RAMP, pixel_size_nm=np.nan), "pixel_size_nm is nan"),
    "diffraction.hspy": (hspy_with(image_axes("1/nm")), "diffraction pattern"),
    "oblong.hspy": (hspy_with(image_axes("nm", 0.02, 0.04)), "not square"),
    "spectra.hspy": (hspy_with(SPECTRA, np.zeros((20, 24, 50), np.float32)), "20 x 24 x 50"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_one_line_with_its_name_and_the_remedy(tmp_path: Path, capfd, name: str) -> None:
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(FileError) as caught:
        read_frames(tmp_path / name)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / name}: ")
    assert message in line
    assert "\n" not in line
    assert len(line) - len(str(tmp_path)) < 330
    assert capfd.readouterr() == ("", "")


def test_a_calibration_that_is_wrong_is_overruled_by_the_pixel_size_given(tmp_path: Path) -> None:
    for name in ("diffraction.hspy", "oblong.hspy"):
        BAD[name][0](tmp_path / name)
        assert read_frames(tmp_path / name, pixel_size_nm=0.1).pixel_size_nm == 0.1


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pixel_size_that_cannot_be_is_refused(tmp_path: Path, size: float) -> None:
    np.save(tmp_path / "a.npy", RAMP)
    with pytest.raises(FileError, match="positive number"):
        read_frames(tmp_path / "a.npy", pixel_size_nm=size)


def test_a_frame_in_the_middle_that_is_bad_is_named(tmp_path: Path) -> None:
    stack = STACK.astype(np.float32)
    stack[1] = np.nan
    np.save(tmp_path / "a.npy", stack)
    series = read_frames(tmp_path / "a.npy")
    with pytest.raises(FileError, match="frame 1: no pixel has"):
        list(series)


def test_an_image_is_chosen_by_number_or_name_and_the_listing_helps(tmp_path: Path) -> None:
    path = tmp_path / "a.emd"
    with h5py.File(path, "w") as file:
        file.attrs.update(version_major=0, version_minor=2)
        for name, data in (("EDS", np.zeros(100)), ("ADF1", RAMP), ("BF", RAMP + 3), ("ADF2", RAMP + 5)):
            group = file.create_group(f"data/{name}")
            group.attrs["emd_group_type"] = 1
            group["data"] = data
            for k, letter in enumerate("YX"[: data.ndim]):
                group[f"dim{k + 1}"] = np.arange(data.shape[k]) * 0.02
                group[f"dim{k + 1}"].attrs.update(name=letter, units="[n_m]")
    assert read_frames(path).name == "ADF1"
    assert read_frames(path).pixel_size_nm == pytest.approx(0.02)
    assert "also in the file: 1: ADF2 (" in read_frames(path).notes[0]
    for options in ({"image": "bf"}, {"image": "2"}, {"image": 2}, {"channel": 2}):
        assert read_frames(path, **options).frame(0)[0, 0] == 3
    with pytest.raises(FileError, match=r"no channel 4; there are 0: ADF1 \(20 x 24, uint16\), 1: ADF2"):
        read_frames(path, channel=4)
    with pytest.raises(FileError, match=r"several images are called adf; there are 0: ADF1"):
        read_frames(path, image="adf")
    with pytest.raises(FileError, match=r"100 values.*the file holds 0: ADF1"):
        read_frames(path, image="EDS")


@pytest.mark.parametrize("detector", ["ADF1", "ADF2"])
def test_a_real_dm4_file_is_read_with_its_pixel_size(shared_data: Path, detector: str) -> None:
    series = read_frames(shared_data / "real" / "TiWSe2_1028_2" / f"1028_{detector}_2.dm4")
    assert (series.shape, series.n_frames, series.dtype) == ((512, 512), 1, np.uint32)
    assert series.pixel_size_nm == pytest.approx(0.0398793, rel=1e-5)
    assert series.frame(0).std() > 0


def test_a_real_dm4_file_cut_anywhere_is_one_line(shared_data: Path, tmp_path: Path, capfd, rng) -> None:
    whole = (shared_data / "real" / "TiWSe2_1028_2" / "1028_ADF1_2.dm4").read_bytes()
    path = tmp_path / "cut.dm4"
    for length in [1, 4, 100, 5000, len(whole) // 2, *rng.integers(1, len(whole) * 9 // 10, 10)]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="damaged, incomplete"):
            read_frames(path)
    assert capfd.readouterr() == ("", "")


def test_a_simulated_scene_is_read_with_its_pixel_size(shared_data: Path) -> None:
    series = read_frames(shared_data / "truth" / "ws2_1024_r0.npz")
    assert (series.shape, series.pixel_size_nm) == ((1024, 1024), 0.012)
