"""CheXpert Plus: CheXpert's images with reports, demographics and CheXbert labels.

Chambon et al., "CheXpert Plus", arXiv:2405.19538; the table of 2024-04-01.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from cdjax.data.published.chexpert import is_frontal, patient_and_study
from cdjax.data.published.labels import CHEXPERT, NO_FINDING, SEXES, from_columns
from cdjax.data.published.layout import DataSet, Item, Layout
from cdjax.data.quarantine import Problem
from cdjax.data.tables import ManifestError

TABLE = "df_chexpert_plus_240401.csv"
MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
CheXpert Plus needs a registration: https://aimi.stanford.edu/datasets/chexpert-plus
  TABLES/{TABLE}
  TABLES/chexbert_labels/impression_fixed.json   (--labels impression, the default)
  TABLES/chexbert_labels/report_fixed.json       (--labels report)
  TABLES/chexbert_labels/findings_fixed.json     (--labels findings)
  IMAGES/train/patient00001/study1/view1_frontal.png, or IMAGES/PNG/train/…
--tables names the folder of the table where it is not that of the images. There is no published
test split: it is drawn from the patients of train (--test-share)."""

_COLUMNS = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id",
            "patient_report_date_order", "report", "age", "sex", "split")


def read(layout: Layout) -> Iterator[Item]:
  """All images of the table."""
  path = layout.find(TABLE, f"{TABLE}.gz")
  labels = _read_labels(layout, layout.find(f"chexbert_labels/{layout.labels}_fixed.json",
                                            f"{layout.labels}_fixed.json"))
  prefix = next((prefix for prefix in ("PNG/PNG", "PNG", "") if
                 any((layout.images / prefix / name).is_dir() for name in ("train", "valid"))), "")
  for number, cells in layout.table(path, _COLUMNS):
    # The table has the names of CheXpert's JPEG files.
    image = PurePosixPath(prefix, cells["path_to_image"]).with_suffix(".png").as_posix()
    yield Item(number, image, is_frontal(cells["frontal_lateral"], cells["ap_pa"]),
               functools.partial(_fields, image, cells, labels.get(cells["path_to_image"])))


def _read_labels(layout: Layout, path: Path) -> dict[str, tuple]:
  """Image to the values of No Finding and CheXpert's other labels."""
  data = path.read_bytes()
  layout.remember(path.name, data)
  result = {}
  for number, line in enumerate(data.splitlines(), start=1):
    if not line.strip():
      continue
    try:
      values = json.loads(line)
      result[values["path_to_image"]] = tuple(values[name] for name in (NO_FINDING, *CHEXPERT))
    except (ValueError, TypeError) as error:   # no JSON, no UTF-8, no object
      layout.problems.append(Problem(number, "", "unreadable row", f"{path.name}: {error}"))
    except KeyError as error:
      raise ManifestError(f"{path} line {number} has no {error}; its keys are "
                          f"{', '.join(values)}. Is it the published file?") from error
  return result


def _fields(image: str, cells: Mapping[str, str], labels: tuple | None) -> dict:
  patient, study = patient_and_study(image)
  values = dict(zip((NO_FINDING, *CHEXPERT), labels, strict=True)) if labels else None
  return {"image": image, "patient_id": cells["deid_patient_id"] or patient,
          "study": cells["patient_report_date_order"] or study, "split": cells["split"],
          "view": cells["ap_pa"] or cells["frontal_lateral"], "age": cells["age"],
          "sex": SEXES.get(cells["sex"].lower(), ""), "report": cells["report"],
          "findings": from_columns(values, CHEXPERT) if values else None}


DATASET = DataSet(title="CheXpert Plus", images=223_462, instructions=MANUAL_DOWNLOAD_INSTRUCTIONS,
                  read=read, unlisted="unknown", labels=("impression", "report", "findings"))
