"""Made-up local changes: what they look like, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.types import ABSENT, PRESENT, UNKNOWN, FindingsArrays
from cdjax.train.objectives.anomalies import Ellipses, draw_ellipses, lay_anomalies, paint_ellipses

KEY = jax.random.key(0)
N = 64


def _findings(present):
  status = jnp.where(jnp.asarray(present), PRESENT, ABSENT).astype(jnp.int8)
  return FindingsArrays(status, jnp.full(status.shape, -1.0), jnp.zeros_like(status),
                        jnp.zeros_like(status))


def _images(size=32):
  return jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, (N, size, size, 1)), jnp.float32)


def test_an_ellipse_lies_where_and_as_it_is_told():
  one = lambda value: jnp.full(1, value)
  ellipse = Ellipses(row=one(0.25), column=one(0.5), long=one(12.0), short=one(4.0),
                     angle=one(0.0), soft=one(0.5))
  mask = np.asarray(paint_ellipses(ellipse, 64))[0, :, :, 0]
  assert mask[16, 32] > 0.99 and mask[16, 32 + 10] > 0.5 > mask[16, 32 + 14]
  assert mask[16 + 3, 32] > 0.5 > mask[16 + 6, 32]
  np.testing.assert_allclose((mask > 0.5).sum(), np.pi * 12 * 4, rtol=0.05)
  turned = np.asarray(paint_ellipses(ellipse.replace(angle=one(jnp.pi / 2)), 64))[0, :, :, 0]
  assert turned[16 + 10, 32] > 0.5 > turned[16, 32 + 10]


@pytest.mark.parametrize("size", [64, 128])
def test_sizes_are_in_shares_of_the_image(size):
  area = (paint_ellipses(draw_ellipses(KEY, 400, size), size) > 0.5).mean((1, 2, 3)) * 64**2
  # None is larger than the largest disc, and many are smaller than 4 × 4 pixels.
  assert area.max() < np.pi * 9.5**2 and (area < 16).mean() > 0.1


def test_a_share_of_the_images_changes_and_in_one_place_only():
  x = _images()
  got, _ = lay_anomalies(KEY, x, _findings(np.zeros((N, 2))), 0.5)
  changed = np.asarray(jnp.abs(got - x) > 0.02)
  touched = changed.any((1, 2, 3))
  assert 0.2 < touched.mean() < 0.7
  assert changed[touched].mean((1, 2, 3)).max() < 0.5
  assert got.min() >= -1.0 and got.max() <= 1.0
  np.testing.assert_allclose(got[~touched], x[~touched], atol=0.02)


def test_changed_images_are_not_known_to_be_healthy_and_keep_what_they_have():
  present = np.zeros((N, 2), bool)
  present[::2, 0] = True
  _, got = lay_anomalies(KEY, _images(), _findings(present), 1.0)
  np.testing.assert_array_equal(got.status, np.where(present, PRESENT, UNKNOWN))
  assert got.status.dtype == jnp.int8 and not np.any(got.healthy)


def test_without_a_share_nothing_changes():
  x, findings = _images(), _findings(np.zeros((N, 2)))
  got, said = lay_anomalies(KEY, x, findings, 0.0)
  np.testing.assert_array_equal(got, x)
  np.testing.assert_array_equal(said.status, findings.status)


def test_changes_are_lighter_darker_and_foreign():
  """On flat images of several greys the middle of a change says what it is."""
  greys = jnp.broadcast_to(jnp.linspace(-0.4, 0.4, N)[:, None, None, None], (N, 64, 64, 1))
  got, _ = lay_anomalies(KEY, greys, _findings(np.zeros((N, 2))), 1.0)
  change = np.asarray(got - greys).reshape(N, -1)
  most = np.take_along_axis(change, np.abs(change).argmax(1)[:, None], 1)[:, 0]
  assert (most > 0.08).sum() > 5 and (most < -0.08).sum() > 2 and (np.abs(most) < 0.04).sum() > 10


def test_another_patients_patch_hides_no_finding():
  """On flat images a foreign patch of the same grey would not be seen: all that is, is a shade."""
  rows = jnp.where(jnp.arange(N) % 2 == 0, -0.4, 0.4)[:, None, None, None]
  greys = jnp.broadcast_to(rows, (N, 64, 64, 1))
  sick = _findings(np.ones((N, 1), bool))
  got, _ = lay_anomalies(KEY, greys, sick, 1.0)
  # The neighbour's grey is 0.8 away; a change of shade is 0.7 at most.
  assert float(jnp.abs(got - greys).max()) < 0.75
  healthy, _ = lay_anomalies(KEY, greys, _findings(np.zeros((N, 1))), 1.0)
  assert float(jnp.abs(healthy - greys).max()) > 0.75
