"""Conversions: round trips, identities, and nothing singular at either end."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.types import Prediction
from cdjax.diffusion.prediction import output_from, predict_from, q_sample, target_for
from cdjax.diffusion.schedule import make_schedule

T = 100


def draw(batch=T):
  x0, eps = jax.random.normal(jax.random.key(0), (2, batch, 4, 3))
  return x0, eps, jnp.arange(batch)


@pytest.mark.parametrize("kind,zero", [("v", True), ("v", False), ("x0", True), ("x0", False),
                                       ("eps", False)])
def test_the_target_predicts_the_truth(kind, zero):
  schedule = make_schedule("cosine", T, zero)
  x0, eps, t = draw()
  z_t = q_sample(x0, eps, t, schedule)
  p = predict_from(target_for(x0, eps, t, schedule, kind), z_t, t, schedule, kind)
  # Each is compared where it is well conditioned: x0 from eps needs signal, eps from x0 noise.
  easy_x0 = schedule.sqrt_alphas_cumprod > 0.03 if kind == "eps" else np.ones(T, bool)
  easy_eps = schedule.sqrt_one_minus_alphas_cumprod > 0.03 if kind == "x0" else np.ones(T, bool)
  np.testing.assert_allclose(p.x0[easy_x0], x0[easy_x0], atol=2e-4)
  np.testing.assert_allclose(p.eps[easy_eps], eps[easy_eps], atol=2e-4)


@pytest.mark.parametrize("kinds", list(itertools.permutations(["v", "eps", "x0"], 3)))
def test_round_trip_through_all_kinds(kinds):
  schedule = make_schedule("linear", T, False)
  output, z_t, _ = jax.random.normal(jax.random.key(1), (3, 60, 4, 3))
  t = jnp.arange(20, 80)
  current = output
  for kind, then in zip(kinds, kinds[1:] + kinds[:1], strict=True):
    current = output_from(predict_from(current, z_t, t, schedule, kind), t, schedule, then)
  np.testing.assert_allclose(current, output, atol=2e-3)


@pytest.mark.parametrize("kind", ["v", "x0"])
def test_prediction_agrees_with_z_t_and_is_finite_at_both_ends(kind):
  schedule = make_schedule("cosine", T, True)
  output, z_t = jax.random.normal(jax.random.key(2), (2, 2, 5))
  t = jnp.array([0, T - 1])

  def total(output, z_t):
    p = predict_from(output, z_t, t, schedule, kind)
    return (p.x0 + p.eps).sum(), p

  (_, p), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(output, z_t)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves((p, gradients)))
  np.testing.assert_allclose(q_sample(p.x0, p.eps, t, schedule), z_t, atol=1e-5)
  np.testing.assert_allclose(p.eps[1], z_t[1], atol=1e-6)  # at alpha = 0 the noise is z_T


def test_v_by_hand():
  schedule = make_schedule("cosine", T, True)
  alpha, sigma = schedule.sqrt_alphas_cumprod[50], schedule.sqrt_one_minus_alphas_cumprod[50]
  v = target_for(jnp.full((1, 2), 3.0), jnp.full((1, 2), -2.0), jnp.array([50]), schedule, "v")
  np.testing.assert_allclose(v, -2 * alpha - 3 * sigma, rtol=1e-5)
  p = Prediction(x0=jnp.full((1, 2), 3.0), eps=jnp.full((1, 2), -2.0))
  np.testing.assert_allclose(output_from(p, 50, schedule, "v"), v, rtol=1e-6)


def test_eps_prediction_without_terminal_signal_is_an_error():
  schedule = make_schedule("cosine", T, True)
  with pytest.raises(ValueError, match="use prediction='v'"):
    predict_from(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.array([3]), schedule, "eps")
  with pytest.raises(ValueError, match="prediction='noise'"):
    predict_from(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.array([3]), schedule, "noise")
