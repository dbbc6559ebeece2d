"""DICOM radiographs to grey values in [0, 1], as a viewer would show them.

The order of PS3.3 C.11: stored values, modality transform (rescale or LUT), values of interest
(window or LUT), then MONOCHROME1 is inverted so that dense is bright.
"""

from pathlib import Path

import numpy as np

from cdjax.data.image_io import is_passing, stretch
from cdjax.data.quarantine import Unusable

GREY = ("MONOCHROME1", "MONOCHROME2")


def read_dicom(path: Path) -> np.ndarray:
  """Reads one single-frame grey image.

  The first window (or VOI LUT, which is preferred) of the file sets the grey scale; without one,
  robust percentiles of the pixels that are not padding do.

  Returns:
    `[H, W]` float32 in [0, 1].

  Raises:
    Unusable: several frames, colour, no pixels, or a compression that cannot be decoded here.
  """
  import pydicom

  dataset = pydicom.dcmread(path)
  frames = int(dataset.get("NumberOfFrames") or 1)
  if frames > 1:
    raise Unusable("unreadable image", f"DICOM with {frames} frames; export one frame a file")
  photometric = dataset.get("PhotometricInterpretation")
  if photometric not in GREY:
    raise Unusable("unreadable image", f"DICOM with PhotometricInterpretation={photometric!r}; "
                                       f"expected one of {GREY}")
  stored = _decode(dataset)
  valid = _not_padding(dataset, stored)
  grey = _grey_scale(dataset, stored, valid)
  if photometric == "MONOCHROME1":
    grey = 1 - grey
  return np.where(valid, grey, 0)  # Padding is background.


def _decode(dataset) -> np.ndarray:
  """Stored values `[H, W]`; names the compression where it cannot be undone."""
  if "PixelData" not in dataset:
    raise Unusable("unreadable image", "DICOM without pixel data")
  try:
    return dataset.pixel_array
  except Exception as error:
    if is_passing(error):
      raise
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed:
      raise
    raise Unusable("unreadable image", f"cannot decode DICOM compressed as {syntax.name}; convert "
                   f"it to an uncompressed file or install a decoder ({error})") from error


def _grey_scale(dataset, stored: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """Modality transform and window; `[H, W]` float32 in [0, 1]."""
  from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing

  if "VOILUTFunction" in dataset and not dataset.VOILUTFunction:
    del dataset.VOILUTFunction  # Present but empty means the default, LINEAR.
  values = apply_modality_lut(stored, dataset)
  table = (dataset.get("VOILUTSequence") or [None])[0]
  if table is not None and table.get("LUTDescriptor") and table.get("LUTData") is not None:
    values = np.rint(values).astype(np.int64)  # A table is indexed by integers.
    shown = apply_voi_lut(values, dataset).astype(np.float64)
    return (shown / (2 ** int(table.LUTDescriptor[2]) - 1)).astype(np.float32)
  if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
    shown = apply_windowing(values, dataset)
    # What values far outside the window become are the ends of the window's output range.
    with np.errstate(over="ignore"):
      low, high = apply_windowing(np.array([-1e9, 1e9]), dataset)
    return np.clip((shown - low) / (high - low), 0, 1).astype(np.float32)
  return stretch(values.astype(np.float32), valid)


def _not_padding(dataset, stored: np.ndarray) -> np.ndarray:
  """`[H, W]` bool: pixels of the image proper."""
  padding = dataset.get("PixelPaddingValue")
  if padding is None:
    return np.ones(stored.shape, bool)
  limit = dataset.get("PixelPaddingRangeLimit", padding)
  return (stored < min(padding, limit)) | (stored > max(padding, limit))
