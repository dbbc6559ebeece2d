"""The training loss: hand-computed weights, positive at t = T, right in every output space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.diffusion.prediction import q_sample, target_for
from cdjax.diffusion.schedule import make_schedule
from cdjax.diffusion.weighting import MIN_WEIGHT, diffusion_loss, loss_weights, sample_timesteps

T = 200


@pytest.mark.parametrize("kind", ["cosine", "linear", "scaled_linear"])
@pytest.mark.parametrize("weighting", ["uniform", "min_snr"])
@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_weight_is_positive_where_sampling_starts(kind, weighting, prediction):
  weights = loss_weights(make_schedule(kind, T, True), prediction, weighting=weighting)
  assert weights.shape == (T,) and np.isfinite(weights).all()
  assert weights[-1] >= np.float32(MIN_WEIGHT) and weights.min() >= np.float32(MIN_WEIGHT)


def test_min_snr_by_hand():
  schedule = make_schedule("linear", T, False)
  snr = np.exp(schedule.log_snr.astype(np.float64))
  for prediction, expected in (("v", np.minimum(snr, 5) / (snr + 1)),
                               ("eps", np.minimum(snr, 5) / snr), ("x0", np.minimum(snr, 5))):
    weights = loss_weights(schedule, prediction, weighting="min_snr", min_snr_gamma=5.0)
    np.testing.assert_allclose(weights, np.maximum(expected, 0.1), rtol=1e-3)
    assert (weights > 0.11).any() and (np.abs(weights - 1) > 0.1).any()


def test_min_snr_is_one_loss_in_three_spaces():
  """The same prediction weighs the same, whichever output space it is written in."""
  schedule = make_schedule("linear", T, False)
  t = jnp.full((1,), 80)
  x0, eps, x0_hat = jax.random.normal(jax.random.key(0), (3, 1, 6))
  z_t = q_sample(x0, eps, t, schedule)
  alpha, sigma = schedule.sqrt_alphas_cumprod[80], schedule.sqrt_one_minus_alphas_cumprod[80]
  eps_hat = (z_t - alpha * x0_hat) / sigma
  losses = [diffusion_loss(target_for(x0_hat, eps_hat, t, schedule, p), x0, eps, t,
                           schedule=schedule, prediction=p, weighting="min_snr")
            for p in ("v", "eps", "x0")]
  first = float(losses[0][0])
  np.testing.assert_allclose(losses, np.full((3, 1), first), rtol=1e-4)
  assert first > 0.01


def test_diffusion_loss_by_hand_and_per_example():
  schedule = make_schedule("cosine", T, True)
  x0, eps, output = jax.random.normal(jax.random.key(1), (3, 2, 4, 4, 1))
  t = jnp.array([30, T - 1])
  loss = diffusion_loss(output, x0, eps, t, schedule=schedule, prediction="v")
  np.testing.assert_allclose(loss[1], ((output[1] + x0[1]) ** 2).mean(), rtol=1e-5)  # v = -x0
  changed = diffusion_loss(output.at[1].add(1.0), x0, eps, t, schedule=schedule, prediction="v")
  assert changed[0] == loss[0] and changed[1] != loss[1]


def test_element_weights_by_hand():
  schedule = make_schedule("cosine", T, True)
  x0, eps, output = jax.random.normal(jax.random.key(1), (3, 2, 4, 4, 1))
  t, weights = jnp.array([T - 1, T - 1]), jnp.zeros((4, 4, 1)).at[1, 2].set(3.0)
  loss = diffusion_loss(output, x0, eps, t, schedule=schedule, element_weights=weights)
  np.testing.assert_allclose(loss, 3.0 * (output + x0)[:, 1, 2, 0] ** 2 / 16, rtol=1e-5)


def test_unknown_weighting_is_an_error():
  with pytest.raises(ValueError, match=r"expected one of \['min_snr', 'uniform'\]"):
    loss_weights(make_schedule("cosine", T), "v", weighting="p2")


def test_timesteps_are_stratified_and_uniform():
  t = jax.vmap(lambda k: sample_timesteps(k, 10, T))(jax.random.split(jax.random.key(2), 2000))
  sizes = np.sort(np.asarray(t), axis=-1) // (T // 10)
  np.testing.assert_array_equal(sizes, np.broadcast_to(np.arange(10), sizes.shape))
  # Each position alone is uniform over 0..T-1: the stratum is shuffled.
  first = np.asarray(t)[:, 0]
  assert first.min() <= 5 and first.max() >= T - 6
  assert first.mean() == pytest.approx((T - 1) / 2, abs=5.0)
  assert first.std() == pytest.approx(T / np.sqrt(12), abs=4.0)
