"""The distance of what a classifier sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.losses.perceptual import perceptual_distance
from cdjax.models.classifier import feature_grids, make_classifier

MODEL = dict(block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, dropout=0.0,
             dtype="float32")


def test_by_hand():
  first = [jnp.array([[[[3.0, 4.0]], [[1.0, 0.0]]]]), jnp.array([[[[0.0, 2.0]]]])]
  second = [jnp.array([[[[6.0, 8.0]], [[0.0, 5.0]]]]), jnp.array([[[[0.0, -1.0]]]])]
  # Parallel, at right angles; opposite: (0 + 2) / 2 + 4.
  np.testing.assert_allclose(perceptual_distance(first, second), [5.0], rtol=1e-4)


def test_other_numbers_of_grids_are_an_error():
  with pytest.raises(ValueError, match="zip"):
    perceptual_distance([jnp.ones((1, 1, 1, 2))], [jnp.ones((1, 1, 1, 2))] * 2)


def test_a_classifiers_grids_and_a_finite_gradient_where_it_sees_nothing():
  model = make_classifier(MODEL, 3)
  x = jax.random.normal(jax.random.key(0), (2, 16, 16, 1))
  params = model.init(jax.random.key(1), x)["params"]
  grids = feature_grids(model, params, x)
  assert [grid.shape for grid in grids] == [(2, 8, 8, 4), (2, 4, 4, 8)]
  loss = lambda other: perceptual_distance(grids, feature_grids(model, params, other)).sum()
  assert float(loss(x)) == 0.0 < float(loss(-x))
  grad = jax.grad(loss)(jnp.zeros_like(x))
  assert np.isfinite(grad).all() and np.abs(grad).max() > 0
  blind = jax.tree.map(jnp.zeros_like, params)
  loss = lambda other: perceptual_distance(grids, feature_grids(model, blind, other)).sum()
  assert np.isfinite(jax.grad(loss)(x)).all()
