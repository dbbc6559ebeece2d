"""Details that the training data never name."""

import numpy as np

from cdjax.core.types import FindingsArrays
from cdjax.train.details import known_details, leave_open

NAMES = ("pleural_effusion", "mass")


def arrays(status, severity, side, zone):
  return FindingsArrays(np.array(status, np.int8), np.array(severity, np.float32),
                        np.array(side, np.int8), np.array(zone, np.int8))


def test_what_some_image_says_is_known():
  train = arrays([[1, 1], [1, 0]], [[-1, 0.5], [-1, 0.5]], [[0, 0], [1, 2]], [[0, 0], [0, 0]])
  known = known_details(train, NAMES)
  assert known == {"side": ["pleural_effusion"], "zone": [], "severity": ["mass"]}
  asked = arrays([[1, 1]], [[0.9, 0.9]], [[1, 1]], [[0, 4]])
  left, forgotten = leave_open(asked, known, NAMES)
  assert forgotten == ["side of mass", "zone of mass", "severity of pleural_effusion"]
  np.testing.assert_allclose(left.severity, [[-1, 0.9]], rtol=1e-6)
  np.testing.assert_array_equal(left.side, [[1, 0]])
  np.testing.assert_array_equal(left.zone, [[0, 0]])


def test_nothing_is_forgotten_of_what_is_not_there():
  known = {"side": [], "zone": [], "severity": []}
  assert leave_open(arrays([[0, -1]], [[-1, -1]], [[0, 0]], [[0, 0]]), known, NAMES)[1] == []
