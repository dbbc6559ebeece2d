"""Inversion: the round trip, what refinements and order buy, and the known noise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.diffusion.inversion import invert
from cdjax.diffusion.prediction import predict_from
from cdjax.diffusion.samplers import ddim, dpmpp_2m
from cdjax.diffusion.schedule import make_schedule

SCHEDULE = make_schedule("cosine", 1000, True)
SPACINGS = ["log_snr", "trailing", "uniform"]


@pytest.fixture
def data(gaussian):
  noise = jax.random.normal(jax.random.key(0), (256, 3))
  return gaussian.mean + np.sqrt(gaussian.variance) * noise


@pytest.mark.parametrize("spacing", SPACINGS)
def test_refined_inversion_is_the_inverse_of_ddim(gaussian, data, spacing):
  denoise_fn = gaussian.make_denoise_fn(SCHEDULE)
  u = invert(denoise_fn, data, schedule=SCHEDULE, num_steps=30, refinements=6, spacing=spacing)
  again = ddim(denoise_fn, u, schedule=SCHEDULE, num_steps=30, spacing=spacing)
  assert gaussian.rms(again - data) < 1e-3
  assert gaussian.rms(u - data) > 0.3


@pytest.mark.parametrize("strength", [0.3, 0.7])
def test_part_of_the_way_and_back(gaussian, data, strength):
  denoise_fn = gaussian.make_denoise_fn(SCHEDULE)
  options = dict(schedule=SCHEDULE, num_steps=30, spacing="trailing", strength=strength)
  u = invert(denoise_fn, data, refinements=6, **options)
  assert gaussian.rms(ddim(denoise_fn, u, **options) - data) < 1e-3
  # The state is the flow's at that time: mean and spread of the noised data.
  t = round(strength * 999)
  alpha, sigma = SCHEDULE.sqrt_alphas_cumprod[t], SCHEDULE.sqrt_one_minus_alphas_cumprod[t]
  np.testing.assert_allclose(u.mean(0), alpha * gaussian.mean, atol=0.2)
  np.testing.assert_allclose(u.std(0), np.sqrt(alpha**2 * gaussian.variance + sigma**2), rtol=0.15)


def test_inverse_of_an_inverse(gaussian):
  """The other way round: noise to sample to the same noise."""
  denoise_fn = gaussian.make_denoise_fn(SCHEDULE)
  z_T = jax.random.normal(jax.random.key(1), (256, 3))
  z_0 = ddim(denoise_fn, z_T, schedule=SCHEDULE, num_steps=30, spacing="log_snr")
  u = invert(denoise_fn, z_0, schedule=SCHEDULE, num_steps=30, refinements=8)
  assert gaussian.rms(u - z_T) < 2e-3


def test_round_trip_error_falls_with_steps_and_refinements(gaussian, data):
  denoise_fn = gaussian.make_denoise_fn(SCHEDULE)

  def error(num_steps, refinements):
    u = invert(denoise_fn, data, schedule=SCHEDULE, num_steps=num_steps, refinements=refinements)
    again = ddim(denoise_fn, u, schedule=SCHEDULE, num_steps=num_steps, spacing="log_snr")
    return gaussian.rms(again - data)

  by_steps = [error(n, 0) for n in (10, 20, 40, 80)]
  assert gaussian.order([10, 20, 40, 80], by_steps) > 1.3, by_steps
  by_refinements = [error(15, k) for k in (0, 1, 2, 4)]
  assert all(b < 0.75 * a for a, b in itertools.pairwise(by_refinements)), (
      by_refinements)


def test_order_two_finds_the_exact_noise_at_second_order(gaussian, data):
  """The true u is known in closed form; order 1 reaches it at first order only."""
  denoise_fn = gaussian.make_denoise_fn(SCHEDULE)
  exact = (data - gaussian.mean) / np.sqrt(gaussian.variance)
  steps = [10, 20, 40]
  error = {order: [gaussian.rms(invert(denoise_fn, data, schedule=SCHEDULE, num_steps=n,
                                       order=order) - exact) for n in steps] for order in (1, 2)}
  assert 0.7 < gaussian.order(steps, error[1]) < 1.6, error
  assert error[2][1] < error[1][1] / 4, error
  u = invert(denoise_fn, data, schedule=SCHEDULE, num_steps=20, order=2)
  np.testing.assert_allclose(u.std(0), exact.std(0), rtol=0.03)


def test_order_two_suits_the_second_order_sampler(gaussian, data):
  denoise_fn = gaussian.make_denoise_fn(SCHEDULE)
  error = []
  for order in (1, 2):
    u = invert(denoise_fn, data, schedule=SCHEDULE, num_steps=50, order=order)
    again = dpmpp_2m(denoise_fn, u, schedule=SCHEDULE, num_steps=20)
    error.append(gaussian.rms(again - data))
  assert error[1] < error[0] / 2 and error[1] < 0.03, error


@pytest.mark.parametrize("order,zero,spacing", [
    (1, True, "log_snr"), (1, False, "log_snr"), (2, True, "uniform"), (2, False, "trailing")])
def test_finite_with_finite_gradients_at_both_ends(gaussian, data, order, zero, spacing):
  schedule = make_schedule("cosine", 50, zero)
  denoise_fn = gaussian.make_denoise_fn(schedule)

  def total(z_0):
    u, states = invert(denoise_fn, z_0, schedule=schedule, num_steps=5, order=order,
                       refinements=1, spacing=spacing, return_trajectory=True)
    return (u**2).sum(), (u, states)

  gradient, (u, states) = jax.grad(total, has_aux=True)(jnp.asarray(data[:8]))
  assert np.isfinite(gradient).all() and np.isfinite(states).all()
  np.testing.assert_array_equal(states[0], data[:8])
  np.testing.assert_array_equal(states[-1], u)


def test_works_for_any_prediction_not_only_the_true_one(gaussian):
  """A denoiser that is wrong at t = T-1 too: the refined inverse still inverts the sampler."""
  weights = 0.4 * jax.random.normal(jax.random.key(2), (3, 3))

  def denoise_fn(z_t, t):
    return predict_from(jnp.tanh(z_t @ weights + 0.3), z_t, t, SCHEDULE, "v")

  z_T = jax.random.normal(jax.random.key(3), (64, 3))
  z_0 = ddim(denoise_fn, z_T, schedule=SCHEDULE, num_steps=50, spacing="log_snr")
  u = invert(denoise_fn, z_0, schedule=SCHEDULE, num_steps=50, refinements=5)
  assert gaussian.rms(u - z_T) < 5e-3


def test_bad_arguments_are_errors(gaussian, data):
  denoise_fn = gaussian.make_denoise_fn(SCHEDULE)
  for kwargs, message in (({"order": 3}, "order=3; expected 1 or 2"),
                          ({"refinements": -1}, "refinements=-1"),
                          ({"num_steps": 1}, "num_steps=1; an inversion needs at least 2")):
    with pytest.raises(ValueError, match=message):
      invert(denoise_fn, data, **{"schedule": SCHEDULE, "num_steps": 5, **kwargs})
