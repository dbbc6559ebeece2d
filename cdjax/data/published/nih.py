"""NIH ChestX-ray14.

Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised
Classification and Localization of Common Thorax Diseases", arXiv:1705.02315.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from cdjax.data.published.labels import from_names
from cdjax.data.published.layout import DataSet, Item, Layout
from cdjax.data.quarantine import Unusable

MANUAL_DOWNLOAD_INSTRUCTIONS = """\
NIH ChestX-ray14 is free: https://nihcc.app.box.com/v/ChestXray-NIHCC
  IMAGES/Data_Entry_2017_v2020.csv (or Data_Entry_2017.csv)
  IMAGES/train_val_list.txt
  IMAGES/test_list.txt
  IMAGES/images_001/images/00000001_000.png … images_012/images/*.png, or all in IMAGES/images
The published split has no validation part: it is drawn from the patients of train_val_list.txt
(--val-share)."""

_COLUMNS = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age",
            ("Patient Gender", "Patient Sex"), "View Position")
_LISTS = (("train_val_list.txt", "train"), ("test_list.txt", "test"))
_OLDEST = 130   # some ages in the table are typing errors, such as 411


def read(layout: Layout) -> Iterator[Item]:
  """All images of the table."""
  path = layout.find("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
  splits = {}
  for name, split in _LISTS:
    data = layout.find(name).read_bytes()
    layout.remember(name, data)
    # A name that is no text is none of the table's; the table's images are then in no list.
    splits |= dict.fromkeys(data.decode("utf-8", "replace").split(), split)
  places = _places(layout.images)
  for number, cells in layout.table(path, _COLUMNS):
    name = cells["Image Index"]
    image = places.get(name, f"images/{name}")
    yield Item(number, image, cells["View Position"] in ("AP", "PA"), functools.partial(
        _fields, image, splits.get(name), cells))


def _places(root: Path) -> dict[str, str]:
  """File name to path inside `root`, over the folders that the archives unpack to."""
  folders = ["images", *(f"images_{i:03}/images" for i in range(1, 13))]
  return {entry.name: f"{folder}/{entry.name}" for folder in folders
          if (root / folder).is_dir() for entry in os.scandir(root / folder)}


def _fields(image: str, split: str | None, cells: Mapping[str, str]) -> dict:
  if split is None:
    raise Unusable("unknown split", "the image is neither in train_val_list.txt nor in "
                                    "test_list.txt")
  age = cells["Patient Age"]   # 58, in the first release 058Y
  years = age.removesuffix("Y")
  if years.isdigit() and int(years) > _OLDEST:
    age = ""
  return {"image": image, "image_id": cells["Image Index"], "patient_id": cells["Patient ID"],
          "study": cells["Follow-up #"], "split": split, "view": cells["View Position"],
          "age": age, "sex": cells["Patient Gender"],
          "findings": from_names(cells["Finding Labels"].split("|"), aliases={},
                                 healthy="No Finding")}


DATASET = DataSet(title="NIH ChestX-ray14", images=112_120,
                  instructions=MANUAL_DOWNLOAD_INSTRUCTIONS, read=read, unlisted="absent")
