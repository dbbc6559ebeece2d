"""Open-i, the Indiana University chest X-ray collection.

Demner-Fushman et al., "Preparing a collection of radiology examinations for distribution and
retrieval", JAMIA 2016, doi:10.1093/jamia/ocv080.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from cdjax.data.openi import parse_xml
from cdjax.data.published.labels import known
from cdjax.data.published.layout import DataSet, Item, Layout
from cdjax.data.quarantine import Problem, Unusable
from cdjax.findings import Finding, canonical_name, parse_findings

MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Open-i is free: https://openi.nlm.nih.gov/faq#collection
  IMAGES/NLMCXR_png/*.png, or IMAGES/*.png          (NLMCXR_png.tgz)
  TABLES/ecgen-radiology/1.xml … 3999.xml           (NLMCXR_reports.tgz)
The collection does not say which images are frontal. Give --views all, or add the table of views
that circulates with it:
  TABLES/indiana_projections.csv, with the columns uid, filename, projection
Patients are not published, so each report counts as a patient, and there is no published split:
it is drawn (--val-share, --test-share)."""

_SECTIONS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")
_UNLABELLED = frozenset(("no indexing", "technical quality of image unsatisfactory"))
_NORMAL = "normal"
ALIASES = {"Catheters, Indwelling": "support devices", "Medical Device": "support devices",
           "Tube, Inserted": "support devices", "Implanted Medical Device": "support devices",
           "Fractures, Bone": "fracture", "Hernia, Hiatal": "hiatal hernia",
           "Granulomatous Disease": "granuloma", "Calcified Granuloma": "granuloma",
           "Bullous Emphysema": "emphysema", "Airspace Disease": "lung opacity",
           "Calcinosis": "", "Surgical Instruments": "", "Spine": "", "Lung": "", "Aorta": ""}


def read(layout: Layout) -> Iterator[Item]:
  """All images that the reports name, by report number."""
  folder = layout.tables / "ecgen-radiology"
  files = sorted(folder.glob("*.xml"), key=lambda path: (len(path.stem), path.stem))
  if not files:
    raise layout.missing("ecgen-radiology/*.xml")
  frontal = _read_views(layout)
  prefix = "NLMCXR_png/" if (layout.images / "NLMCXR_png").is_dir() else ""
  number = 0
  for path in files:
    data = path.read_bytes()
    layout.remember(path.name, data)
    try:
      report = parse_xml(data)
    except ValueError as error:
      number += 1
      layout.problems.append(Problem(number, path.name, "unreadable report", str(error)))
      continue
    for node in report.iter("parentImage"):
      number += 1
      name = node.get("id", "")
      yield Item(number, f"{prefix}{name}.png", frontal.get((path.stem, _number(name))),
                 functools.partial(_fields, f"{prefix}{name}.png", name, path, report))


def _read_views(layout: Layout) -> dict[tuple[str, str], bool]:
  """Report and number of an image to whether it is frontal; {} without the table."""
  path = layout.tables / "indiana_projections.csv"
  if not path.is_file():
    return {}
  table = layout.table(path, ("uid", "filename", "projection"))
  return {(cells["uid"], _number(cells["filename"])): cells["projection"] == "Frontal"
          for _, cells in table}


def _number(name: str) -> str:
  """The collection's CXR1_1_IM-0001-4001 and CXR10_IM-0002-1001 are 1_IM-0001-4001.dcm.png and
  10_IM-0002-1001.dcm.png in the table of views: 0001-4001 and 0002-1001 are the same in both."""
  return name.partition("IM-")[2].partition(".")[0]


def _fields(image: str, name: str, path: Path, report: Element) -> dict:
  texts = {node.get("Label", "").upper(): (node.text or "").strip()
           for node in report.iter("AbstractText")}
  return {"image": image, "image_id": name, "patient_id": path.stem,
          "report": "\n".join(f"{label}: {texts[label]}" for label in _SECTIONS
                              if texts.get(label)),
          "findings": from_mesh([node.text or "" for node in report.iter("major")])}


def from_mesh(terms: list[str]) -> list[Finding] | None:
  """Findings of a report's main headings, e.g. "Pleural Effusion/right/small".

  The words after the name are taken where they are a side, a zone or a severity that the finding
  can have.

  Raises:
    Unusable: the ontology knows nothing of what the report found.
  """
  said = [term.strip() for term in terms if term.strip()
          and term.strip().lower() not in _UNLABELLED]
  found = [one for term in said if term.lower() != _NORMAL and (one := _finding(term))]
  foreign = [term for term in said if term.lower() != _NORMAL]
  if foreign and not found:
    raise Unusable("no known finding", f"only {', '.join(foreign)}, which the ontology does not "
                                       "have; without them the image would count as healthy")
  return list(dict.fromkeys(found)) if said else None


def _finding(term: str) -> Finding | None:
  """One heading; None where the ontology does not know its name."""
  name, *words = (part.strip() for part in term.split("/"))
  spelling = ALIASES.get(name, name)
  if not spelling or not known(spelling):
    return None
  text = spelling
  for word in words:
    if not re.fullmatch(r"[A-Za-z ]+", word):
      continue
    try:
      found = parse_findings(f"{word} {text}")
    except ValueError:   # a word that says nothing of side, zone or severity, or a second one
      continue
    if len(found) == 1 and found[0].name == canonical_name(spelling):
      text = f"{word} {text}"
  return parse_findings(text)[0]


DATASET = DataSet(title="Open-i", images=7_470, instructions=MANUAL_DOWNLOAD_INSTRUCTIONS,
                  read=read, unlisted="absent")
