"""The jitted update: accumulation, the average, random streams, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from cdjax.core.rng import stream
from cdjax.sharding.mesh import make_mesh, replicated
from cdjax.sharding.partition import batch_sharding, to_global
from cdjax.train.state import abstract_state, init_state
from cdjax.train.step import make_train_step


@pytest.fixture(scope="module")
def mesh():
  return make_mesh({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])


def run(mesh, loss_fn, steps=1, *, batch_size=16, key=0, ema_decay=0.0, accumulation=1):
  """Trains with SGD, rate 1, so that a step moves the parameters by the gradient itself."""
  tx = optax.sgd(1.0)
  _, shardings = abstract_state(toy.init_fn, tx, mesh)
  state = init_state(toy.init_fn, tx, shardings, jax.random.key(0))
  sharding = batch_sharding(mesh, batch_size)
  step = make_train_step(loss_fn, tx, schedule=lambda step: 1.0, ema_decay=ema_decay,
                         accumulation=accumulation, mesh=mesh, state_sharding=shardings,
                         batch_sharding=sharding)
  loader = toy.Loader(batch_size)
  states, metrics = [jax.device_get(state)], []
  key, frozen = jax.device_put((jax.random.key(key), toy.frozen()), replicated(mesh))
  for _ in range(steps):
    state, values = step(state, frozen, to_global(next(loader), sharding), key)
    states.append(jax.device_get(state))
    metrics.append(jax.device_get(values))
  assert step._cache_size() == 1
  return states, metrics


def without_noise(params, frozen, batch, rng, step):
  prediction = toy.Network().apply({"params": params}, batch["x"])
  per_example = ((prediction - batch["x"] * frozen["scale"]) ** 2).mean(-1)
  return per_example.mean(), {"worst": per_example.mean() * 2}


def test_micro_batches_give_the_gradient_of_the_batch(mesh):
  (_, one), (metrics_one,) = run(mesh, without_noise)
  (before, four), (metrics_four,) = run(mesh, without_noise, accumulation=4)
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), one.params, before.params)
  assert all(value > 1e-4 for value in jax.tree.leaves(moved))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
               one.params, four.params)
  for name in ("loss", "grad_norm", "worst"):
    np.testing.assert_allclose(metrics_one[name], metrics_four[name], rtol=1e-5)


def test_average_is_its_closed_form(mesh):
  decay, steps = 0.35, 6
  states, _ = run(mesh, without_noise, steps, ema_decay=decay)
  d = [min(decay, (1 + s) / (10 + s)) for s in range(steps)]
  assert min(d) < decay == max(d)  # both sides of the bound were used
  # e_n = Σ_s p_s (1 - d_s) Π_{r>s} d_r, with the initial parameters weighted by Π d_r
  weights = [np.prod(d)] + [(1 - d[s]) * np.prod(d[s + 1:]) for s in range(steps)]
  np.testing.assert_allclose(sum(weights), 1)
  expected = jax.tree.map(lambda *leaves: sum(w * p for w, p in zip(weights, leaves, strict=True)),
                          *[state.params for state in states])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
               states[-1].ema_params, expected)


def test_without_average_it_is_the_parameters(mesh):
  states, _ = run(mesh, without_noise, 3, ema_decay=0.0)
  toy.assert_equal(states[-1].ema_params, states[-1].params)


def test_random_keys_follow_seed_step_and_micro_batch(mesh):
  def loss_fn(params, frozen, batch, rng, step):
    return 0.0 * params["up"]["bias"].sum(), {"draw": jax.random.uniform(rng)}

  draws = lambda **kwargs: [float(m["draw"]) for m in run(mesh, loss_fn, 3, **kwargs)[1]]
  expect = lambda seed, step, part: float(jax.random.uniform(jax.random.fold_in(
      stream(jax.random.key(seed), "train", step), part)))
  assert draws(key=5) == [expect(5, step, 0) for step in range(3)]
  np.testing.assert_allclose(
      draws(key=5, accumulation=2),
      [(expect(5, step, 0) + expect(5, step, 1)) / 2 for step in range(3)], rtol=1e-6)


def test_a_term_that_is_not_finite_clears_the_flag(mesh):
  def loss_fn(params, frozen, batch, rng, step):
    loss, _ = without_noise(params, frozen, batch, rng, step)
    return loss, {"fine": loss, "log": jnp.log(1.0 - step)}  # log 0 at step 1

  flags = [bool(m["finite"]) for m in run(mesh, loss_fn, 2)[1]]
  assert flags == [True, False]


def test_what_it_refuses(mesh):
  with pytest.raises(ValueError, match="clash"):
    run(mesh, lambda p, f, b, r, s: (without_noise(p, f, b, r, s)[0], {"loss": 1.0}))
  with pytest.raises(ValueError, match="16 examples, accumulation=3"):
    run(mesh, without_noise, accumulation=3)
  with pytest.raises(ValueError, match=r"ema_decay=1\.0"):
    run(mesh, without_noise, ema_decay=1.0)
