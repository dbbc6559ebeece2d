"""Identity: pairs, the verifier's ROC and what counterfactuals share with their images."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cdjax.evaluate.identity import identity_statistics, strangers
from cdjax.evaluate.verification import (
    equal_error_threshold,
    likeness,
    make_pairs,
    verification_auc,
)


def unit(rows):
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_every_patient_with_two_studies_meets_itself_and_one_stranger():
  patient = np.array([5, 5, 5, 2, 2, 9, 9, 7, 4, 4])
  study = np.array([0, 0, 1, 0, 1, 3, 3, 0, 0, 1])   # 9 has one study with two images, 7 one image
  for seed in range(20):
    pairs = make_pairs(patient, study, seed=seed)
    assert pairs.same.tolist() == [True] * 3 + [False] * 3
    own, strange = pairs.same, ~pairs.same
    assert (patient[pairs.first[own]] == patient[pairs.second[own]]).all()
    assert (study[pairs.first[own]] != study[pairs.second[own]]).all()
    assert (patient[pairs.first[strange]] != patient[pairs.second[strange]]).all()
    assert sorted(patient[pairs.first[own]]) == sorted(patient[pairs.first[strange]]) == [2, 4, 5]
    assert sorted(patient[pairs.second[strange]]) == [2, 4, 5]
  with pytest.raises(ValueError, match="1 patients have several studies"):
    make_pairs(patient[:3], study[:3], seed=0)


def test_the_roc_is_scikit_learns():
  rng = np.random.default_rng(0)
  patient = np.repeat(np.arange(40), 2)
  embedding = unit(rng.standard_normal((40, 6))[patient] + rng.standard_normal((80, 6)))
  pairs = make_pairs(patient, np.tile([0, 1], 40), seed=1)
  score = (embedding[pairs.first] * embedding[pairs.second]).sum(-1)
  got = verification_auc(embedding, pairs)(np.ones((1, 80)))[0]
  assert got == pytest.approx(roc_auc_score(pairs.same, score), rel=1e-12) and 0.7 < got < 1
  threshold = equal_error_threshold(score, pairs.same)
  wrong = ((score >= threshold) & ~pairs.same).sum(), ((score < threshold) & pairs.same).sum()
  assert abs(wrong[0] - wrong[1]) <= 1 and wrong[0] > 0
  with pytest.raises(ValueError, match="one kind"):
    equal_error_threshold(score[:40], pairs.same[:40])


@pytest.fixture(scope="module")
def images():
  return np.random.default_rng(1).random((5, 16, 16)).astype(np.float32)


def values(x, answers, **kwargs):
  statistics = identity_statistics(x, answers, **kwargs)
  return {k: s(np.ones((1, len(x))))[0] for k, s in statistics.items()}


def flat(x):
  return unit(np.asarray(x, np.float64).reshape(len(x), -1) - 0.5)


def test_a_copy_is_the_patient_and_somebody_else_is_not(images):
  rows = lambda x: np.asarray(x).reshape(len(x), -1)
  copy = values(images, images, embed=flat, threshold=0.9, features=rows)
  assert copy["identity/l1"] == 0 and copy["identity/ssim"] == pytest.approx(1)
  assert copy["identity/likeness"] == pytest.approx(1) and copy["identity/verified"] == 1
  assert copy["identity/stranger_verified"] == 0 and copy["identity/features"] == 0
  other = np.roll(images, -1, 0)   # somebody else's image as the answer
  swapped = values(images, other, embed=flat, threshold=0.9, features=rows)
  assert swapped["identity/verified"] == 0 and swapped["identity/stranger_verified"] == 1
  assert swapped["identity/features"] == pytest.approx(1)
  assert swapped["identity/l1"] == pytest.approx(np.abs(images - other).mean(), rel=1e-6)
  assert swapped["identity/likeness"] == pytest.approx(likeness(flat(images), flat(other)).mean())


def test_without_networks_only_pixels_are_compared(images):
  assert set(values(images, images)) == {"identity/l1", "identity/ssim"}


def test_nobody_is_a_stranger_to_himself(images):
  """Two images of a patient in a row: the one before is no measure of another patient."""
  patient = np.array([3, 3, 3, 8, 8])
  assert strangers(patient).tolist() == [4, 4, 4, 2, 2]
  x = images[[0, 0, 0, 1, 1]]
  rows = lambda x: np.asarray(x).reshape(len(x), -1)
  got = values(x, x[::-1], embed=flat, threshold=0.99, features=rows, patient=patient)
  between = np.linalg.norm(rows(x[:1]).astype(float) - rows(x[4:]))
  apart = np.linalg.norm(rows(x).astype(float) - rows(x[::-1]), axis=-1).mean()
  assert got["identity/features"] == pytest.approx(apart / between)
  copies = values(x, x, embed=flat, threshold=0.99, patient=patient)
  assert copies["identity/stranger_verified"] == 0 and copies["identity/verified"] == 1
  with pytest.raises(ValueError, match="3 images of 1 patient; a stranger"):
    values(x[:3], x[:3], embed=flat, patient=patient[:3])
