"""Answers as images: their groups, their names, and what a classifier reads in them."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cdjax.core.types import FindingsArrays
from cdjax.evaluate.answer_quality import answer_fidelity, answer_pathology, finding_groups
from cdjax.evaluate.features import extract, pixel_extractor
from cdjax.evaluate.fidelity import fidelity_metrics


def findings(status):
  status = np.asarray(status, np.int8)
  zeros = np.zeros_like(status)
  return FindingsArrays(status, np.full(status.shape, -1.0, np.float32), zeros, zeros)


def test_groups_are_by_finding_and_by_the_tier_of_the_training_images():
  groups = finding_groups(findings([[1, 0, 0], [0, 0, 0], [1, 1, 0], [-1, 1, 0]]),
                          ("effusion", "mass", "nodule"), np.array([1001, 99, 100]))
  assert {name: mask.tolist() for name, mask in groups.items()} == {
      "finding/effusion": [True, False, True, False], "finding/mass": [False, False, True, True],
      "tier/head": [True, False, True, False], "tier/tail": [False, False, True, True]}


def test_each_group_is_compared_with_its_own_real_images():
  rng = np.random.default_rng(0)
  real = rng.uniform(0.2, 0.6, (120, 12, 12)).astype(np.float32)
  answers = rng.uniform(0.2, 0.6, (130, 12, 12)).astype(np.float32)
  nodule, mass = np.arange(120) < 60, np.arange(120) >= 60
  asked = np.arange(130) < 55
  answers[~asked] += 0.3
  few = np.arange(130) < 49
  metrics, left_out = answer_fidelity(
      real, answers, {"finding/nodule": nodule, "finding/mass": mass, "finding/edema": nodule},
      {"finding/nodule": asked, "finding/mass": ~asked, "finding/edema": few}, features_fn=None,
      seed=0)
  value = lambda key: metrics[key]["value"]
  expected = fidelity_metrics(*(extract(pixel_extractor(size=12), x) for x in (real, answers)),
                              extractor=pixel_extractor(size=12), seed=0)
  assert {f"fidelity/{key}" for key in expected} < metrics.keys()
  assert value("fidelity/kid/pixels/120/bilinear12") == expected["kid/pixels/120/bilinear12"]
  assert value("fidelity/kid/pixels/60/bilinear12/finding/mass") > 0.05 > 0.01 > abs(
      value("fidelity/kid/pixels/55/bilinear12/finding/nodule"))
  assert metrics["fidelity/fid/pixels/55/bilinear12/finding/nodule"]["n"] == 55
  assert left_out == ["fidelity/*/finding/edema: 60 real and 49 synthetic images, fewer than 50"]


def test_what_is_asked_is_what_the_classifier_should_read():
  rng = np.random.default_rng(1)
  status = np.stack([rng.integers(-1, 2, 80), np.zeros(80, int)], 1)
  probability = np.clip(0.5 + 0.2 * status + 0.3 * rng.standard_normal((80, 2)), 0, 1)
  got = answer_pathology(probability, findings(status), vocabulary=("nodule", "mass"),
                         patient=np.arange(80) // 2, resamples=20, seed=0)
  known = status[:, 0] >= 0
  for metric, of in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
    entry = got[f"pathology/{metric}/nodule"]
    assert entry["value"] == pytest.approx(of(status[known, 0], probability[known, 0]))
    assert entry["low"] <= entry["value"] <= entry["high"] and entry["n"] == 40
    assert f"pathology/{metric}/mass" not in got   # nobody is asked for it
    assert got[f"pathology/{metric}/macro"]["value"] == entry["value"]
