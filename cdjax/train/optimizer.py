"""AdamW with linear warm-up, cosine decay and clipping by global norm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cdjax.core.trees import map_named
from cdjax.core.types import Array, PyTree


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


def make_optimizer(config: Any) -> optax.GradientTransformation:
  """AdamW (Loshchilov & Hutter, arXiv:1711.05101) as a stage's configuration has it.

  Args:
    config: uses b1, b2, weight_decay, grad_clip (0: no clipping) and the keys of `make_schedule`.
  """
  if config.grad_clip < 0:
    raise ValueError(f"grad_clip={config.grad_clip}; expected a norm, or 0 for no clipping")
  clip = optax.clip_by_global_norm(config.grad_clip) if config.grad_clip else optax.identity()
  return optax.chain(
      clip,
      optax.adamw(make_schedule(config), b1=config.b1, b2=config.b2,
                  weight_decay=config.weight_decay, mask=decays))
