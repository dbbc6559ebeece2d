"""Measures for real radiographs, against references and by construction."""

import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.evaluate.full_radiographs import asked_of
from cdjax.evaluate.radiographs import LUNG_BOX, only, ssim_outside_lungs


def test_only_what_changes_outside_the_lungs_counts():
  rng = np.random.default_rng(1)
  image = rng.random((2, 64, 64)).astype(np.float32)
  inside = image.copy()
  (top, bottom), (left, right) = ((int(64 * p) for p in side) for side in LUNG_BOX)
  # SSIM looks five pixels around: a change that far inside the box cannot be seen outside of it.
  inside[:, top + 6:bottom - 6, left + 6:right - 6] = 0.0
  np.testing.assert_allclose(ssim_outside_lungs(image, inside), 1.0, atol=1e-5)
  border = image.copy()
  border[:, :, :3] = 0.0
  assert np.all(ssim_outside_lungs(image, border) < 0.95)


@pytest.mark.parametrize("k", [None, 1])
def test_only_one_finding_is_asked(k):
  given = FindingsArrays(*(np.ones((2, 3), t) for t in (np.int8, np.float32, np.int8, np.int8)))
  asked = only(given, k)
  np.testing.assert_array_equal(asked.status, [[0, int(k == 1), 0]] * 2)
  assert not asked.side.any() and not asked.zone.any() and (asked.severity == -1).all()


def test_every_image_is_asked_for_something_that_it_does_not_show():
  status = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1], [-1, 1, 0]], np.int8)
  zeros = np.zeros_like(status)
  given = FindingsArrays(status, np.full(status.shape, -1.0, np.float32), zeros, zeros)
  asked = asked_of(given, [0, 2])
  assert asked.status.argmax(1).tolist() == [2, 2, 0, 2, 0] and (asked.status.sum(1) == 1).all()
