"""The label sets of CXR-LT, on the images of MIMIC-CXR-JPG.

Holste et al., "Towards long-tailed, multi-label disease classification from chest X-ray: Overview
of the CXR-LT challenge", arXiv:2310.16112; files as of version 2.0.0.
"""

import functools
from collections.abc import Iterator, Mapping

from cdjax.data.published import mimic_cxr
from cdjax.data.published.labels import NO_FINDING, from_columns
from cdjax.data.published.layout import DataSet, Item, Layout

MANUAL_DOWNLOAD_INSTRUCTIONS = """\
CXR-LT needs a credentialed account:
https://physionet.org/content/cxr-lt-iccv-workshop-cvamd/
  TABLES/cxr-lt-2023/train.csv development.csv test.csv             (--labels 2023: 26 labels)
  TABLES/cxr-lt-2024/labels.csv                                     (--labels 2024: 45, the default)
  TABLES/cxr-lt-2024/train_labeled.csv development_labeled_task1.csv test_labeled_task1.csv
                                                                    (--labels 2024-task1: 40)
  TABLES/cxr-lt-2024/train_labeled.csv development_labeled_task2.csv test_labeled_task2.csv
                                                                    (--labels 2024-task2: 26)
The images and their metadata are those of MIMIC-CXR-JPG:
  IMAGES/files/p10/p10000032/s50414267/*.jpg
  IMAGES/mimic-cxr-2.0.0-metadata.csv.gz
Reports, optional: --reports mimic-cxr-reports.zip"""

COMMON = ("Atelectasis", "Calcification of the Aorta", "Cardiomegaly", "Consolidation", "Edema",
          "Emphysema", "Enlarged Cardiomediastinum", "Fibrosis", "Fracture", "Hernia",
          "Infiltration", "Lung Lesion", "Lung Opacity", "Mass", "Nodule", "Pleural Effusion",
          "Pleural Other", "Pleural Thickening", "Pneumomediastinum", "Pneumonia",
          "Pneumoperitoneum", "Pneumothorax", "Subcutaneous Emphysema", "Support Devices",
          "Tortuous Aorta")
NEW_TASK1 = ("Adenopathy", "Azygos Lobe", "Clavicle Fracture", "Fissure", "Granuloma",
             "Hydropneumothorax", "Infarction", "Kyphosis", "Lobar Atelectasis",
             "Pulmonary Embolism", "Pulmonary Hypertension", "Rib Fracture",
             "Round(ed) Atelectasis", "Tuberculosis")
NEW_TASK3 = ("Bulla", "Cardiomyopathy", "Hilum", "Osteopenia", "Scoliosis")
ALIASES = {"Round(ed) Atelectasis": "rounded atelectasis", "Hilum": "enlarged hilum"}

# Label set: its files with their split ("" is a column of the file), its labels, "nothing found".
SETS = {
  "2024": ((("cxr-lt-2024/labels.csv", ""),), (*COMMON, *NEW_TASK1, *NEW_TASK3), "Normal"),
  "2024-task1": ((("cxr-lt-2024/train_labeled.csv", "train"),
                  ("cxr-lt-2024/development_labeled_task1.csv", "validation"),
                  ("cxr-lt-2024/test_labeled_task1.csv", "test")),
                 (*COMMON, *NEW_TASK1), "Normal"),
  "2024-task2": ((("cxr-lt-2024/train_labeled.csv", "train"),
                  ("cxr-lt-2024/development_labeled_task2.csv", "validation"),
                  ("cxr-lt-2024/test_labeled_task2.csv", "test")), COMMON, "Normal"),
  "2023": ((("cxr-lt-2023/train.csv", "train"), ("cxr-lt-2023/development.csv", "validation"),
            ("cxr-lt-2023/test.csv", "test")), COMMON, NO_FINDING),
}


def read(layout: Layout) -> Iterator[Item]:
  """All images of the label set's tables, in their order."""
  files, names, healthy = SETS[layout.labels]
  paths = [layout.find(*mimic_cxr.either(name)) for name, _ in files]
  beside_images = Layout(DATASET, layout.images)
  metadata = mimic_cxr.read_metadata(beside_images)
  layout.remember("metadata", beside_images.sha256.encode())
  layout.problems += beside_images.problems
  reports = mimic_cxr.open_reports(layout)
  last = 0
  for path, (_, split) in zip(paths, files, strict=True):
    columns = ("dicom_id", "subject_id", "study_id", healthy, *names)
    columns += () if split else ("split",)
    for number, cells in layout.table(path, columns, start=last):
      last = number
      cells.setdefault("split", split)
      # 2023 writes them as MIMIC-CXR names its files, p10000032 and s50414267.
      cells["subject_id"] = cells["subject_id"].removeprefix("p")
      cells["study_id"] = cells["study_id"].removeprefix("s")
      about = metadata.get(cells["dicom_id"], {})
      yield Item(number, mimic_cxr.image_path(cells), mimic_cxr.is_frontal(about),
                 functools.partial(_fields, cells, about, names, healthy, reports))
  mimic_cxr.note_missing_reports(layout, reports)


def _fields(cells: Mapping[str, str], about: Mapping[str, str], names: tuple[str, ...],
            healthy: str, reports) -> dict:
  return {**mimic_cxr.shared_fields(cells, about, reports),
          "findings": from_columns(cells, names, healthy=healthy, aliases=ALIASES)}


DATASET = DataSet(title="CXR-LT", images=377_110, instructions=MANUAL_DOWNLOAD_INSTRUCTIONS,
                  read=read, unlisted="absent", labels=tuple(SETS), reports=True)
