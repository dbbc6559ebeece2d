"""The lesion on the other side: what turns and what stays."""

import jax.numpy as jnp
import numpy as np

from cdjax.core.types import FindingsArrays
from cdjax.models.mirrored import can_mirror, mirror_findings, mirror_lesion


def findings(status, side):
  status, side = jnp.asarray(status, jnp.int8), jnp.asarray(side, jnp.int8)
  return FindingsArrays(status, jnp.where(status == 1, 0.5, -1.0), side, jnp.full_like(side, 4))


def test_left_becomes_right_and_both_stay_both():
  given = findings([[1, 1, 1, 0]], [[1, 2, 3, 0]])
  turned = mirror_findings(given)
  np.testing.assert_array_equal(turned.side, [[2, 1, 3, 0]])
  assert turned.side.dtype == jnp.int8
  for field in ("status", "severity", "zone"):
    np.testing.assert_array_equal(getattr(turned, field), getattr(given, field))
  np.testing.assert_array_equal(mirror_findings(turned).side, given.side)


def test_only_findings_with_a_side_have_another_side():
  status = [[0, 0], [1, 0], [1, 1], [1, 1], [1, -1]]
  side = [[0, 0], [1, 0], [1, 0], [1, 3], [2, 0]]
  np.testing.assert_array_equal(can_mirror(findings(status, side)), [0, 1, 0, 1, 1])


def test_a_lesion_is_cut_out_and_laid_over_the_other_side():
  """The radiograph's own pixels move, not the model's; elsewhere it stays as it is."""
  rng = np.random.default_rng(0)
  healthy = np.full((1, 64, 64, 1), 0.4)
  lesion, grain = np.zeros((2, 1, 64, 64, 1))
  lesion[:, 20:30, 10:20] = 0.3
  grain[:, 20:30, 10:20] = 0.02 * rng.normal(size=(1, 10, 10, 1))
  anatomy = 0.02 * rng.normal(size=healthy.shape)   # what the model leaves out of the film
  anatomy[:, 10:40, :30] = 0.0
  x = healthy + lesion + grain + anatomy
  turned, target = mirror_lesion(2.0 * x - 1.0, healthy + lesion, healthy)
  moved = (lesion + grain)[:, :, ::-1]
  np.testing.assert_allclose(0.5 * (turned + 1.0), healthy + moved + anatomy, rtol=0, atol=0.02)
  inside = moved != 0
  np.testing.assert_allclose((target - healthy)[inside], moved[inside], rtol=0, atol=0.02)
  assert np.corrcoef((target - healthy)[inside], moved[inside])[0, 1] > 0.9
  still, _ = mirror_lesion(2.0 * x - 1.0, healthy, healthy)
  np.testing.assert_allclose(still, 2.0 * x - 1.0, rtol=0, atol=1e-6)
