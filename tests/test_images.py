"""Image files: what they are by their bytes, windows by DICOM's own arithmetic, and no name left in."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from soma_bench.errors import ConfigError
from soma_bench.providers import images
from soma_bench.providers.images import load_image

PATIENT = "Canary^Maria"
HOUNSFIELD = np.array([[-2000, -1000, -600], [-100, 0, 40], [200, 400, 3000]])


def write_dicom(path: Path, hounsfield=HOUNSFIELD, *, slope: float = 1.0, **tags) -> Path:
    """A CT slice of these Hounsfield numbers, stored as unsigned with an intercept."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = PATIENT, "12345"
    dataset.Modality = "CT"
    stored = np.asarray((hounsfield + 2000) / slope, dtype=np.uint16)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, -2000
    dataset.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def pixels(image) -> np.ndarray:
    with Pillow.open(io.BytesIO(image.data)) as picture:
        assert picture.mode == "L"
        return np.asarray(picture)


def encoded(kind: str, size=(8, 8)) -> bytes:
    stream = io.BytesIO()
    Pillow.new("RGB", size, "red").save(stream, format=kind)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "media"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_a_bare_image_goes_as_it_is_whatever_its_name_says(tmp_path, kind, media):
    path = tmp_path / "slice.txt"
    path.write_bytes(encoded(kind))
    image = load_image(path)
    assert (image.data, image.media_type) == (path.read_bytes(), media)


def noisy() -> Pillow.Image:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return Pillow.fromarray(noise)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_loses_its_texts_and_keeps_every_pixel(tmp_path, progressive):
    exif = Pillow.Exif()
    exif[0x010E] = PATIENT
    path = tmp_path / "a.jpg"
    noisy().save(path, exif=exif, comment=PATIENT, progressive=progressive)
    assert path.read_bytes().count(b"Canary") == 2
    data = load_image(path).data
    assert b"Canary" not in data
    with Pillow.open(path) as before, Pillow.open(io.BytesIO(data)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))


def test_a_png_loses_its_texts_and_keeps_every_pixel(tmp_path):
    texts = PngInfo()
    texts.add_text("Patient", PATIENT)
    texts.add_itxt("Name", PATIENT)
    exif = Pillow.Exif()
    exif[0x010E] = PATIENT
    path = tmp_path / "a.png"
    noisy().quantize(16).save(path, pnginfo=texts, exif=exif, transparency=3)
    path.write_bytes(path.read_bytes() + PATIENT.encode())
    assert path.read_bytes().count(b"Canary") == 4
    data = load_image(path).data
    assert b"Canary" not in data
    with Pillow.open(path) as before, Pillow.open(io.BytesIO(data)) as after:
        assert np.array_equal(np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA")))


def linear(values, centre: float, width: float) -> np.ndarray:
    """DICOM PS3.3 C.11.2.1.2.1, written out case by case."""
    out = np.empty(values.shape)
    for at, x in np.ndenumerate(values):
        if x <= centre - 0.5 - (width - 1) / 2:
            out[at] = 0
        elif x > centre - 0.5 + (width - 1) / 2:
            out[at] = 255
        else:
            out[at] = ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return np.rint(out)


@pytest.mark.parametrize(
    ("window", "tags", "centre", "width"),
    [
        ("lung", {}, -600, 1500),
        ("mediastinal", {}, 40, 400),
        ((100, 50), {"WindowCenter": 0, "WindowWidth": 10}, 100, 50),
        (None, {"WindowCenter": 50, "WindowWidth": 350}, 50, 350),
        (None, {"WindowCenter": [50, -600], "WindowWidth": [350, 1500]}, 50, 350),
        (None, {}, -600, 1500),
        ("lung", {"slope": 2.0}, -600, 1500),
    ],
)
def test_a_window_maps_hounsfield_units_as_the_standard_says(tmp_path, window, tags, centre, width):
    image = load_image(write_dicom(tmp_path / "ct", **tags), window=window)
    assert image.media_type == "image/png"
    assert np.array_equal(pixels(image), linear(HOUNSFIELD, centre, width))


def test_an_exact_window_is_told_from_a_linear_one(tmp_path):
    tags = {"WindowCenter": 0, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}
    shown = pixels(load_image(write_dicom(tmp_path / "ct", **tags)))
    assert shown[1, 1] == 128
    assert shown[0, 1] == 0
    assert shown[2, 2] == 255


def test_inverted_images_come_out_like_all_others(tmp_path):
    plain = pixels(load_image(write_dicom(tmp_path / "a"), window="lung"))
    turned = write_dicom(tmp_path / "b", PhotometricInterpretation="MONOCHROME1")
    assert np.all(plain.astype(int) + pixels(load_image(turned, window="lung")) == 255)


def test_without_a_window_what_is_no_ct_shows_its_full_range(tmp_path):
    shown = pixels(load_image(write_dicom(tmp_path / "dx", Modality="DX")))
    assert (shown.min(), shown.max()) == (0, 255)


def test_an_empty_picture_is_no_error(tmp_path):
    path = write_dicom(tmp_path / "dx", np.zeros((4, 4)), Modality="DX")
    assert len(set(pixels(load_image(path)).ravel())) == 1


def test_nothing_of_the_header_is_left(tmp_path):
    path = write_dicom(tmp_path / "ct")
    assert b"Canary" in path.read_bytes()
    data = load_image(path).data
    with Pillow.open(io.BytesIO(data)) as picture:
        assert picture.info == {}
        assert not picture.getexif()
    chunks, at = [], 8
    while at < len(data):
        chunks.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4])
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


