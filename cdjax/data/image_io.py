"""Files of radiographs to square grey images, and PNG bytes to pixels and back."""

import errno
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cdjax.data.quarantine import Unusable

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
FITS = ("crop", "pad")
PERCENTILES = (0.5, 99.5)     # ends of the grey scale where a file does not say what they are
# Kinds of `Unusable` that speak of a file's content, which stays as it is while the file does; the
# others speak of a disk, a right or the memory, and may be gone the next time.
LASTING = ("empty image", "unreadable image", "constant image")
_SAMPLE = 1 << 20             # pixels that the percentiles are taken over


def read_radiograph(path: Path, *, resolution: int, bits: int, fit: str,
                    inverted: bool = False) -> np.ndarray:
  """Reads a PNG, JPEG or DICOM file as a square grey image, bright where the body is dense.

  Args:
    path: an existing file.
    resolution: side of the result in pixels.
    bits: 8 or 16, of the result.
    fit: "crop" takes the square in the middle, "pad" adds black to the shorter sides.
    inverted: the file shows dense parts dark, without saying so (a DICOM file says it).

  Returns:
    `[resolution, resolution]` uint8 or uint16.

  Raises:
    Unusable: the file is empty, truncated, of another format, or shows one constant value; or, of
      a kind that is not in `LASTING`, it could not be read this time.
    OSError: there is no such file.
  """
  if path.stat().st_size == 0:
    raise Unusable("empty image", "the file has 0 bytes")
  # Decoders raise errors of every kind on damaged files (OSError, SyntaxError, struct.error, …).
  try:
    image = _read_grey(path)
    if image.dtype == np.uint8 and bits > 8:
      image = image.astype(np.float32) / 255   # what resizing averages is finer than 8 bits
    if inverted:
      image = (255 if image.dtype == np.uint8 else 1) - image
    pixels = to_pixels(fit_square(image, resolution, fit), bits)
  except Unusable:
    raise
  except Exception as error:
    kind = "unreadable file" if is_passing(error) else "unreadable image"
    raise Unusable(kind, f"{type(error).__name__}: {error}") from error
  if int(pixels.max()) - int(pixels.min()) < (1 << bits) // 128:
    raise Unusable("constant image", f"every pixel is {pixels.min()} to {pixels.max()} "
                                     f"of {(1 << bits) - 1}")
  return pixels


def is_passing(error: Exception) -> bool:
  """Whether an error while decoding is the machine's, not the file's.

  Decoders raise OSError without a number on damaged files, and a place outside the file that one
  of them names is EINVAL.
  """
  return isinstance(error, MemoryError) or (
      isinstance(error, OSError) and error.errno not in (None, errno.EINVAL))


def file_form(path: Path) -> str:
  """The kind of a readable file and the bits of its grey values, e.g. "PNG, 16 bits"."""
  if is_dicom(path):
    from pydicom import dcmread
    return f"DICOM, {dcmread(path, stop_before_pixels=True).get('BitsStored', '?')} bits"
  with Image.open(path, formats=("PNG", "JPEG")) as image:
    bits = 16 if image.mode.startswith(("I", "F")) else 1 if image.mode == "1" else 8
    return f"{image.format}, {bits} bits"


def _read_grey(path: Path) -> np.ndarray:
  """`[H, W]`: uint8 where the file has 8 bits, otherwise float32 in [0, 1]."""
  if is_dicom(path):
    from cdjax.data.dicom import read_dicom  # pydicom costs 0.4 s to import
    return read_dicom(path)
  with path.open("rb") as file:
    try:
      image = Image.open(file, formats=("PNG", "JPEG"))
    except Image.UnidentifiedImageError as error:
      raise Unusable("unreadable image", "not a PNG, JPEG or DICOM file, or its start is damaged"
                     ) from error
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")):
      return stretch(np.asarray(image, np.float32))
    if image.mode in ("P", "PA", "RGBA", "LA", "La", "RGBa"):
      # Transparent pixels are background, and background is black.
      image = image.convert("RGBA")
      image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    if image.mode != "L":   # converting copies in any case, a third of a millisecond a megapixel
      image = image.convert("L")
    return np.asarray(image)


def is_dicom(path: Path) -> bool:
  """Whether the file's name or its preamble says DICOM."""
  if path.suffix.lower() in (".dcm", ".dicom"):
    return True
  with path.open("rb") as file:
    return file.read(132)[128:] == b"DICM"


