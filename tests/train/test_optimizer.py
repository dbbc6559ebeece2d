"""The optimizer against AdamW written out in NumPy, and its schedule in closed form."""

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from cdjax.train.optimizer import decays, make_optimizer, make_schedule


def config(**changes):
  return ConfigDict(dict(optimizer="adamw", muon_rms=0.3, learning_rate=0.05,
                         end_learning_rate=0.005, warmup_steps=4,
                         num_train_steps=20, weight_decay=0.3, b1=0.9, b2=0.99, grad_clip=2.45)
                    | changes)


def rate(step, cfg):
  if step < cfg.warmup_steps:
    return cfg.learning_rate * (step + 1) / cfg.warmup_steps
  angle = np.pi * (step - cfg.warmup_steps) / (cfg.num_train_steps - cfg.warmup_steps)
  return cfg.end_learning_rate + (cfg.learning_rate - cfg.end_learning_rate) * (
      1 + np.cos(angle)) / 2


def test_linear_regression_follows_adamw_by_hand():
  cfg = config()
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(32, 3)), rng.normal(size=(32, 2)) * 3
  params = {"dense": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}}

  # By hand, float64: Loshchilov & Hutter 2019, algorithm 2, with clipping by global norm before.
  hand = {name: array.copy() for name, array in params["dense"].items()}
  m = {name: np.zeros_like(array) for name, array in hand.items()}
  v = {name: np.zeros_like(array) for name, array in hand.items()}
  clipped = 0
  for t in range(1, 11):
    error = 2 * (x @ hand["kernel"] + hand["bias"] - y) / y.size
    grads = {"kernel": x.T @ error, "bias": error.sum(0)}
    norm = np.sqrt(sum((g ** 2).sum() for g in grads.values()))
    clipped += norm > cfg.grad_clip
    for name, g in grads.items():
      g = g * min(1, cfg.grad_clip / norm)
      m[name] = cfg.b1 * m[name] + (1 - cfg.b1) * g
      v[name] = cfg.b2 * v[name] + (1 - cfg.b2) * g ** 2
      update = (m[name] / (1 - cfg.b1 ** t)) / (np.sqrt(v[name] / (1 - cfg.b2 ** t)) + 1e-8)
      decay = cfg.weight_decay * hand[name] if name == "kernel" else 0
      hand[name] = hand[name] - rate(t - 1, cfg) * (update + decay)
  assert 2 < clipped < 8  # both sides of the clipping were used

  tx = make_optimizer(cfg)
  params = jax.tree.map(lambda array: array.astype(np.float32), params)
  state = tx.init(params)
  loss = lambda p: ((x @ p["dense"]["kernel"] + p["dense"]["bias"] - y) ** 2).mean()
  for _ in range(10):
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    params = optax.apply_updates(params, updates)
  for name, array in hand.items():
    np.testing.assert_allclose(params["dense"][name], array, rtol=2e-5, atol=2e-6)


def test_schedule_is_the_formula_everywhere():
  cfg = config()
  schedule = make_schedule(cfg)
  steps = np.arange(cfg.num_train_steps + 1)
  np.testing.assert_allclose([schedule(s) for s in steps], [rate(s, cfg) for s in steps],
                             rtol=1e-5)
  np.testing.assert_allclose(schedule(cfg.num_train_steps), cfg.end_learning_rate, rtol=1e-5)
  np.testing.assert_allclose(make_schedule(config(warmup_steps=0))(0), cfg.learning_rate)


def test_only_kernels_of_rank_two_decay():
  leaf = np.zeros((2, 2))
  params = {"conv": {"kernel": np.zeros((3, 3, 2, 2)), "bias": leaf[0]},
            "attention": {"kernel": leaf, "bias": leaf},
            "norm": {"scale": leaf[0]}, "token_kernel_table": {"embedding": leaf}}
  assert decays(params) == {
      "conv": {"kernel": True, "bias": False}, "attention": {"kernel": True, "bias": False},
      "norm": {"scale": False}, "token_kernel_table": {"embedding": False}}


def test_a_negative_clip_is_refused():
  with pytest.raises(ValueError, match="grad_clip=-1"):
    make_optimizer(config(grad_clip=-1.0))


def test_muon_orthogonalises_kernels_and_leaves_the_rest_to_adam():
  cfg = config(optimizer="muon", warmup_steps=0, weight_decay=0.0, grad_clip=0.0)
  rng = np.random.default_rng(1)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  params = {"conv": {"kernel": normal(3, 3, 4, 6), "bias": normal(6)},
            "local": {"place_kernel": normal(2, 2, 5, 3)}, "T": {"slot_kernel": normal(4, 2, 7)}}
  grads = jax.tree.map(lambda p: normal(*p.shape), params)
  tx = make_optimizer(cfg)
  updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)

  def orthogonal(update, inputs, outputs):
    """All singular values of the update near rate · 0.3 · sqrt(the longer side)."""
    values = np.linalg.svd(np.asarray(update).reshape(inputs, outputs), compute_uv=False)
    scale = cfg.learning_rate * 0.3 * max(inputs, outputs) ** 0.5
    assert np.all((values > 0.6 * scale) & (values < 1.3 * scale)), values / scale

  orthogonal(updates["conv"]["kernel"], 36, 6)
  for i, j in np.ndindex(2, 2):
    orthogonal(updates["local"]["place_kernel"][i, j], 5, 3)
  for slot in updates["T"]["slot_kernel"]:
    orthogonal(slot, 2, 7)
  ahead = 1 + cfg.b1 / (1 + cfg.b1)   # Adam with Nesterov's momentum, first step
  np.testing.assert_allclose(updates["conv"]["bias"],
                             -cfg.learning_rate * ahead * np.sign(grads["conv"]["bias"]), rtol=1e-4)
  with pytest.raises(ValueError, match="optimizer='adam'; expected"):
    make_optimizer(config(optimizer="adam"))