def test_a_picture_that_shows_the_patient_must_be_allowed_on_purpose(tmp_path):
    path = write_dicom(tmp_path / "ct", BurnedInAnnotation="YES")
    with pytest.raises(ConfigError, match="show who the patient is"):
        load_image(path)
    assert load_image(path, burned_in=True).data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a PNG, JPEG or DICOM"),
        (b"GIF89a" + b"\0" * 300, "is not a PNG, JPEG or DICOM"),
        (encoded("PNG", (64, 64))[:-40], "broken PNG"),
        (encoded("PNG")[:20], "broken PNG"),
        (encoded("JPEG", (256, 256))[:-500], "broken JPEG"),
        (b"\0" * 128 + b"DICM" + b"garbage" * 9, "DICOM"),
        (b"\0" * 128 + b"DICM", "DICOM"),
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "window", "message"),
    [
        ({"NumberOfFrames": 3}, None, "has 3 frames"),
        ({"PhotometricInterpretation": "RGB"}, None, "not grey"),
        ({"Rows": 400}, None, "broken DICOM"),
        ({"Rows": 60_000, "Columns": 60_000}, None, "too large"),
        ({}, (40, 0), "shows nothing"),
        ({}, (float("nan"), 400), "shows nothing"),
        ({"WindowCenter": 40, "WindowWidth": 0}, None, "shows nothing"),
        ({}, "bone", "not one of lung, mediastinal"),
    ],
)
def test_a_slice_that_cannot_be_shown_is_refused(tmp_path, tags, window, message):
    path = write_dicom(tmp_path / "ct", **tags)
    with pytest.raises(ConfigError, match=message):
        load_image(path, window=window)


def test_a_dicom_cut_short_is_refused(tmp_path):
    path = write_dicom(tmp_path / "ct", np.zeros((64, 64)))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ConfigError, match="DICOM"):
        load_image(path)


def test_a_window_is_for_dicom_only(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    with pytest.raises(ConfigError, match="only DICOM images take a window"):
        load_image(path, window="lung")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_image(path)


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG") + b"\0" * images.MAX_IMAGE_BYTES)
    with pytest.raises(ConfigError, match=r"has 5\.0 MiB; an image may have 5"):
        load_image(path)


def test_without_pydicom_the_command_that_brings_it_is_named(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "ct")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match=r"pip install 'soma-bench\[dicom\]'"):
        load_image(path)
