import jax
import jax.numpy as jnp
import numpy as np

from cdjax.losses.minimality import sparse_change


def test_by_hand():
  change = jnp.array([[[[0.02], [-0.02]], [[0.0], [0.06]]], [[[0.0]] * 2] * 2])
  np.testing.assert_allclose(
      sparse_change(change, scale=0.02), [2 * np.log(2) + np.log(4), 0.0], rtol=1e-6)


def test_small_changes_cost_as_l1_and_large_ones_hardly_more():
  slope = jax.vmap(jax.grad(lambda d: sparse_change(d.reshape(1, 1, 1, 1), scale=0.02)[0]))
  np.testing.assert_allclose(slope(jnp.array([1e-4, 0.02, 0.18])), [50, 25, 5], rtol=6e-3)
