"""Guidance: exact where it must be, linear, frugal, and defined without signal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.types import Prediction
from cdjax.diffusion import guidance
from cdjax.diffusion.prediction import predict_from
from cdjax.diffusion.schedule import coefficients, make_schedule

SCHEDULE = make_schedule("cosine", 50, True)
Z_T = jax.random.normal(jax.random.key(0), (3, 4, 4, 2))
T = jnp.array([49, 20, 0])


def constant_v(value, calls=None):
  """A denoiser whose v is a fixed random pattern times `value`; counts its calls."""
  pattern = jax.random.normal(jax.random.key(value), Z_T.shape)

  def denoise_fn(z_t, t):
    if calls is not None:
      calls.append(value)
    return predict_from(pattern, z_t, t, SCHEDULE, "v")
  denoise_fn.pattern = pattern
  return denoise_fn


def assert_prediction(actual, expected_v):
  expected = predict_from(expected_v, Z_T, T, SCHEDULE, "v")
  np.testing.assert_allclose(actual.x0, expected.x0, atol=2e-5)
  np.testing.assert_allclose(actual.eps, expected.eps, atol=2e-5)


def test_scale_one_is_the_conditional_denoiser_itself():
  cond, uncond = constant_v(1), constant_v(2)
  assert guidance.classifier_free(cond, uncond, 1) is cond
  assert guidance.classifier_free(cond, uncond, 1.0) is cond
  assert guidance.classifier_free(cond, uncond, 0.0) is uncond


def test_scale_combines_in_v_at_every_t():
  cond, uncond = constant_v(1), constant_v(2)
  p = guidance.classifier_free(cond, uncond, 3.0)(Z_T, T)
  assert_prediction(p, uncond.pattern + 3.0 * (cond.pattern - uncond.pattern))
  assert not np.allclose(p.x0[0], cond(Z_T, T).x0[0], atol=0.1)  # guidance acts at alpha = 0


def test_a_scale_for_each_example():
  cond, uncond = constant_v(1), constant_v(2)
  scale = jnp.array([1.0, 0.0, 4.0])
  p = jax.jit(guidance.classifier_free(cond, uncond, scale))(Z_T, T)
  s = scale[:, None, None, None]
  assert_prediction(p, uncond.pattern + s * (cond.pattern - uncond.pattern))


def test_two_conditions_by_hand():
  null, identity, both = constant_v(1), constant_v(2), constant_v(3)
  p = guidance.two_conditions(null, identity, both, identity_scale=1.5, findings_scale=4.0)(Z_T, T)
  a, b, c = null.pattern, identity.pattern, both.pattern
  assert_prediction(p, a + 1.5 * (b - a) + 4.0 * (c - b))


@pytest.mark.parametrize("identity_scale,findings_scale,evaluated", [
    (1.0, 1.0, [3]), (1.0, 4.0, [2, 3]), (2.0, 2.0, [1, 3]), (2.0, 4.0, [1, 2, 3]),
    (0.0, 0.0, [1]), (1.0, 0.0, [2])])
def test_two_conditions_evaluate_only_what_counts(identity_scale, findings_scale, evaluated):
  calls = []
  fns = [constant_v(i, calls) for i in (1, 2, 3)]
  guidance.two_conditions(*fns, identity_scale=identity_scale,
                          findings_scale=findings_scale)(Z_T, T)
  assert sorted(calls) == evaluated


def test_rescale_restores_the_spread_of_the_conditional():
  calls = []
  cond, uncond = constant_v(1, calls), constant_v(2, calls)
  guided = guidance.classifier_free(cond, uncond, 6.0)
  rescaled = lambda strength, scale=6.0: guidance.classifier_free(
      cond, uncond, scale, schedule=SCHEDULE, rescale=strength)
  spread = lambda p: np.asarray(p.x0).std((1, 2, 3))
  full = rescaled(1.0)(Z_T, T)
  assert sorted(calls) == [1, 2]   # each once
  np.testing.assert_allclose(spread(full), spread(cond(Z_T, T)), rtol=1e-3)
  half = rescaled(0.5)(Z_T, T)
  np.testing.assert_allclose(spread(half), (spread(full) + spread(guided(Z_T, T))) / 2, rtol=1e-3)
  alpha, sigma = coefficients(SCHEDULE, T, Z_T.ndim)
  np.testing.assert_allclose(alpha * half.x0 + sigma * half.eps, Z_T, atol=1e-4)
  np.testing.assert_allclose(spread(rescaled(1.0, 0.0)(Z_T, T)), spread(cond(Z_T, T)), rtol=1e-3)
  with pytest.raises(ValueError, match=r"strength=1\.5"):
    rescaled(1.5)
  with pytest.raises(ValueError, match="a schedule above 0"):
    guidance.classifier_free(cond, uncond, 6.0, rescale=0.5)


def test_rescale_of_a_flat_prediction_is_finite():
  flat = lambda z, t: Prediction(x0=jnp.zeros_like(z), eps=z)
  p = guidance.classifier_free(flat, flat, 3.0, schedule=SCHEDULE, rescale=0.7)(Z_T, T)
  assert np.isfinite(p.x0).all() and np.isfinite(p.eps).all()
