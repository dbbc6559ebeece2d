"""MIMIC-CXR-JPG with the reports of MIMIC-CXR.

Johnson et al., "MIMIC-CXR-JPG", arXiv:1901.07042; tables and columns as of versions 2.0.0, 2.1.0.
"""

import functools
from collections.abc import Iterator, Mapping

from cdjax.data.published.labels import CHEXPERT, NO_FINDING, from_columns
from cdjax.data.published.layout import DataSet, Item, Layout
from cdjax.data.published.report_zip import ReportZip

MANUAL_DOWNLOAD_INSTRUCTIONS = """\
MIMIC-CXR-JPG needs a credentialed account: https://physionet.org/content/mimic-cxr-jpg/
  IMAGES/files/p10/p10000032/s50414267/*.jpg
  IMAGES/mimic-cxr-2.0.0-split.csv.gz
  IMAGES/mimic-cxr-2.0.0-metadata.csv.gz
  IMAGES/mimic-cxr-2.0.0-chexpert.csv.gz   (--labels chexpert, the default)
  IMAGES/mimic-cxr-2.0.0-negbio.csv.gz     (--labels negbio)
Reports, optional, from https://physionet.org/content/mimic-cxr/; the zip need not be unpacked:
  --reports mimic-cxr-reports.zip
--tables names another folder for the .csv.gz files."""

FRONTAL = frozenset(("AP", "PA"))
_FRONTAL_CODES = frozenset(("antero-posterior", "postero-anterior"))
_METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime",
             "ViewCodeSequence_CodeMeaning")


def read(layout: Layout) -> Iterator[Item]:
  """All images of the split table, in its order."""
  metadata = read_metadata(layout)
  labels = read_study_labels(layout)
  reports = open_reports(layout)
  splits = layout.table(layout.find(*either("mimic-cxr-2.0.0-split.csv")),
                        ("dicom_id", "study_id", "subject_id", "split"))
  for number, cells in splits:
    about = metadata.get(cells["dicom_id"], {})
    study = labels.get(cells["study_id"])
    yield Item(number, image_path(cells), is_frontal(about), functools.partial(
        _fields, cells, about, study, reports))
  note_missing_reports(layout, reports)


def either(name: str) -> tuple[str, str]:
  """The file as published and unpacked."""
  return f"{name}.gz", name


def read_metadata(layout: Layout) -> dict[str, dict[str, str]]:
  """Image to its view and the time of its study."""
  table = layout.table(layout.find(*either("mimic-cxr-2.0.0-metadata.csv")), _METADATA)
  return {cells["dicom_id"]: cells for _, cells in table}


def read_study_labels(layout: Layout) -> dict[str, dict[str, str]]:
  """Study to its labels."""
  table = layout.table(layout.find(*either(f"mimic-cxr-2.0.0-{layout.labels}.csv")),
                       ("study_id", NO_FINDING, *CHEXPERT))
  return {cells["study_id"]: cells for _, cells in table}


def open_reports(layout: Layout) -> ReportZip | None:
  """The archive of `--reports`."""
  if layout.reports is None:
    return None
  reports = ReportZip(layout.reports)
  layout.remember("reports", reports.sha256)
  return reports


def note_missing_reports(layout: Layout, reports: ReportZip | None) -> None:
  """Says how many reports the archive does not have."""
  if reports and reports.missing:
    layout.notes.append(f"{reports.missing} images have no report in {layout.reports}")


def is_frontal(about: Mapping[str, str]) -> bool | None:
  """From the view position, or where that is empty from the view code; None where both are."""
  position = about.get("ViewPosition", "").upper()
  code = about.get("ViewCodeSequence_CodeMeaning", "").lower()
  if position:
    return position in FRONTAL
  return code in _FRONTAL_CODES if code else None


def view(about: Mapping[str, str]) -> str:
  """The view position, or what the view code says of it."""
  code = about.get("ViewCodeSequence_CodeMeaning", "").lower()
  named = {"antero-posterior": "AP", "postero-anterior": "PA"}.get(code, code.upper())
  return about.get("ViewPosition", "") or named


def study_path(cells: Mapping[str, str]) -> str:
  """files/p10/p10000032/s50414267"""
  subject = cells["subject_id"]
  return f"files/p{subject[:2]}/p{subject}/s{cells['study_id']}"


def image_path(cells: Mapping[str, str]) -> str:
  """files/p10/p10000032/s50414267/DICOM_ID.jpg"""
  return f"{study_path(cells)}/{cells['dicom_id']}.jpg"


def study_key(cells: Mapping[str, str], about: Mapping[str, str]) -> str:
  """Sorts the studies of a patient by time; two at the same time stay two."""
  when = (about.get("StudyDate", "") or "0", about.get("StudyTime", "") or "0")
  return " ".join((*when, cells["study_id"]))


def shared_fields(cells: Mapping[str, str], about: Mapping[str, str], reports: ReportZip | None
                  ) -> dict[str, str]:
  """What is the same for every label set on these images."""
  return {"image": image_path(cells), "image_id": cells["dicom_id"],
          "patient_id": cells["subject_id"], "study": study_key(cells, about),
          "view": view(about), "split": cells["split"],
          "report": reports.read(f"{study_path(cells)}.txt") if reports else ""}


def _fields(cells: Mapping[str, str], about: Mapping[str, str],
            labels: Mapping[str, str] | None, reports: ReportZip | None) -> dict:
  return {**shared_fields(cells, about, reports),
          "findings": from_columns(labels, CHEXPERT) if labels else None}


DATASET = DataSet(title="MIMIC-CXR-JPG", images=377_110, instructions=MANUAL_DOWNLOAD_INSTRUCTIONS,
                  read=read, unlisted="unknown", labels=("chexpert", "negbio"),
                  reports=True)
