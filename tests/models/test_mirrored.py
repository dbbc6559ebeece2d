"""The lesion on the other side: what turns and what stays."""

import jax.numpy as jnp
import numpy as np

from cdjax.core.types import FindingsArrays
from cdjax.models.disentangled import Layers
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


def test_the_lesion_turns_over_the_same_film():
  image = jnp.arange(12.0).reshape(1, 3, 4, 1)
  turned = mirror_lesion(Layers(image, image + 1.0, image / 16.0))
  np.testing.assert_array_equal(turned.film, image)
  np.testing.assert_array_equal(turned.lesion[0, :, :, 0], np.fliplr(image[0, :, :, 0]) + 1.0)
  np.testing.assert_array_equal(turned.opacity[0, :, :, 0], np.fliplr(image[0, :, :, 0]) / 16.0)
