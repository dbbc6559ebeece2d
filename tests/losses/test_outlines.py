"""Outlines: whose errors a pathology is not paid for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.losses.outlines import outline_weight, weigh_change


def _edge(height=0.4):
  """A film that is dark on the left and lighter by `height` on the right, `[1, 8, 8, 1]`."""
  row = jnp.where(jnp.arange(8) < 4, 0.2, 0.2 + height)
  return jnp.tile(row[None, None, :, None], (1, 8, 1, 1))


def test_smooth_places_count_in_full_and_outlines_hardly():
  weight = outline_weight(_edge(), sigma=0.02, shift=0.25)
  assert weight.shape == (1, 8, 8, 1)
  np.testing.assert_allclose(weight[0, :, [0, 1, 6, 7], 0], 1.0)
  # The step of 0.4 has a slope of 0.2 a pixel on both sides: an sd of 0.05 beside sigma's 0.02.
  np.testing.assert_allclose(weight[0, :, [3, 4], 0], 1.0 / (1.0 + 2.5**2), rtol=1e-5)


def test_without_a_shift_everything_counts_in_full():
  np.testing.assert_array_equal(outline_weight(_edge(), sigma=0.02, shift=0.0), 1.0)


def test_the_weight_is_the_ratio_of_variances_of_shifted_outlines():
  """Ramps displaced at random: the error's variance is sigma² over the weight."""
  sigma, shift, slope = 0.02, 0.3, 0.1
  ramp = slope * jnp.arange(8.0)[None, None, :, None] * jnp.ones((1, 8, 1, 1))
  draw = np.random.default_rng(0)
  error = slope * shift * draw.normal(size=200_000) + sigma * draw.normal(size=200_000)
  weight = outline_weight(ramp, sigma=sigma, shift=shift)
  np.testing.assert_allclose(sigma**2 / error.var(), weight[0, 4, 4, 0], rtol=0.02)


def test_the_film_gets_no_gradient_from_its_weight():
  grad = jax.grad(lambda film: outline_weight(film, sigma=0.02, shift=0.25).sum())(_edge())
  np.testing.assert_array_equal(grad, 0.0)


@pytest.fixture(name="layers")
def _layers():
  film, lesion, opacity, weight = (
      jnp.asarray(np.random.default_rng(i).uniform(0.1, 0.9, (2, 4, 4, 1)), jnp.float32)
      for i in range(4))
  return film, lesion, opacity, weight


def _plain(film, lesion, opacity):
  return film + opacity * (lesion - film)


def test_the_picture_is_the_same(layers):
  np.testing.assert_allclose(weigh_change(*layers), _plain(*layers[:3]), rtol=1e-6)


def test_gradients_of_lesion_and_opacity_are_weighted_and_the_films_are_not(layers):
  film, lesion, opacity, weight = layers
  target = jnp.full_like(film, 0.5)
  loss = lambda picture: jnp.sum((picture - target) ** 2)
  plain = jax.grad(lambda *a: loss(_plain(*a)), (0, 1, 2))(film, lesion, opacity)
  weighted = jax.grad(lambda *a: loss(weigh_change(*a, weight)), (0, 1, 2))(film, lesion, opacity)
  np.testing.assert_allclose(weighted[0], plain[0], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(weighted[1], weight * plain[1], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(weighted[2], weight * plain[2], rtol=1e-4, atol=1e-6)
