"""CheXpert.

Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert
Comparison", arXiv:1901.07031; version 1.0, full size or small.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from cdjax.data.published.labels import CHEXPERT, NO_FINDING, SEXES, from_columns
from cdjax.data.published.layout import DataSet, Item, Layout
from cdjax.data.quarantine import Unusable

MANUAL_DOWNLOAD_INSTRUCTIONS = """\
CheXpert needs a registration: https://stanfordmlgroup.github.io/competitions/chexpert/
  IMAGES/train.csv
  IMAGES/valid.csv
  IMAGES/train/patient00001/study1/view1_frontal.jpg
  IMAGES/valid/patient64541/study1/view1_frontal.jpg
IMAGES is the folder CheXpert-v1.0 or CheXpert-v1.0-small, wherever it lies. There is no published
test split with these files: it is drawn from the patients of train.csv (--test-share)."""

_FILES = (("train.csv", "train"), ("valid.csv", "validation"))
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", NO_FINDING, *CHEXPERT)


def read(layout: Layout) -> Iterator[Item]:
  """The images of both tables."""
  paths = [layout.find(name) for name, _ in _FILES]
  last = 0
  for path, (_, split) in zip(paths, _FILES, strict=True):
    for number, cells in layout.table(path, _COLUMNS, start=last):
      last = number
      # The first part is the folder's name, which differs between the two sizes.
      image = "/".join(PurePosixPath(cells["Path"]).parts[1:])
      yield Item(number, image, is_frontal(cells["Frontal/Lateral"], cells["AP/PA"]),
                 functools.partial(_fields, image, split, cells))


def is_frontal(side: str, position: str) -> bool | None:
  """From "Frontal" or "Lateral" and the view position; None where they say nothing, or disagree.

  Some images that are listed as frontal have a lateral position, LL or RL.
  """
  if side == "Frontal":
    return True if position in ("AP", "PA", "") else None
  return False if side == "Lateral" else None


def patient_and_study(image: str) -> tuple[str, str]:
  """The two folders over the file: patient00001, study1.

  Raises:
    Unusable: there are none.
  """
  parts = PurePosixPath(image).parts
  if len(parts) < 3:
    raise Unusable("bad path", f"{image!r}; expected …/patient00001/study1/view1_frontal.jpg")
  return parts[-3], parts[-2]


def _fields(image: str, split: str, cells: Mapping[str, str]) -> dict:
  patient, study = patient_and_study(image)
  return {"image": image, "patient_id": patient, "study": study, "split": split,
          "view": cells["AP/PA"] or cells["Frontal/Lateral"], "age": cells["Age"],
          "sex": SEXES.get(cells["Sex"].lower(), ""), "findings": from_columns(cells, CHEXPERT)}


DATASET = DataSet(title="CheXpert", images=223_648, instructions=MANUAL_DOWNLOAD_INSTRUCTIONS,
                  read=read, unlisted="unknown")
