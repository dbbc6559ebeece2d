"""VinDr-CXR.

Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations",
arXiv:2012.15029; version 1.0.0.
"""

import collections
import functools
from collections.abc import Iterator, Sequence

from cdjax.data.published.labels import NO_FINDING, finding, known, status_of
from cdjax.data.published.layout import DataSet, Item, Layout
from cdjax.data.quarantine import Unusable
from cdjax.findings import Finding

MANUAL_DOWNLOAD_INSTRUCTIONS = """\
VinDr-CXR needs a credentialed account: https://physionet.org/content/vindr-cxr/1.0.0/
  IMAGES/annotations/image_labels_train.csv
  IMAGES/annotations/image_labels_test.csv
  IMAGES/train/*.dicom
  IMAGES/test/*.dicom
Three radiologists read each image of train: what two say holds, what one says is uncertain.
Patients are not published, so each image counts as a patient. The published split has no
validation part: it is drawn from train (--val-share). Images whose only labels the ontology does
not know are left out."""

LABELS = ("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly",
          "Clavicle fracture", "Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD",
          "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
          "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
          "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia",
          "Tuberculosis")
_OTHER = ("Other diseases", "Other disease")   # as train and test call it
_NO_FINDING = "No finding"
ALIASES = {"Nodule/Mass": "lung lesion", "Lung cavity": "lung lesion", "Lung cyst": "lung lesion",
           "Lung tumor": "lung lesion", "Other lesion": "lung lesion"}
_MAJORITY = 2 / 3 - 1e-6


def read(layout: Layout) -> Iterator[Item]:
  """The images of both tables, train first."""
  number = 0
  for split in ("train", "test"):
    name = f"image_labels_{split}.csv"
    table = layout.table(layout.find(f"annotations/{name}", name),
                         ("image_id", *LABELS, _OTHER, (_NO_FINDING, NO_FINDING)), start=number)
    readings: dict[str, list[tuple[int, dict]]] = collections.defaultdict(list)
    for row, cells in table:
      number = row
      readings[cells["image_id"]].append((row, cells))
    for image_id, rows in readings.items():
      image = f"{split}/{image_id}.dicom"
      yield Item(rows[0][0], image, True, functools.partial(
          _fields, image, image_id, split, [cells for _, cells in rows]))


def _fields(image: str, image_id: str, split: str, readings: Sequence[dict]) -> dict:
  return {"image": image, "image_id": image_id, "patient_id": image_id, "split": split,
          "view": "PA", "findings": consensus(readings)}


def consensus(readings: Sequence[dict]) -> list[Finding]:
  """What most readers of one image say; what fewer say is uncertain.

  Args:
    readings: a reader's labels, column to 1, 0 or nothing, each.

  Raises:
    Unusable: the ontology knows nothing of what they found.
  """
  present, uncertain, foreign = [], [], []
  for name in (*LABELS, _OTHER[0]):
    votes = sum(status_of(cells[name], name) == "present" for cells in readings)
    spelling = ALIASES.get(name, name)
    if votes and not known(spelling):
      foreign.append(name)
    elif votes:
      (present if votes / len(readings) >= _MAJORITY else uncertain).append(spelling)
  if foreign and not present and not uncertain:
    raise Unusable("no known finding", f"only {', '.join(foreign)}, which the ontology does not "
                                       "have; without them the image would count as healthy")
  return [*(finding(name) for name in dict.fromkeys(present)),
          *(finding(name, "uncertain") for name in dict.fromkeys(uncertain)
            if name not in present)]


DATASET = DataSet(title="VinDr-CXR", images=18_000, instructions=MANUAL_DOWNLOAD_INSTRUCTIONS,
                  read=read, unlisted="absent")
