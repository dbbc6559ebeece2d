"""PadChest.

Bustos et al., "PadChest: A large chest x-ray image dataset with multi-label annotated reports",
arXiv:1901.07441; the table of 2019-02-01.
"""

import ast
import functools
from collections.abc import Iterator, Mapping

from cdjax.data.published.labels import from_names
from cdjax.data.published.layout import DataSet, Item, Layout
from cdjax.data.quarantine import Unusable

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
PadChest needs a registration: https://bimcv.cipf.es/bimcv-projects/padchest/
  IMAGES/{TABLE} (or .csv.gz)
  IMAGES/0/*.png … IMAGES/54/*.png, one folder an archive, or all in IMAGES
There is no published split: it is drawn from the patients (--val-share, --test-share).
Of the data set's 174 labels those count that the ontology of findings knows."""

FRONTAL = frozenset(("PA", "AP", "AP_horizontal"))
_COLUMNS = ("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
            "PatientSex_DICOM", "Projection", "PhotometricInterpretation_DICOM", "Report",
            "Labels")
_SILENT = frozenset(("unchanged",))
_UNUSABLE = frozenset(("exclude", "suboptimal study"))
_DEVICES = ("pacemaker", "dual chamber device", "single chamber device", "dai",
            "central venous catheter", "central venous catheter via jugular vein",
            "central venous catheter via subclavian vein",
            "central venous catheter via umbilical vein", "reservoir central venous catheter",
            "catheter", "nsg tube", "endotracheal tube", "tracheostomy tube", "chest drain tube",
            "ventriculoperitoneal drain tube", "double j stent", "gastrostomy tube",
            "nephrostomy tube", "electrical device", "artificial heart valve",
            "artificial mitral heart valve", "artificial aortic heart valve")
# The data set's label: the ontology's spelling, or that of a broader finding.
ALIASES = {
  **dict.fromkeys(_DEVICES, "support devices"),
  "multiple nodules": "nodule", "pseudonodule": "lung opacity", "pulmonary mass": "mass",
  "laminar atelectasis": "atelectasis", "segmental atelectasis": "atelectasis",
  "total atelectasis": "atelectasis", "atelectasis basal": "atelectasis",
  "apical pleural thickening": "pleural thickening",
  "calcified pleural thickening": "pleural thickening",
  "loculated pleural effusion": "pleural effusion",
  "loculated fissural effusion": "pleural effusion", "callus rib fracture": "rib fracture",
  "vertebral fracture": "fracture", "vertebral compression": "fracture",
  "humeral fracture": "fracture", "bullas": "bulla", "pneumoperitoneo": "pneumoperitoneum",
  "pulmonary artery hypertension": "pulmonary hypertension",
  "mediastinal enlargement": "enlarged cardiomediastinum",
  "superior mediastinal enlargement": "enlarged cardiomediastinum",
  "hilar enlargement": "enlarged hilum", "vascular hilar enlargement": "enlarged hilum",
  "hypoexpansion": "hypoinflation", "hypoexpansion basal": "hypoinflation",
  "air trapping": "hyperinflation", "fissure thickening": "fissural thickening",
  "minor fissure thickening": "fissural thickening",
  "major fissure thickening": "fissural thickening", "osteoporosis": "osteopenia",
}


def read(layout: Layout) -> Iterator[Item]:
  """All images of the table."""
  path = layout.find(TABLE, f"{TABLE}.gz")
  folders = {entry.name for entry in layout.images.iterdir() if entry.is_dir()}
  for number, cells in layout.table(path, _COLUMNS):
    folder = cells["ImageDir"]
    image = f"{folder}/{cells['ImageID']}" if folder in folders else cells["ImageID"]
    yield Item(number, image, cells["Projection"] in FRONTAL if cells["Projection"] else None,
               functools.partial(_fields, image, cells))


def _fields(image: str, cells: Mapping[str, str]) -> dict:
  labels = read_list(cells["Labels"])
  if unusable := _UNUSABLE.intersection(labels or ()):
    raise Unusable("excluded image", f"the data set marks it as {', '.join(sorted(unusable))}")
  return {"image": image, "image_id": cells["ImageID"], "patient_id": cells["PatientID"],
          "study": f"{cells['StudyDate_DICOM']} {cells['StudyID']}",
          "view": cells["Projection"], "sex": cells["PatientSex_DICOM"].removesuffix("None"),
          "age": _age(cells), "report": cells["Report"],
          # The PNG files hold the DICOM files' values, whatever these mean.
          "inverted": cells["PhotometricInterpretation_DICOM"] == "MONOCHROME1",
          "findings": None if labels is None else from_names(
              labels, aliases=ALIASES, healthy="normal", silent=_SILENT)}


def read_list(cell: str) -> list[str] | None:
  """A cell such as "['pleural effusion', ' cardiomegaly']"; None for an empty one.

  Raises:
    Unusable: it is no list of texts.
  """
  if cell in ("", "nan"):
    return None
  try:
    values = ast.literal_eval(cell)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    values = None
  if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
    raise Unusable("bad label", f"Labels is {cell[:80]!r}; expected a list such as "
                                "['pleural effusion']")
  return [value.strip().lower() for value in values]


def _age(cells: Mapping[str, str]) -> str:
  """Years between the year of birth and the study, "" where one is unknown."""
  study, birth = cells["StudyDate_DICOM"][:4], cells["PatientBirth"].split(".")[0][:4]
  if not (study.isdigit() and birth.isdigit()) or not 0 <= int(study) - int(birth) <= 130:
    return ""
  return str(int(study) - int(birth))


DATASET = DataSet(title="PadChest", images=160_861, instructions=MANUAL_DOWNLOAD_INSTRUCTIONS,
                  read=read, unlisted="absent")
