import numpy as np
import pytest

from cdjax.evaluate import bootstrap


def test_interval_covers_the_mean_as_often_as_it_says():
  generator = np.random.default_rng(0)
  covered = 0
  for trial in range(200):
    values = generator.exponential(size=60)
    result = bootstrap.interval(bootstrap.mean(values), 60, resamples=200, seed=trial)
    covered += result["low"] <= 1.0 <= result["high"]
  assert 0.86 <= covered / 200 <= 0.99


def test_macro_counts_groups_equally_and_leaves_nan_out():
  values = np.array([1.0, 1.0, 1.0, 0.0, np.nan, np.nan])
  groups = np.array([0, 0, 0, 1, 1, 2])
  result = bootstrap.interval(bootstrap.macro(values, groups), 6, resamples=50, seed=0)
  assert result["value"] == pytest.approx(0.5)
  assert result["n"] == 6


def test_a_weight_of_two_is_the_patient_twice():
  values, groups = np.array([0.1, 0.7, 0.4, 0.9]), np.array([0, 0, 1, 1])
  weights = np.array([[2.0, 0.0, 1.0, 1.0]])
  rows = np.array([0, 0, 2, 3])
  again = np.ones((1, 4))
  pairs = [
      (bootstrap.macro(values, groups), bootstrap.macro(values[rows], groups[rows])),
      (bootstrap.balanced_accuracy(values[:, None] > 0.5, groups[:, None] > 0),
       bootstrap.balanced_accuracy(values[rows, None] > 0.5, groups[rows, None] > 0)),
      (bootstrap.spearman(values, values**2, groups),
       bootstrap.spearman(values[rows], values[rows] ** 2, groups[rows])),
  ]
  for weighted, repeated in pairs:
    np.testing.assert_allclose(weighted(weights), repeated(again), rtol=1e-12)


def test_balanced_accuracy_by_hand():
  actual = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], bool)
  predicted = np.array([[1, 0], [0, 1], [0, 0], [1, 0]], bool)
  # First finding: sensitivity 1/2, specificity 1/2; the second is never there: left out.
  assert bootstrap.balanced_accuracy(predicted, actual)(np.ones((1, 4)))[0] == pytest.approx(0.5)


def test_spearman_is_taken_within_groups():
  a = np.array([1, 2, 3, 101, 102, 103.0])
  b = np.array([3, 2, 1, 103, 102, 101.0])
  groups = np.array([0, 0, 0, 1, 1, 1])
  assert bootstrap.spearman(a, b, groups)(np.ones((1, 6)))[0] == pytest.approx(-1.0)
