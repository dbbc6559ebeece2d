"""How a data set is prepared."""

import dataclasses
from collections.abc import Sequence

from cdjax.data.image_io import FITS, pixel_dtype
from cdjax.data.write import UNLISTED


@dataclasses.dataclass(frozen=True)
class Options:
  """How a data set is prepared.

  Attributes:
    resolution, bits, fit: of the stored images, see `read_radiograph`.
    vocabulary: names of findings in any spelling; (): all that the rows name, sorted.
    unlisted: "absent" or "unknown": what a finding is that a labelled image does not list.
    val_share, test_share, seed: of the patients, where the rows give no split.
    workers: processes that decode images; 0: this one.
    overwrite: replace another data set in the output.

  Raises:
    ValueError: an option is not possible.
  """

  resolution: int = 64
  bits: int = 8
  fit: str = "crop"
  vocabulary: Sequence[str] = ()
  unlisted: str = "absent"
  val_share: float = 0.1
  test_share: float = 0.1
  seed: int = 0
  workers: int = 0
  overwrite: bool = False

  def __post_init__(self):
    pixel_dtype(self.bits)
    if (self.fit not in FITS or self.unlisted not in UNLISTED or self.resolution < 8
        or self.workers < 0):
      raise ValueError(f"fit={self.fit!r}, unlisted={self.unlisted!r}, resolution="
                       f"{self.resolution}, workers={self.workers}; expected fit in {FITS}, "
                       f"unlisted in {UNLISTED}, resolution >= 8, workers >= 0")

  @property
  def image(self) -> dict:
    """What a stored image depends on."""
    return {"resolution": self.resolution, "bits": self.bits, "fit": self.fit}
