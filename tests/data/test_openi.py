"""Open-i cases: reports, gold, and XML that could do harm."""

import pytest

from cdjax.core.types import ZONES
from cdjax.data.openi import TERMS, gold_findings, parse_xml, read_case, read_gold
from cdjax.findings import Finding, get_ontology

CASE = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="{id}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">cough &amp; fever</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION"/>
</Abstract></Article></MedlineCitation>
<MeSH>{terms}</MeSH></eCitation>
"""


def case(name="CXR1", findings="No nodule.", terms=("normal",)):
  """The XML of a case."""
  return CASE.format(id=name, findings=findings,
                     terms="".join(f"<major>{term}</major>" for term in terms))


def test_a_case_is_read(tmp_path):
  path = tmp_path / "1.xml"
  path.write_text(case(terms=("Cardiomegaly/mild", " Nodule\n")), encoding="utf-8")
  read = read_case(path)
  assert read.id == "CXR1" and read.terms == ("Cardiomegaly/mild", "Nodule")
  assert read.report == "INDICATION: cough & fever\n\nFINDINGS: No nodule."


@pytest.mark.parametrize(("term", "finding"), [
  ("Cardiomegaly", Finding("cardiomegaly")),
  ("Cardiac Shadow/enlarged/moderate", Finding("cardiomegaly", severity=0.6)),
  ("Cardiac Shadow/obscured", None),
  ("Cardiomegaly/borderline", Finding("cardiomegaly", severity=0.1)),
  ("Pulmonary Atelectasis/base/left/mild",
   Finding("atelectasis", severity=0.35, laterality="left", zones=("lower",))),
  ("Pleural Effusion/bilateral/large",
   Finding("pleural_effusion", severity=0.9, laterality="bilateral")),
  ("Thickening/pleura/apex/right",
   Finding("pleural_thickening", laterality="right", zones=("upper",))),
  ("Thickening/bronchovascular", None),
  ("Opacity/lung/lingula", Finding("lung_opacity", zones=("mid",))),
  ("Opacity/thorax", None),
  ("Infiltrate/lung/left/right", Finding("lung_opacity", laterality="bilateral")),
  ("Airspace Disease/lung/lower lobe/upper lobe",
   Finding("lung_opacity", zones=("upper", "lower"))),
  ("Hernia, Hiatal/small", Finding("hiatal_hernia", severity=0.35)),
  ("Lung/hyperdistention/severe", Finding("hyperinflation", severity=0.9)),
  ("Lung/hypoinflation", Finding("hypoinflation")),
  ("Fractures, Bone/ribs/left/healed", Finding("fracture", laterality="left")),
  ("Calcified Granuloma", Finding("granuloma")),
  ("normal", None),
])
def test_terms_become_findings(term, finding):
  assert gold_findings([term]) == ([] if finding is None else [finding])


def test_terms_that_mean_the_same_are_one():
  assert gold_findings(["Emphysema", "Pulmonary Emphysema", "Cicatrix"]) == [
    Finding("emphysema"), Finding("scarring")]


def test_every_name_is_known_and_can_be_reached():
  assert len(TERMS) == 20 and set(TERMS) <= set(get_ontology().findings)
  for name, terms in TERMS.items():
    for heading, *qualifiers in terms:
      found = gold_findings(["/".join([heading.title(), *qualifiers])])
      assert [f.name for f in found] == [name]
      assert set(found[0].zones) <= set(ZONES)


@pytest.mark.parametrize(("text", "says"), [
  ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><eCitation>&x;</eCitation>', "DOCTYPE"),
  ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><eCitation>&c;</eCitation>', "DOCTYPE"),
  ("<eCitation>&x;</eCitation>", "line 1"),
  ("<eCitation>\n<open></eCitation>", "line 2"),
  ("", "no element"),
])
def test_harmful_or_broken_xml_is_refused(text, says):
  with pytest.raises(ValueError, match=says):
    parse_xml(text.encode())


def test_another_document_is_refused(tmp_path):
  path = tmp_path / "a.xml"
  path.write_text("<html/>")
  with pytest.raises(ValueError, match="<html>"):
    read_case(path)
  path.write_text('<eCitation><uId id=""/></eCitation>')
  with pytest.raises(ValueError, match="no id"):
    read_case(path)


def test_gold_of_a_folder_names_the_file_that_is_wrong(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "a/1.xml").write_text(case(terms=("Mass",)))
  (tmp_path / "2.xml").write_text(case("CXR2"))
  gold = {"CXR1": ([Finding("mass")], True), "CXR2": ([], True)}
  assert read_gold(tmp_path) == (gold, [])
  (tmp_path / "3.xml").write_text(case("CXR2"))
  (tmp_path / "4.xml").write_text("<a>")
  (tmp_path / "5.xml").write_text(case("CXR5").replace("utf-8", "klingon"))
  found, problems = read_gold(tmp_path)
  assert found == gold
  assert [(problem.image, problem.reason) for problem in problems] == [
      (str(tmp_path / "3.xml"), "id 'CXR2' occurs a second time"),
      (str(tmp_path / "4.xml"), "not well-formed XML: no element found in line 1"),
      (str(tmp_path / "5.xml"), "XML in an encoding that nobody knows here")]
  with pytest.raises(ValueError, match=r"no \.xml file"):
    read_gold(tmp_path / "none")
