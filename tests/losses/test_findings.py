"""Findings losses: scikit-learn-free hand cases, unknown labels, bits, extremes."""

import jax
import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.losses.findings import findings_loss, location_loss, severity_loss

RNG = np.random.default_rng([0, 13])
STATUS = np.array([[1, 0, -1], [0, 1, 1]], np.int8)
LOGITS = RNG.standard_normal((2, 3)).astype(np.float32)


def cross_entropy(logit, label):
  p = 1 / (1 + np.exp(-np.float64(logit)))
  return -np.log(p if label else 1 - p)


def make_findings(**kwargs):
  values = dict(
      status=STATUS,
      severity=np.array([[0.5, -1, -1], [-1, 0.25, -1]], np.float32),
      side=np.array([[1, 0, 0], [0, 3, 0]], np.int8),
      zone=np.array([[4, 0, 0], [0, 0, 2]], np.int8))
  return FindingsArrays(**{**values, **kwargs})


def test_findings_loss_by_hand():
  expected = [sum(cross_entropy(LOGITS[i, k], STATUS[i, k] == 1) for k in range(3)
                  if STATUS[i, k] >= 0) for i in range(2)]
  np.testing.assert_allclose(findings_loss(LOGITS, STATUS), expected, rtol=1e-5)


def test_findings_loss_weights_by_hand():
  loss = findings_loss(LOGITS, STATUS, class_weights=np.array([2.0, 1.0, 0.5]),
                       positive_weights=np.array([3.0, 5.0, 7.0]))
  expected = [2 * 3 * cross_entropy(LOGITS[0, 0], 1) + cross_entropy(LOGITS[0, 1], 0),
              2 * cross_entropy(LOGITS[1, 0], 0) + 5 * cross_entropy(LOGITS[1, 1], 1)
              + 0.5 * 7 * cross_entropy(LOGITS[1, 2], 1)]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_unknown_labels_change_neither_loss_nor_gradient():
  other = LOGITS.copy()
  other[0, 2] = 50.0
  np.testing.assert_array_equal(findings_loss(LOGITS, STATUS), findings_loss(other, STATUS))
  gradient = np.asarray(jax.grad(lambda l: findings_loss(l, STATUS).sum())(LOGITS))
  assert gradient[0, 2] == 0 and (gradient[STATUS >= 0] != 0).all()


def test_extreme_logits_stay_finite():
  logits = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], np.float32)
  value, gradient = jax.value_and_grad(lambda l: findings_loss(l, STATUS).sum())(logits)
  assert np.isfinite(value) and np.isfinite(gradient).all()


def test_location_loss_by_hand():
  side = RNG.standard_normal((2, 3, 2)).astype(np.float32)
  zone = RNG.standard_normal((2, 3, 3)).astype(np.float32)
  expected = [
      # first finding: left, lower; the others absent or unknown
      cross_entropy(side[0, 0, 0], 1) + cross_entropy(side[0, 0, 1], 0)
      + cross_entropy(zone[0, 0, 0], 0) + cross_entropy(zone[0, 0, 1], 0)
      + cross_entropy(zone[0, 0, 2], 1),
      # second: both sides, zone unknown; third: side unknown, mid
      cross_entropy(side[1, 1, 0], 1) + cross_entropy(side[1, 1, 1], 1)
      + cross_entropy(zone[1, 2, 0], 0) + cross_entropy(zone[1, 2, 1], 1)
      + cross_entropy(zone[1, 2, 2], 0)]
  np.testing.assert_allclose(location_loss(side, zone, make_findings()), expected, rtol=1e-5)


def test_location_of_absent_findings_never_counts():
  side, zone = np.ones((2, 3, 2), np.float32), np.ones((2, 3, 3), np.float32)
  everywhere = make_findings(side=np.full((2, 3), 3, np.int8), zone=np.full((2, 3), 7, np.int8))
  gradient = np.asarray(jax.grad(
      lambda s: location_loss(s, zone, everywhere).sum())(side))
  np.testing.assert_array_equal((gradient != 0).any(-1), STATUS == 1)


def test_location_loss_names_wrong_sizes():
  with pytest.raises(ValueError, match="expected last sizes 2 and 3"):
    location_loss(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), make_findings())


def test_severity_loss_by_hand():
  hat = np.array([[0.7, 0.9, 0.9], [0.9, 0.5, 0.9]], np.float32)
  loss = severity_loss(hat, make_findings(), sigma=0.1)
  np.testing.assert_allclose(loss, [0.2**2 / 0.02, 0.25**2 / 0.02], rtol=1e-4)
  changed = hat.copy()
  changed[1, 2] = 0.0  # present, but its severity is unknown
  np.testing.assert_array_equal(loss, severity_loss(changed, make_findings(), sigma=0.1))
