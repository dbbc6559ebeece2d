"""Scores of extracted findings: against scikit-learn, by hand, on the phantom, on Open-i."""

import math
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cdjax.data import phantom
from cdjax.data.openi import TERMS, read_gold
from cdjax.data.phantom.vocabulary import ALL, PHANTOM_FINDINGS
from cdjax.data.report_records import read_reports
from cdjax.evaluate.agreement import agreement
from cdjax.evaluate.report_findings import MIN_GOLD_CASES, degree, score_findings
from cdjax.findings import Finding
from cdjax.findings.extract import extract_findings

NAMES = ("nodule", "mass", "pleural_effusion")
OPENI = Path(__file__).resolve().parents[3] / "shared/data/reports/openi_reports_even.tar.gz"


def _random_lists(seed: int, n: int = 200):
  rng = np.random.default_rng(seed)
  status = lambda: str(rng.choice(["present", "absent", "uncertain"]))
  return {str(i): [Finding(name, status(), laterality=[None, "left", "right"][rng.integers(3)])
                   for name in NAMES if rng.random() < 0.6] for i in range(n)}


def _table(lists):
  return np.array([[any(f.name == name and f.status != "absent" for f in lists[i])
                    for name in NAMES] for i in sorted(lists)])


def test_presence_is_scikit_learns():
  metrics = pytest.importorskip("sklearn.metrics")
  predicted, gold = _random_lists(0), _random_lists(1)
  result = score_findings(predicted, gold, names=NAMES, resamples=50)
  said, true = _table(predicted), _table(gold)
  for average in ("micro", "macro"):
    wanted = metrics.precision_recall_fscore_support(true, said, average=average)[:3]
    keys = [f"presence/{average}_{kind}" for kind in ("precision", "recall", "f1")]
    assert [result[key] for key in keys] == pytest.approx(wanted, abs=1e-12)
    assert all(result[f"{key}/low"] < result[key] < result[f"{key}/high"] for key in keys)
  each = metrics.precision_recall_fscore_support(true, said, average=None)
  for k, name in enumerate(NAMES):
    got = [result[f"presence/{name}/{kind}"] for kind in ("precision", "recall", "f1", "gold")]
    assert got == pytest.approx([column[k] for column in each])


def test_agreement_is_scikit_learns_and_symmetric():
  metrics = pytest.importorskip("sklearn.metrics")
  first, second = _random_lists(0), _random_lists(2)
  result, swapped = agreement(first, second), agreement(second, first)
  a, b = _table(first), _table(second)
  assert result["presence/kappa"] == pytest.approx(metrics.cohen_kappa_score(a.ravel(), b.ravel()))
  for k, name in enumerate(NAMES):
    assert result[f"presence/{name}/kappa"] == pytest.approx(
        metrics.cohen_kappa_score(a[:, k], b[:, k]))
    assert result[f"presence/{name}/f1"] == pytest.approx(metrics.f1_score(a[:, k], b[:, k]))
  assert result["side/agreement"] == swapped["side/agreement"]
  assert agreement(first, first)["presence/kappa"] == 1 == agreement(first, first)["presence/f1"]


def test_agreement_about_status_and_zone_by_hand():
  finding = lambda name, status="present", *zones: Finding(name, status=status, zones=zones)
  first = {"1": [finding("mass"), finding("nodule", "absent"), finding("emphysema")],
           "2": [finding("mass", "uncertain", "upper"), finding("nodule", "present", "lower")],
           "3": [finding("mass", "absent"), finding("mass", "present", "upper")]}
  second = {"1": [finding("mass"), finding("nodule", "uncertain")],
            "2": [finding("mass", "present", "upper", "mid"),
                  finding("nodule", "present", "lower")],
            "3": [finding("mass", "present")]}
  result = agreement(first, second)
  # Both list mass three times and nodule twice; mass of 2 and nodule of 1 differ.
  assert (result["status/agreement"], result["status/n"]) == (3 / 5, 5)
  assert (result["zone/agreement"], result["zone/n"]) == (1 / 2, 2)
  assert agreement(second, first)["status/agreement"] == 3 / 5
  assert np.isnan(agreement({"1": []}, {"1": []})["status/agreement"])


