"""Pixels of every supported file kind against values worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from cdjax.data.image_io import (
  LASTING,
  decode_png,
  encode_png,
  file_form,
  load_image,
  read_radiograph,
  stretch,
)
from cdjax.data.quarantine import Unusable

pydicom = pytest.importorskip("pydicom")

SIZE = 8
RAMP = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)


def read(path, bits=8, fit="crop", resolution=SIZE):
  return read_radiograph(path, resolution=resolution, bits=bits, fit=fit)


def write_dicom(path, stored, **tags):
  """A small uncompressed DICOM; tags override the defaults."""
  meta = pydicom.dataset.FileMetaDataset()
  meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
  meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
  meta.TransferSyntaxUID = tags.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
  dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
  dataset.SOPClassUID = meta.MediaStorageSOPClassUID
  dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
  dataset.Rows, dataset.Columns = stored.shape[-2:]
  dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
  dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
  dataset.PixelRepresentation = int(stored.dtype.kind == "i")
  dataset.PixelData = stored.tobytes()
  for name, value in tags.items():
    setattr(dataset, name, value)
  dataset.save_as(path, enforce_file_format=True)
  return path


@pytest.mark.parametrize("bits", [8, 16])
def test_png_bytes_round_trip(bits):
  pixels = np.random.default_rng(0).integers(0, 1 << bits, (9, 9)).astype(f"uint{bits}")
  decoded = decode_png(encode_png(pixels), bits)
  assert decoded.dtype == pixels.dtype and np.array_equal(decoded, pixels)


def test_8_bit_png_is_kept_as_it_is(tmp_path):
  pixels = (RAMP * 3 + 20).astype(np.uint8)
  Image.fromarray(pixels).save(tmp_path / "a.png")
  assert np.array_equal(read(tmp_path / "a.png"), pixels)
  assert np.array_equal(read(tmp_path / "a.png", bits=16), pixels.astype(np.uint16) * 257)


def test_16_bit_png_is_stretched_between_its_percentiles(tmp_path):
  stored = (1000 + RAMP * 10).astype(np.uint16)
  Image.fromarray(stored).save(tmp_path / "a.png")
  low, high = np.percentile(stored, (0.5, 99.5))
  expected = np.rint(np.clip((stored - low) / (high - low), 0, 1) * 65535)
  assert np.abs(read(tmp_path / "a.png", bits=16) - expected).max() <= 1
  outlier = RAMP.astype(np.float64).repeat(8, 0).repeat(8, 1)
  outlier[0, 0] = 1e6  # A burned-in letter must not darken the rest.
  assert stretch(outlier)[-1, -1] > 0.99


def test_colour_transparency_and_orientation(tmp_path):
  grey = (RAMP * 3 + 20).astype(np.uint8)
  Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "rgb.png")
  assert np.array_equal(read(tmp_path / "rgb.png"), grey)
  alpha = np.full((SIZE, SIZE), 255, np.uint8)
  alpha[0] = 0
  Image.fromarray(np.stack([grey, grey, grey, alpha], -1)).save(tmp_path / "rgba.png")
  assert np.array_equal(read(tmp_path / "rgba.png"), np.where(alpha, grey, 0))
  exif = Image.Exif()
  exif[0x0112] = 3  # upside down
  Image.fromarray(grey).save(tmp_path / "turned.jpg", quality=100, exif=exif)
  assert np.abs(read(tmp_path / "turned.jpg") - grey[::-1, ::-1].astype(float)).max() <= 2


def test_squares_keep_proportions(tmp_path):
  wide = np.zeros((16, 32), np.uint8)
  wide[:, 8:24] = np.arange(16, dtype=np.uint8)[None] * 16
  Image.fromarray(wide).save(tmp_path / "a.png")
  assert np.array_equal(read(tmp_path / "a.png", resolution=16), wide[:, 8:24])
  padded = read(tmp_path / "a.png", resolution=32, fit="pad")
  assert np.array_equal(padded[8:24], wide) and not padded[:8].any() and not padded[24:].any()
  checks = (np.indices((32, 32)).sum(0) % 2 * 200).astype(np.uint8)  # No pattern must be left.
  checks[:16] = 50
  Image.fromarray(checks).save(tmp_path / "b.png")
  small = read(tmp_path / "b.png", resolution=8)
  assert np.abs(small[5:] - 100.0).max() <= 2 and np.abs(small[:3] - 50.0).max() <= 2


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("inverted", [False, True])
def test_8_bit_files_are_resized_as_floats_would_be(tmp_path, fit, inverted):
  stored = np.random.default_rng(0).integers(0, 256, (90, 130)).astype(np.uint8)
  Image.fromarray(stored).save(tmp_path / "a.png")
  fast, fine = (read_radiograph(tmp_path / "a.png", resolution=33, bits=bits, fit=fit,
                                inverted=inverted) for bits in (8, 16))
  assert fast.dtype == np.uint8 and fine.dtype == np.uint16
  assert np.abs(fast - fine / 257.0).max() <= 1.01   # both directions are rounded to integers
  assert np.unique(fine % 257).size > 100


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_rescale_then_window(tmp_path, photometric):
  stored = (RAMP * 20).astype(np.uint16)
  path = write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation=photometric,
                     RescaleSlope=2, RescaleIntercept=-100, WindowCenter=1000, WindowWidth=801)
  # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5), clipped.
  values = stored * 2.0 - 100
  expected = np.clip((values - 999.5) / 800 + 0.5, 0, 1)
  if photometric == "MONOCHROME1":
    expected = 1 - expected
  pixels = read(path, bits=16)
  assert np.abs(pixels / 65535 - expected).max() < 1e-4
  assert 0 < ((expected > 0) & (expected < 1)).sum() < expected.size  # The window cuts both ends.


def test_dicom_signed_first_of_several_windows(tmp_path):
  stored = (RAMP * 10 - 300).astype(np.int16)
  path = write_dicom(tmp_path / "a", stored, WindowCenter=[0.0, 50.0], WindowWidth=[401.0, 10.0],
                     VOILUTFunction="")
  expected = np.clip((stored + 0.5) / 400 + 0.5, 0, 1)
  assert np.abs(read(path, bits=16) / 65535 - expected).max() < 1e-4


def test_dicom_lookup_table_goes_before_the_window(tmp_path):
  table = pydicom.dataset.Dataset()
  entries = (np.arange(64) ** 2 // 16).astype(np.uint16)
  table.LUTDescriptor, table.LUTData = [64, 0, 8], entries.tobytes()
  path = write_dicom(tmp_path / "a.dcm", RAMP.astype(np.uint16), VOILUTSequence=[table],
                     WindowCenter=5, WindowWidth=3)
  assert np.array_equal(read(path), entries.reshape(SIZE, SIZE))


def test_dicom_without_window_ignores_padding(tmp_path):
  stored = (1000 + RAMP).astype(np.uint16)
  stored[:, 0] = 0
  path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=0,
                     PhotometricInterpretation="MONOCHROME1")
  low, high = np.percentile(stored[:, 1:], (0.5, 99.5))
  expected = 1 - np.clip((stored - low) / (high - low), 0, 1)
  expected[:, 0] = 0
  assert np.abs(read(path, bits=16) / 65535 - expected).max() < 1e-4


def refused(path, **kwargs):
  with pytest.raises(Unusable) as error:
    read(path, **kwargs)
  return error.value.kind, str(error.value)


def test_unreadable_files_say_why(tmp_path):
  noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
  for suffix in ("png", "jpg"):
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(data[:len(data) // 2])
    assert refused(tmp_path / f"cut.{suffix}")[0] == "unreadable image"
  (tmp_path / "empty.png").touch()
  assert refused(tmp_path / "empty.png")[0] == "empty image"
  (tmp_path / "text.png").write_text("not an image")
  assert "PNG, JPEG or DICOM" in refused(tmp_path / "text.png")[1]
  Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / "flat.png")
  assert refused(tmp_path / "flat.png")[0] == "constant image"
  (tmp_path / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"junk")
  assert refused(tmp_path / "bad.dcm")[0] == "unreadable image"


def test_what_the_machine_refuses_is_no_verdict_on_the_file(tmp_path, monkeypatch):
  Image.fromarray((RAMP * 4).astype(np.uint8)).save(tmp_path / "a.png")
  path = write_dicom(tmp_path / "a.dcm", RAMP.astype(np.uint16))
  for error, kind in ((OSError(5, "Input/output error"), "unreadable file"),
                      (PermissionError(13, "Permission denied"), "unreadable file"),
                      (MemoryError("no room"), "unreadable file"),
                      (OSError("image file is truncated"), "unreadable image"),
                      (OSError(22, "Invalid argument"), "unreadable image")):  # a seek
    def fails(*_, error=error, **__):
      raise error

    for name, broken in (("a.png", (Image, "open")),
                         (path.name, (pydicom.Dataset, "convert_pixel_data"))):
      with monkeypatch.context() as patch:
        patch.setattr(*broken, fails)
        assert refused(tmp_path / name)[0] == kind, (name, error)
    assert (kind in LASTING) == (kind == "unreadable image")


def test_the_form_of_a_file_is_its_kind_and_depth(tmp_path):
  Image.fromarray((RAMP * 4).astype(np.uint8)).save(tmp_path / "a.png")
  Image.fromarray((RAMP * 400).astype(np.uint16)).save(tmp_path / "b.png")
  Image.fromarray(np.stack([(RAMP * 4).astype(np.uint8)] * 3, -1)).save(tmp_path / "c.jpg")
  write_dicom(tmp_path / "d", RAMP.astype(np.uint16))
  assert [file_form(tmp_path / name) for name in ("a.png", "b.png", "c.jpg", "d")] == [
      "PNG, 8 bits", "PNG, 16 bits", "JPEG, 8 bits", "DICOM, 12 bits"]


def test_unsupported_dicoms_say_why(tmp_path):
  frames = np.stack([RAMP, RAMP]).astype(np.uint16)
  path = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=2)
  assert "2 frames" in refused(path)[1]
  path = write_dicom(tmp_path / "b.dcm", RAMP.astype(np.uint16), SamplesPerPixel=3,
                     PhotometricInterpretation="RGB")
  assert "RGB" in refused(path)[1]
  path = write_dicom(tmp_path / "c.dcm", RAMP.astype(np.uint16),
                     PixelData=pydicom.encaps.encapsulate([b"\0" * 32]),
                     syntax=pydicom.uid.JPEGLSLossless)
  assert "JPEG-LS" in refused(path)[1]
  whole = write_dicom(tmp_path / "d.dcm", RAMP.astype(np.uint16)).read_bytes()
  (tmp_path / "d.dcm").write_bytes(whole[:-40])
  assert refused(tmp_path / "d.dcm")[0] == "unreadable image"
  path = write_dicom(tmp_path / "e.dcm", np.full((SIZE, SIZE), 9, np.uint16))
  assert refused(path)[0] == "constant image"


def test_paths_out_of_the_folder_are_refused(tmp_path):
  root = tmp_path / "images"
  root.mkdir()
  secret = tmp_path / "secret.png"
  Image.fromarray((RAMP * 4).astype(np.uint8)).save(secret)
  (root / "link.png").symlink_to(secret)
  (root / "folder").symlink_to(tmp_path)
  (root / "inside.png").symlink_to(root / "real.png")
  Image.fromarray((RAMP * 4).astype(np.uint8)).save(root / "real.png")

  def load(name):
    return load_image(root, name, resolution=SIZE, bits=8, fit="crop")

  for name in ("../secret.png", str(secret), "link.png", "folder/secret.png", "a\0b",
               "x/../real.png"):
    with pytest.raises(Unusable) as error:
      load(name)
    assert error.value.kind == "outside the folder", name
  with pytest.raises(Unusable, match="no such file"):
    load("nothing.png")
  (root / "one.png").symlink_to(root / "two.png")
  (root / "two.png").symlink_to(root / "one.png")
  for name in ("one.png", "x" * 300):   # a circle, and longer than a name can be
    with pytest.raises(Unusable, match="cannot be followed") as error:
      load(name)
    assert error.value.kind == "missing file"
  pixels, png = load("inside.png")
  assert np.array_equal(pixels, RAMP * 4) and np.array_equal(decode_png(png, 8), pixels)
