"""The Open-i Indiana collection: one XML file a case, with a report and indexing terms.

`AbstractText` holds the sections of the report; `MeSH/major` holds terms such as
"Pulmonary Atelectasis/base/left/mild": a heading and qualifiers of place and degree. The terms
index the case; they are not an annotation of every word.

Demner-Fushman et al., "Preparing a collection of radiology examinations for distribution and
retrieval", JAMIA 2016.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from cdjax.core.types import SIDES
from cdjax.data.quarantine import Problem
from cdjax.findings import Finding, get_ontology

# Finding to the terms that make it positive: a heading and the qualifiers it must come with.
TERMS: dict[str, tuple[tuple[str, ...], ...]] = {
  "cardiomegaly": (("cardiomegaly",), ("cardiac shadow", "enlarged")),
  "pleural_effusion": (("pleural effusion",),),
  "atelectasis": (("pulmonary atelectasis",),),
  "pneumothorax": (("pneumothorax",),),
  "consolidation": (("consolidation",),),
  "pneumonia": (("pneumonia",),),
  "pulmonary_edema": (("pulmonary edema",),),
  "pulmonary_congestion": (("pulmonary congestion",),),
  "emphysema": (("emphysema",), ("pulmonary emphysema",)),
  "nodule": (("nodule",),),
  "mass": (("mass",),),
  "granuloma": (("granuloma",), ("calcified granuloma",), ("granulomatous disease",)),
  "pulmonary_fibrosis": (("pulmonary fibrosis",),),
  "pleural_thickening": (("thickening", "pleura"),),
  "hiatal_hernia": (("hernia, hiatal",),),
  "fracture": (("fractures, bone",),),
  "lung_opacity": (("opacity", "lung"), ("airspace disease",), ("infiltrate",)),
  "hyperinflation": (("lung", "hyperdistention"),),
  "hypoinflation": (("lung", "hypoinflation"),),
  "scarring": (("cicatrix",),),
}
DEGREES = {"borderline": 0.1, "small": 0.35, "mild": 0.35, "moderate": 0.6, "large": 0.9,
           "severe": 0.9}
ZONES_OF = {"apex": "upper", "upper lobe": "upper", "middle lobe": "mid", "lingula": "mid",
            "hilum": "mid", "base": "lower", "lower lobe": "lower", "costophrenic angle": "lower",
            "retrocardiac": "lower"}


@dataclasses.dataclass(frozen=True)
class Case:
  """One case.

  Attributes:
    id: "CXR" and the number.
    report: the sections, each "TITLE: text", separated by blank lines.
    terms: the `MeSH/major` terms as they stand.
  """

  id: str
  report: str
  terms: tuple[str, ...]


def is_openi(root: Element) -> bool:
  """Whether a document looks like a case of this collection."""
  return root.tag == "eCitation" and root.find("uId") is not None


def read_case(path: str | Path) -> Case:
  """Reads one XML file.

  Raises:
    ValueError: not XML, not a case of this collection, or with a document type declaration, which
      could pull in other files or grow without bound.
  """
  root = parse_xml(Path(path).read_bytes())
  if not is_openi(root):
    raise ValueError(f"the root is <{root.tag}>; expected an Open-i case: <eCitation> with <uId>")
  name = root.find("uId").get("id", "")
  if not name:
    raise ValueError("<uId> has no id; expected e.g. id=\"CXR12\"")
  sections = [(part.get("Label", ""), " ".join((part.text or "").split()))
              for part in root.iter("AbstractText")]
  report = "\n\n".join(f"{label}: {text}" for label, text in sections if text)
  return Case(id=name, report=report,
              terms=tuple(" ".join((term.text or "").split()) for term in root.iter("major")))


def parse_xml(data: bytes) -> Element:
  """An XML document as a tree; document type declarations, and so all entities, are refused.

  Raises:
    ValueError: not well-formed, or with a `<!DOCTYPE`.
  """
  builder, parser = TreeBuilder(), expat.ParserCreate()
  parser.buffer_text = True

  def refuse(*_):
    raise ValueError("XML with a <!DOCTYPE>; remove the declaration, entities are not read")

  parser.StartDoctypeDeclHandler = refuse
  parser.StartElementHandler = builder.start
  parser.EndElementHandler = builder.end
  parser.CharacterDataHandler = builder.data
  try:
    parser.Parse(data, True)
  except LookupError:
    raise ValueError("XML in an encoding that nobody knows here") from None
  except expat.ExpatError as error:
    raise ValueError(f"not well-formed XML: {expat.ErrorString(error.code)} in line "
                     f"{error.lineno}") from None
  return builder.close()


def read_gold(folder: str | Path) -> tuple[dict[str, tuple[list[Finding], bool]], list[Problem]]:
  """Case id to its gold findings and whether it has a report; and the files that are no case.

  Raises:
    ValueError: no .xml file in the folder or below.
  """
  files = sorted(Path(folder).rglob("*.xml"))
  if not files:
    raise ValueError(f"{folder}: no .xml file there; expected a folder of Open-i cases")
  found: dict[str, tuple[list[Finding], bool]] = {}
  problems = []
  for number, file in enumerate(files, start=1):
    try:
      case = read_case(file)
      if case.id in found:
        raise ValueError(f"id {case.id!r} occurs a second time")
    except (ValueError, OSError) as error:
      problems.append(Problem(number, str(file), "unreadable file", str(error)))
      continue
    found[case.id] = gold_findings(case.terms), bool(case.report.strip())
  return found, problems


def gold_findings(terms: Sequence[str]) -> list[Finding]:
  """The findings that indexing terms stand for, in the order of the terms; each once."""
  findings = []
  for term in terms:
    heading, *qualifiers = (part.strip().lower() for part in term.split("/"))
    for name, wanted in TERMS.items():
      if any(heading == first and set(rest) <= set(qualifiers) for first, *rest in wanted):
        findings.append(_finding(name, qualifiers))
  return list(dict.fromkeys(findings))


def _finding(name: str, qualifiers: Sequence[str]) -> Finding:
  """A finding with the side, zones and degree among the qualifiers."""
  entry = get_ontology().findings[name]
  sides = [side for side in (*SIDES, "bilateral") if side in qualifiers] if entry.side else []
  zones = [ZONES_OF[part] for part in qualifiers if part in ZONES_OF] if entry.zone else []
  degrees = [DEGREES[part] for part in qualifiers if part in DEGREES]
  return Finding(name, severity=max(degrees, default=None), zones=tuple(zones),
                 laterality=None if not sides else sides[0] if len(sides) == 1 else "bilateral")