def test_side_zone_and_severity_are_judged_where_the_gold_states_them():
  gold = {"a": [Finding("nodule", severity=0.35, laterality="left", zones=("upper",))],
          "b": [Finding("nodule", laterality="left"), Finding("nodule", laterality="right")],
          "c": [Finding("nodule")],
          "d": [Finding("nodule", severity=0.9, laterality="right")]}
  predicted = {"a": [Finding("nodule", "uncertain", 0.15, "left", ("lower",))],
               "b": [Finding("nodule", severity=1.0, laterality="bilateral")],
               "c": [Finding("nodule", laterality="left", zones=("mid",))],
               "d": [Finding("nodule", "absent", laterality="right")]}
  result = score_findings(predicted, gold, resamples=0)
  assert (result["side/accuracy"], result["side/n"]) == (1, 2)
  assert (result["zone/accuracy"], result["zone/n"]) == (0, 1)
  assert (result["severity/accuracy"], result["severity/n"]) == (1, 1)
  assert result["presence/nodule/recall"] == 0.75
  without = {**predicted, "a": [Finding("nodule")]}
  result = score_findings(without, gold, resamples=0)
  assert result["side/accuracy"] == 0.5 and result["severity/accuracy"] == 0


def test_degrees_of_words():
  words = {"borderline": 0.1, "mild": 0.35, "moderate": 0.6, "severe": 0.9}
  assert {degree(value): value for value in words.values()} == words
  assert (degree(0.15), degree(1.0)) == ("mild", "severe")


def test_rare_names_do_not_count_in_the_macro_average():
  many = {str(i): [Finding("nodule")] for i in range(MIN_GOLD_CASES)}
  gold = {**many, "x": [Finding("mass")]}
  result = score_findings({**many, "x": []}, gold, resamples=0)
  assert result["presence/macro_f1"] == 1 and result["presence/macro_names"] == 1
  assert result["presence/micro_recall"] == pytest.approx(10 / 11)
  assert math.isnan(result["side/accuracy"])


def test_lists_of_different_reports_are_refused():
  with pytest.raises(ValueError, match="'b' is not in the predictions"):
    score_findings({"a": []}, {"a": [], "b": []})
  with pytest.raises(ValueError, match="no reports"):
    score_findings({}, {})
  with pytest.raises(ValueError, match="lump"):
    score_findings({"a": []}, {"a": []}, names=["lump"])


def test_phantom_reports_are_read():
  """The phantom's wording and the rules know nothing of each other."""
  rng = np.random.default_rng(11)
  gold, predicted = {}, {}
  for i in range(600):
    listed = []
    for name in ALL:
      spec = PHANTOM_FINDINGS[name]
      if rng.random() > 0.12:
        listed.append(Finding(name, status="absent"))
        continue
      side = str(rng.choice(spec.sides)) if spec.sides else None
      listed.append(Finding(name, severity=float(rng.uniform(0.25, 1)),
                            laterality="bilateral" if side == "both" else side,
                            zones=(str(rng.choice(spec.zones)),) if spec.zones else ()))
    gold[str(i)] = listed
    predicted[str(i)] = extract_findings(phantom.write_report(listed, rng))
  result = score_findings(predicted, gold, names=ALL, resamples=0)
  assert result["side/n"] > 500 and result["zone/n"] > 300 and result["severity/n"] > 800
  assert result["presence/micro_f1"] >= 0.98
  assert result["presence/macro_f1"] >= 0.98
  assert result["side/accuracy"] >= 0.98
  assert result["zone/accuracy"] >= 0.95
  assert result["severity/accuracy"] >= 0.95


@pytest.mark.skipif(not OPENI.is_file(), reason=f"no {OPENI.name} in ../shared/data/reports")
def test_openi_reports_are_read(tmp_path):
  with tarfile.open(OPENI) as archive:
    archive.extractall(tmp_path, filter="data")
  reports, problems = read_reports(tmp_path)
  assert {p.kind for p in problems} <= {"missing value"} and len(reports) > 1900
  predicted = {report.id: extract_findings(report.text) for report in reports}
  gold = {i: findings for i, (findings, _) in read_gold(tmp_path)[0].items() if i in predicted}
  result = score_findings(predicted, gold, names=list(TERMS), resamples=0)
  assert result["presence/micro_f1"] >= 0.92
  assert result["presence/macro_f1"] >= 0.88
  assert result["side/accuracy"] >= 0.92
  assert result["severity/accuracy"] >= 0.80
