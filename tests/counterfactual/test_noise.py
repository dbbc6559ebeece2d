"""Noise optimisation on objectives whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cdjax.core.types import Prediction
from cdjax.counterfactual import noise_terms as terms
from cdjax.counterfactual.noise import clip_each, optimize_noise
from cdjax.counterfactual.noise_starts import mixed_starts, random_starts
from cdjax.diffusion.samplers import ddim
from cdjax.diffusion.schedule import make_schedule

KEY = jax.random.key(0)
TARGET = jnp.asarray([1.0, -2.0, 0.5])


def bowl(z):
  distance = ((z - TARGET) ** 2).sum(-1)
  return distance, {"distance": distance}


def solve(objective, z, **options):
  return jax.jit(lambda z: optimize_noise(
      objective, z, **{"steps": 60, "tx": optax.adam(0.2), "clip": 100.0} | options))(z)


def test_it_finds_the_optimum_and_records_the_way():
  z = random_starts(KEY, 4, (3,))
  got = solve(bowl, z)
  np.testing.assert_allclose(got.z_T, jnp.broadcast_to(TARGET, (4, 3)), atol=0.05)
  assert got.curves["loss"].shape == got.curves["distance"].shape == (61, 4)
  np.testing.assert_allclose(got.curves["loss"][0], bowl(z)[0], rtol=1e-6)
  np.testing.assert_array_equal(got.loss, got.curves["loss"].min(0))
  np.testing.assert_array_equal(got.best_step, got.curves["loss"].argmin(0))
  np.testing.assert_allclose(bowl(got.z_T)[0], got.loss, rtol=1e-4, atol=1e-9)


def test_no_step_only_measures():
  z = random_starts(KEY, 4, (3,))
  got = solve(bowl, z, steps=0)
  np.testing.assert_array_equal(got.z_T, z)
  assert got.curves["loss"].shape == (1, 4) and not got.steps.any()


def test_a_noise_goes_its_own_way_whatever_is_in_the_batch():
  z = random_starts(KEY, 5, (3,))
  np.testing.assert_allclose(solve(bowl, z, steps=7).z_T[3:4], solve(bowl, z[3:4], steps=7).z_T,
                             rtol=1e-6)


def test_the_best_is_kept_when_steps_are_too_long():
  z = jnp.stack([TARGET + 0.01, TARGET + 3.0])
  got = solve(bowl, z, tx=optax.sgd(1.5), steps=5)   # overshoots: |1 - 2·1.5| = 2 times further
  np.testing.assert_array_equal(got.z_T[0], z[0])
  assert got.best_step[0] == 0 and got.curves["loss"][-1, 0] > got.loss[0]


def test_a_noise_that_no_longer_improves_stops_and_others_go_on():
  z = jnp.stack([TARGET, TARGET + 10.0])
  got = solve(bowl, z, steps=20, patience=3, min_improvement=1e-6)
  assert got.steps.tolist() == [3, 20] and got.best_step.tolist() == [0, 20]
  np.testing.assert_array_equal(got.curves["loss"][3:, 0], got.curves["loss"][3, 0])


def test_a_noise_without_a_finite_loss_does_not_spoil_the_others():
  def broken(z):
    loss, extra = bowl(z)
    return jnp.where(jnp.arange(len(z)) == 1, jnp.nan, loss), extra
  got = solve(broken, random_starts(KEY, 3, (3,)))
  assert np.isfinite(np.asarray(got.z_T)).all() and got.steps.tolist() == [60, 0, 60]
  assert got.loss[0] < 0.01 and np.isinf(got.loss[1])


def test_each_gradient_is_clipped_alone():
  gradient = jnp.asarray([[3.0, 4.0], [0.3, 0.4]])
  np.testing.assert_allclose(clip_each(gradient, 1.0), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)


def test_wrong_numbers_are_refused():
  with pytest.raises(ValueError, match="steps=-1"):
    optimize_noise(bowl, jnp.zeros((1, 3)), steps=-1, tx=optax.adam(0.1))
  with pytest.raises(ValueError, match=r"loss of shape \(\); expected \(2,\)"):
    optimize_noise(lambda z: (z.sum(), {}), jnp.zeros((2, 3)), steps=1, tx=optax.adam(0.1))


def sampled_objective(num_steps):
  """Through a sampler whose denoiser has many activations."""
  schedule = make_schedule("cosine", 1000, zero_terminal_snr=True)
  weights = jax.random.normal(KEY, (8, 32, 1024)) / 32

  def denoise_fn(z, t):
    h = z
    for w in weights:
      h = h + jnp.tanh(h @ w) @ w.T / 32
    return Prediction(x0=jnp.tanh(h), eps=z)

  def objective(z):
    sample = ddim(denoise_fn, z, schedule=schedule, num_steps=num_steps, remat=True)
    return ((sample - 0.5) ** 2).sum(-1), {}
  return objective


def test_memory_hardly_grows_with_the_steps_of_the_sampler():
  def peak(num_steps):
    run = lambda z: optimize_noise(sampled_objective(num_steps), z, steps=3, tx=optax.adam(0.1)).z_T
    compiled = jax.jit(run).lower(jax.ShapeDtypeStruct((256, 32), jnp.float32)).compile()
    return compiled.memory_analysis().temp_size_in_bytes
  assert peak(32) <= 1.3 * peak(4)


def test_gradients_reach_the_noise_through_the_sampler():
  got = solve(sampled_objective(4), random_starts(KEY, 6, (32,)), steps=20, tx=optax.adam(0.1))
  assert (got.loss < 0.8 * got.curves["loss"][0]).all()


def test_mixed_starts_have_the_norm_and_the_direction_they_should():
  references = 0.8 * random_starts(KEY, 3, (8, 8, 4))   # as an inversion leaves them
  starts = mixed_starts(KEY, references, 400)
  np.testing.assert_allclose(jnp.linalg.norm(starts.reshape(400, -1), axis=-1), 16.0, rtol=1e-5)
  flat = lambda a: a.reshape(len(a), -1)
  cosines = flat(starts) @ flat(references / 0.8).T / 256
  assert 0.3 < cosines.mean() < 0.5   # 0.7 · E[w_i / |w|], Dirichlet(1, 1, 1)
  alone = mixed_starts(KEY, references[:1], 50)
  assert abs((flat(alone) @ flat(references[:1] / 0.8).T / 256).mean() - 0.7) < 0.03
  far = mixed_starts(KEY, references, 50, share=0.0)
  assert abs((flat(far) @ flat(references).T / 256).mean()) < 0.05
  with pytest.raises(ValueError, match="0 references"):
    mixed_starts(KEY, references[:0], 4)


def test_the_norm_prior_is_least_on_the_sphere():
  d = 64
  z = random_starts(KEY, 3, (d,))
  z = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
  at = lambda r: np.asarray(terms.norm_prior(r * z))
  best = (d - 1) ** 0.5
  np.testing.assert_allclose(at(best), 0.0, atol=1e-4)
  assert (at(0.8 * best) > 1).all() and (at(1.2 * best) > 1).all()
  # The density of the chi distribution with d degrees of freedom.
  from scipy.stats import chi
  np.testing.assert_allclose(at(10.0) - at(6.0), chi.logpdf(6.0, d) - chi.logpdf(10.0, d),
                             rtol=1e-3)


def test_samples_repel_and_references_keep_their_distance():
  z = random_starts(KEY, 3, (8, 8, 4))
  of = lambda z, place: terms.repulsion(z, 5.0 * jnp.ones_like(z), jnp.ones(z.shape[1:]),
                                        jnp.asarray(place))
  z = z + 5.0   # what the class has in common makes nobody alike
  apart = of(z, [0, 0, 0])
  twice = jnp.concatenate([z, z[:1]])
  together = of(twice, [0, 0, 0, 0])
  assert apart.max() < 0.05 and together[0] > 0.3 and together[1] < 0.05
  assert of(z[:1], [0]).tolist() == [0.0]
  assert of(twice, [0, 1, 2, 3]).tolist() == [0.0] * 4   # at other places
  close = terms.closeness(jnp.zeros((2, 4)), jnp.asarray([[3.0, 0, 0, 0], [0, 1.0, 0, 0]]),
                          allowed=2.0)
  np.testing.assert_allclose(close, [0.25, 0.25], rtol=1e-5)


def test_a_sample_is_scored_along_its_class():
  centroid, healthy, spread = (jnp.asarray(v) for v in ([[3.0, 1.0]], [1.0, 1.0], [2.0, 1.0]))
  of = lambda *sample: float(terms.semantic(
      jnp.asarray([sample]), centroid, healthy, spread, jnp.asarray([4.0]))[0])
  assert of(1.0, 1.0) == 1.0 == of(1.0, 7.0)   # healthy, and off to the side
  assert of(5.0, 1.0) == pytest.approx(0.25)   # two spreads along it, of four
  assert of(9.0, -3.0) == 0.0 == of(20.0, 1.0)   # as far as real cases, and farther
  assert of(-3.0, 1.0) > 1.0


def test_styles():
  sample = random_starts(KEY, 2, (8, 8, 4))
  mean, std = sample.mean((1, 2)), sample.std((1, 2))
  got = terms.appearance(sample, mean[0], std[0])
  assert got[0] < 1e-10 < got[1]
