"""Weights of classes by hand, and what they do to images and to a loss."""

import numpy as np
import pytest

from cdjax.losses.balance import class_weights, example_weights, positive_weights


def test_weights_by_hand():
  counts = [1, 4, 100]
  np.testing.assert_allclose(class_weights(counts, "inverse_sqrt"), [1, 0.5, 0.1])
  np.testing.assert_allclose(class_weights(counts, "effective_number", beta=0.9),
                             [1, 0.1 / (1 - 0.9**4), 0.1 / (1 - 0.9**100)])
  np.testing.assert_allclose(class_weights(counts, "effective_number", beta=0.0), 1.0)
  many = class_weights(counts, "effective_number", beta=1 - 1e-7)
  np.testing.assert_allclose(many, 1 / np.array(counts), rtol=1e-4)
  assert class_weights([0, 3], "inverse_sqrt")[0] == 0


def test_an_image_counts_by_the_rarest_finding_it_shows():
  status = np.array([[1, 0]] * 4 + [[1, 1]] + [[0, -1]] * 16)   # 5, 1 and 16 without
  weights = example_weights(status, "inverse_sqrt")
  np.testing.assert_allclose(weights, [5**-0.5] * 4 + [1.0] + [0.25] * 16)
  # Equal weights where nothing is to be balanced.
  np.testing.assert_array_equal(example_weights(status, "none"), 1.0)


def test_positive_terms_weigh_by_how_rare_presence_is():
  status = np.array([[1, 0, -1]] + [[0, 0, 1]] * 9 + [[-1, 0, 1]] * 5)
  np.testing.assert_allclose(positive_weights(status, "inverse_sqrt"), [3.0, 1.0, 1.0])
  np.testing.assert_array_equal(positive_weights(status, "none"), 1.0)


@pytest.mark.parametrize("kind, beta, says", [
    ("sqrt", 0.9, "expected one of none, inverse_sqrt, effective_number"),
    ("effective_number", 1.0, "class_beta=1.0; expected at least 0 and below 1")])
def test_what_is_not_known_is_refused(kind, beta, says):
  with pytest.raises(ValueError, match=says):
    class_weights([1, 2], kind, beta=beta)
