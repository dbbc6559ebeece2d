"""AdamW or Muon, with linear warm-up, cosine decay and clipping by global norm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from cdjax.core.trees import map_named
from cdjax.core.types import Array, PyTree

_MUON_MOMENTUM = 0.95


def make_schedule(config: Any) -> optax.Schedule:
  """The learning rate of each step: linear warm-up, then cosine (Loshchilov & Hutter 2017, eq. 5).

  With w = warmup_steps, N = num_train_steps and s = 0, 1, ...: `peak · (s + 1) / w` for s < w,
  then `end + (peak - end) · (1 + cos(π (s - w) / (N - w))) / 2`. The first step already learns; a
  run shorter than its warm-up never gets to the peak.

  Args:
    config: a stage's; uses learning_rate, end_learning_rate, warmup_steps, num_train_steps.

  Returns:
    Function of a step (scalar, may be traced) to a float32 scalar.
  """
  peak, end = float(config.learning_rate), float(config.end_learning_rate)
  warmup, total = int(config.warmup_steps), int(config.num_train_steps)

  def schedule(step: Array) -> jax.Array:
    step = jnp.asarray(step, jnp.float32)
    rising = peak * (step + 1) / max(warmup, 1)
    fraction = jnp.clip((step - warmup) / max(total - warmup, 1), 0.0, 1.0)
    falling = end + (peak - end) * 0.5 * (1 + jnp.cos(np.pi * fraction))
    return jnp.where(step < warmup, rising, falling)

  return schedule


def decays(params: PyTree) -> PyTree:
  """Which parameters weight decay acts on: kernels of rank 2 and more.

  A kernel is a parameter whose own name ends in "kernel": norms, biases and embeddings are not.

  Returns:
    A tree of bool.
  """
  return map_named(
      lambda name, leaf: name.rsplit("/", 1)[-1].endswith("kernel") and leaf.ndim >= 2, params)


def matrices(params: PyTree) -> PyTree:
  """How Muon is to see each parameter as a matrix; None: not at all, it goes to Adam.

  Kernels of convolutions and dense layers are inputs × outputs, the outputs last. A "slot_kernel"
  is one matrix for each slot, a "place_kernel" one for each place of a grid.
  """
  def one(name, leaf):
    name = name.rsplit("/", 1)[-1]
    batch = {"slot_kernel": 1, "place_kernel": 2}.get(name, 0)
    if not name.endswith("kernel") or leaf.ndim < batch + 2:
      return None
    return optax.contrib.MuonDimensionNumbers(tuple(range(batch, leaf.ndim - 1)), leaf.ndim - 1)

  return map_named(one, params)


def make_optimizer(config: Any) -> optax.GradientTransformation:
  """AdamW or Muon as a stage's configuration has it.

  Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) orthogonalises the momentum
  of every kernel, so that all directions of a matrix learn alike; an update's root mean square is
  muon_rms times the learning rate, whatever the kernel's shape (arXiv:2502.16982, section 2.2: 0.2
  is AdamW's in practice). What is no kernel goes to NAdam at the same rate.

  Args:
    config: uses optimizer ("adamw": Loshchilov & Hutter, arXiv:1711.05101; or "muon"),
      muon_rms, b1, b2, weight_decay, grad_clip (0: no clipping) and the keys of `make_schedule`.

  Raises:
    ValueError: an unknown optimizer, or a negative norm.
  """
  if config.grad_clip < 0:
    raise ValueError(f"grad_clip={config.grad_clip}; expected a norm, or 0 for no clipping")
  clip = optax.clip_by_global_norm(config.grad_clip) if config.grad_clip else optax.identity()
  schedule = make_schedule(config)
  if config.optimizer == "adamw":
    rule = optax.adamw(schedule, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay,
                       mask=decays)
  elif config.optimizer == "muon":
    rule = optax.contrib.muon(
        schedule, beta=_MUON_MOMENTUM, weight_decay=config.weight_decay, weight_decay_mask=decays,
        adam_b1=config.b1, adam_b2=config.b2, consistent_rms=config.muon_rms,
        muon_weight_dimension_numbers=matrices)
  else:
    raise ValueError(f"optimizer={config.optimizer!r}; expected 'adamw' or 'muon'")
  return optax.chain(clip, rule)