def stretch(values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
  """Maps the robust range of `values` to [0, 1].

  Args:
    values: `[H, W]` float.
    valid: `[H, W]` bool, the pixels that the range is taken over; None: all.

  Returns:
    `[H, W]` float32, clipped; zeros where all values are one.
  """
  kept = values.ravel() if valid is None else values[valid]
  if not kept.size:
    return np.zeros(values.shape, np.float32)
  sample = kept[:: max(1, kept.size // _SAMPLE)]
  low, high = np.percentile(sample, PERCENTILES)
  if high <= low:
    low, high = kept.min(), kept.max()
  if high <= low:
    return np.zeros(values.shape, np.float32)
  return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def fit_square(image: np.ndarray, resolution: int, fit: str) -> np.ndarray:
  """Makes an image square without changing its proportions, then resizes it with antialiasing.

  Args:
    image: `[H, W]` float32 in [0, 1], or uint8, which is faster.
    resolution: side of the result.
    fit: "crop" or "pad".

  Returns:
    `[resolution, resolution]` of the same type and range.
  """
  if fit not in FITS:
    raise ValueError(f"fit={fit!r}; expected one of {FITS}")
  height, width = image.shape
  if fit == "pad" and height != width:
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    image = np.pad(image, ((top, side - height - top), (left, side - width - left)))
    height = width = side
  side = min(height, width)
  left, top = (width - side) / 2, (height - side) / 2
  # Hamming: a box that does not displace pixels; upwards bicubic, which may overshoot.
  resample = Image.Resampling.HAMMING if side > resolution else Image.Resampling.BICUBIC
  if image.dtype != np.uint8:
    image = image.astype(np.float32, copy=False)
  resized = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(
      (resolution, resolution), resample, box=(left, top, left + side, top + side)))
  return resized if resized.dtype == np.uint8 else np.clip(resized, 0, 1)


def pixel_dtype(bits: int) -> type:
  """uint8 or uint16."""
  if bits not in (8, 16):
    raise ValueError(f"bits={bits}; expected 8 or 16")
  return np.uint8 if bits == 8 else np.uint16


def to_pixels(image: np.ndarray, bits: int) -> np.ndarray:
  """[0, 1] floats to integers of 8 or 16 bits, rounded; uint8 stays as it is."""
  if image.dtype == np.uint8 and bits == 8:
    return image
  return np.rint(np.clip(image, 0, 1) * ((1 << bits) - 1)).astype(pixel_dtype(bits))


def encode_png(pixels: np.ndarray) -> bytes:
  """`[H, W]` uint8 or uint16 to PNG bytes; lossless."""
  buffer = io.BytesIO()
  # Filtered radiographs are noise that repeats nothing but runs: looking for no more than these is
  # nearly twice as fast as the default, and a tenth smaller.
  Image.fromarray(pixels).save(buffer, "PNG", compress_type=Image.RLE)
  return buffer.getvalue()


def decode_png(data: bytes, bits: int) -> np.ndarray:
  """The inverse of `encode_png`."""
  with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
    return np.asarray(image).astype(pixel_dtype(bits), copy=False)


def load_image(root: Path, name: str, *, resolution: int, bits: int, fit: str,
               inverted: bool = False) -> tuple[np.ndarray, bytes]:
  """Reads an image that a manifest names, from inside the image folder only.

  Args:
    root: the image folder.
    name: path relative to it.
    resolution, bits, fit, inverted: of `read_radiograph`.

  Returns:
    pixels `[resolution, resolution]` and their PNG bytes.

  Raises:
    Unusable: as of `find_image` and `read_radiograph`.
  """
  pixels = read_radiograph(find_image(root, name), resolution=resolution, bits=bits, fit=fit,
                           inverted=inverted)
  return pixels, encode_png(pixels)


def find_image(root: Path, name: str) -> Path:
  """Where an image is that a manifest names, from inside the image folder only.

  Args:
    root: the image folder.
    name: path relative to it.

  Raises:
    Unusable: the path leads out of the folder, or nothing is there.
  """
  if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
    raise Unusable("outside the folder", "the path must be relative to the image folder, "
                                         "without '..'")
  try:
    path = (root / name).resolve()
    there = path.is_file()
  except (OSError, RuntimeError) as error:   # links in a circle, a name that is too long, no access
    raise Unusable("missing file", f"the path cannot be followed ({error})") from error
  if not path.is_relative_to(root.resolve()):
    raise Unusable("outside the folder", "a link on the path leads out of the image folder")
  if not there:
    raise Unusable("missing file", "no such file in the image folder")
  return path
