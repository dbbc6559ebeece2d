"""The packaged ontology covers the public label sets and contradicts itself nowhere."""

import copy
import json
from importlib import resources

import pytest

from cdjax.findings import ancestors, canonical_name, get_ontology, parse_findings
from cdjax.findings.ontology import build_ontology, tokenize

CHEXPERT = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity",
            "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax",
            "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"]
NIH = ["Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
       "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
       "Hernia", "No Finding"]
CXR_LT = ["Calcification of the Aorta", "Pneumomediastinum", "Pneumoperitoneum",
          "Subcutaneous Emphysema", "Tortuous Aorta", "Adenopathy", "Azygos Lobe",
          "Clavicle Fracture", "Fissure", "Hydropneumothorax", "Infarction", "Kyphosis",
          "Lobar Atelectasis", "Pulmonary Embolism", "Pulmonary Hypertension", "Rib Fracture",
          "Round(ed) Atelectasis", "Tuberculosis", "Bulla", "Cardiomyopathy", "Hilum",
          "Osteopenia", "Scoliosis", "Normal"]


def _raw():
  file = resources.files("cdjax.findings").joinpath("ontology.json")
  return json.loads(file.read_text("utf-8"))


@pytest.mark.parametrize("label", [*CHEXPERT, *NIH, *CXR_LT, "COVID-19", "Granuloma"])
def test_data_set_spellings_are_known(label):
  label = label.replace("(ed)", "ed")
  findings = parse_findings(label)
  if label in ("No Finding", "Normal"):
    assert findings == []
  else:
    assert [f.name for f in findings] == [canonical_name(label)]


def test_finding_names_hold_no_word_of_another_meaning():
  """A name made of modifier words could not be told from them."""
  ontology = get_ontology()
  meaning = {*ontology.severity, *ontology.status, *ontology.change, "severity", "mm", "cm"}
  regions = set(ontology.regions)
  for phrase in ontology.phrases:
    assert not meaning & set(phrase), phrase
    # "Right hilum" is a finding, "right hilum nodule" has it as a place.
    assert phrase not in regions - {("hilum",)} and phrase not in ontology.healthy


def test_relations_are_acyclic_and_transitive():
  assert ancestors("nodule") == {"lung_lesion", "lung_opacity"}
  for name in get_ontology().findings:
    assert name not in ancestors(name)


@pytest.mark.parametrize(("change", "says"), [
  (lambda raw: raw["findings"]["mass"]["synonyms"].append("Nodule"), "means both"),
  (lambda raw: raw["findings"]["mass"]["parents"].append("lump"), "lump"),
  (lambda raw: raw["findings"]["mass"].update(scale="weight"), "weight"),
  (lambda raw: raw["regions"]["left"].update(side="west"), "west"),
  (lambda raw: raw["severity"].update(massive=2.0), "massive"),
])
def test_a_bad_file_is_refused(change, says):
  raw = copy.deepcopy(_raw())
  change(raw)
  with pytest.raises(ValueError, match=says):
    build_ontology(raw)


def test_unknown_name_lists_the_nearest():
  with pytest.raises(ValueError, match=r"'Pneumotorax' \(nearest: pneumothorax"):
    canonical_name("Pneumotorax")


def test_tokens_keep_numbers_whole():
  assert tokenize("Left-sided Pleural_Thickening, severity 1e-05 -0.5 COVID-19") == (
    "left", "sided", "pleural", "thickening", "severity", "1e-05", "-0.5", "covid", "19")
