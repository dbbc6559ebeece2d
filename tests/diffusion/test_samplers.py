"""Samplers on Gaussian data: order of convergence, moments, and behaviour at both ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.types import Prediction
from cdjax.diffusion.prediction import predict_from
from cdjax.diffusion.samplers import SAMPLERS, ddim, ddpm, dpmpp_2m, get_sampler
from cdjax.diffusion.schedule import make_schedule, timestep_grid

Z_T = np.asarray(jax.random.normal(jax.random.key(0), (64, 3)))


@pytest.mark.parametrize("sampler,low,high", [(ddim, 0.8, 1.2), (dpmpp_2m, 1.7, 2.4)])
def test_order_of_convergence(gaussian, sampler, low, high):
  # Finite log SNR at both ends, and many time steps, so that rounding to them does not count.
  schedule = make_schedule("scaled_linear", 8000, False)
  denoise_fn = gaussian.make_denoise_fn(schedule)
  num_steps, errors = [10, 20, 40, 80], []
  for n in num_steps:
    _, states = sampler(denoise_fn, Z_T, schedule=schedule, num_steps=n, spacing="log_snr",
                        return_trajectory=True)
    last = int(timestep_grid(schedule, n, "log_snr")[-1])
    assert last == 8  # one interval for all n
    exact = gaussian.flow(schedule, Z_T, schedule.num_timesteps - 1, last)
    errors.append(gaussian.rms(states[-2] - exact))
  assert low < gaussian.order(num_steps, errors) < high, errors


@pytest.mark.parametrize("sampler,num_steps,tolerance", [(ddim, 200, 0.02), (dpmpp_2m, 40, 0.01)])
def test_zero_terminal_snr_follows_the_exact_flow(gaussian, sampler, num_steps, tolerance):
  schedule = make_schedule("cosine", 1000, True)
  z_0 = sampler(gaussian.make_denoise_fn(schedule), Z_T, schedule=schedule, num_steps=num_steps,
                spacing="log_snr")
  exact = gaussian.flow(schedule, Z_T, 999, None)
  assert gaussian.rms(z_0 - exact) < tolerance
  assert gaussian.rms(z_0 - Z_T) > 0.3


@pytest.mark.parametrize("name,kwargs", [
    ("ddpm", {}), ("ddim", {}), ("ddim", {"eta": 0.5}), ("dpmpp_2m", {})])
def test_samples_have_the_moments_of_the_data(gaussian, name, kwargs):
  schedule = make_schedule("cosine", 1000, True)
  key_z, key = jax.random.split(jax.random.key(1))
  z_T = jax.random.normal(key_z, (8000, 3))
  z_0 = jax.jit(functools.partial(
      get_sampler(name), gaussian.make_denoise_fn(schedule), schedule=schedule, num_steps=150,
      spacing="log_snr", **kwargs))(z_T, key)
  sd = np.sqrt(gaussian.variance)
  np.testing.assert_allclose(z_0.mean(0), gaussian.mean, atol=0.06 * sd.max())
  np.testing.assert_allclose(z_0.std(0), sd, rtol=0.05)


def test_ddpm_is_ddim_of_eta_one_and_needs_a_key(gaussian):
  schedule = make_schedule("cosine", 100, True)
  denoise_fn, key = gaussian.make_denoise_fn(schedule), jax.random.key(2)
  a, b, again = (sampler(denoise_fn, Z_T, k, schedule=schedule, num_steps=9, **kwargs)
                 for sampler, k, kwargs in ((ddpm, key, {}), (ddim, key, {"eta": 1.0}),
                                            (ddpm, jax.random.key(3), {})))
  np.testing.assert_array_equal(a, b)
  assert gaussian.rms(a - again) > 0.05
  with pytest.raises(ValueError, match="give a key"):
    ddpm(denoise_fn, Z_T, schedule=schedule, num_steps=9)


def test_one_ddpm_step_has_the_posterior_moments(gaussian):
  """With the true x0 known, a step must draw from q(z_s | z_t, x0) (Ho et al., eq. 7)."""
  schedule = make_schedule("linear", 1000, False)
  t, s = (int(i) for i in timestep_grid(schedule, 4)[:2])
  x0 = jnp.full((20000, 1), 1.3)
  z_t = jnp.full((20000, 1), -0.4)
  acp = schedule.alphas_cumprod.astype(float)
  oracle = lambda z, i: Prediction(
      x0=x0, eps=(z - np.sqrt(acp[t]) * x0) / np.sqrt(1 - acp[t]))
  _, states = ddpm(oracle, z_t, jax.random.key(4), schedule=schedule, num_steps=4,
                   return_trajectory=True)
  step = acp[t] / acp[s]
  variance = (1 - acp[s]) / (1 - acp[t]) * (1 - step)
  mean = (np.sqrt(acp[s]) * (1 - step) * 1.3 + np.sqrt(step) * (1 - acp[s]) * -0.4) / (1 - acp[t])
  assert float(states[1].mean()) == pytest.approx(mean, abs=0.03)
  assert float(states[1].std()) == pytest.approx(np.sqrt(variance), rel=0.03)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("num_steps,zero", [(1, True), (2, True), (5, True), (5, False)])
def test_the_last_step_returns_x0_and_gradients_are_finite(gaussian, name, num_steps, zero):
  schedule = make_schedule("cosine", 50, zero)
  denoise_fn = gaussian.make_denoise_fn(schedule)

  def total(z_T):
    z_0, states = SAMPLERS[name](denoise_fn, z_T, jax.random.key(5), schedule=schedule,
                                 num_steps=num_steps, return_trajectory=True)
    return jnp.sum(z_0**2), (z_0, states)

  gradient, (z_0, states) = jax.grad(total, has_aux=True)(jnp.asarray(Z_T))
  assert np.isfinite(gradient).all() and np.isfinite(states).all()
  assert states.shape == (num_steps + 1, *Z_T.shape)
  np.testing.assert_array_equal(states[0], Z_T)
  np.testing.assert_array_equal(states[-1], z_0)
  if name != "dpmpp_2m" or num_steps > 1:
    spacing = "log_snr" if name == "dpmpp_2m" else "trailing"
    last = timestep_grid(schedule, num_steps, spacing)[-1]
    x0 = denoise_fn(states[-2], jnp.full(len(Z_T), last)).x0
    np.testing.assert_allclose(z_0, x0, atol=1e-5)


def test_first_step_without_signal_is_exact():
  """At alpha = 0 every rule must give `alpha x0 + sigma z_T`, x0 being the prediction there."""
  schedule = make_schedule("cosine", 100, True)
  v = jax.random.normal(jax.random.key(6), Z_T.shape)
  denoise_fn = lambda z, t: predict_from(v, z, t, schedule, "v")
  for sampler in (ddim, dpmpp_2m):
    _, states = sampler(denoise_fn, Z_T, schedule=schedule, num_steps=5, spacing="trailing",
                        return_trajectory=True)
    s = timestep_grid(schedule, 5)[1]
    alpha, sigma = schedule.sqrt_alphas_cumprod[s], schedule.sqrt_one_minus_alphas_cumprod[s]
    np.testing.assert_allclose(states[1], -alpha * v + sigma * Z_T, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_remat_changes_nothing(gaussian, name):
  schedule = make_schedule("cosine", 50, True)

  def gradient(remat):
    sample = lambda z: jnp.sum(SAMPLERS[name](
        gaussian.make_denoise_fn(schedule), z, jax.random.key(7), schedule=schedule, num_steps=6,
        remat=remat) ** 3)
    return jax.jit(jax.value_and_grad(sample))(Z_T)

  for a, b in zip(gradient(False), gradient(True), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_unknown_sampler_is_an_error():
  with pytest.raises(ValueError, match=r"sampler='euler'; expected one of \['ddim', 'ddpm'"):
    get_sampler("euler")
