"""Initial-noise optimisation: gradient steps on `z_T` with the network frozen.

A class of few examples has a small basin: most noises lead a sampler past it, but some lead into
it, and they can be found by following the gradient of what the sample should be through a few-step
sampler. Samuel et al., "Generating images of rare concepts using pre-trained diffusion models"
(SeedSelect), arXiv:2304.14530; Samuel et al., "Norm-guided latent space exploration" (NAO),
arXiv:2306.08687; Eyring et al., "ReNO", arXiv:2406.04312. Classes that are not asked for cannot
change, since no weight does.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cdjax.core.types import Array

# `objective(z_T [N, ...]) -> (loss [N], terms)`; terms: name → [N], what the loss is made of.
Objective = Callable[[Array], tuple[Array, dict[str, Array]]]


@flax.struct.dataclass
class OptimisedNoise:
  """The best noises seen, and the way there.

  Attributes:
    z_T: `[N, ...]`, of each noise the state of smallest loss.
    loss: `[N]`, that loss.
    best_step: `[N]` int32, after how many gradient steps it was reached.
    steps: `[N]` int32, gradient steps taken before it stopped.
    curves: "loss" and every term → `[steps + 1, N]`, before the first step and after each.
  """

  z_T: Array
  loss: Array
  best_step: Array
  steps: Array
  curves: dict[str, Array]


@flax.struct.dataclass
class _Progress:
  z_T: Array
  opt_state: optax.OptState
  best: Array
  best_loss: Array
  best_step: Array
  steps: Array
  active: Array


def clip_each(gradient: Array, limit: float) -> Array:
  """Scales each noise's gradient `[N, ...]` down to a norm of at most `limit`."""
  norm = jnp.sqrt((gradient**2).reshape(len(gradient), -1).sum(-1))
  scale = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
  return gradient * _each(scale, gradient)


def optimize_noise(objective: Objective, z_T: Array, *, steps: int,
                   tx: optax.GradientTransformation, clip: float = 1.0, patience: int = 0,
                   min_improvement: float = 0.0) -> OptimisedNoise:
  """Takes gradient steps on a batch of initial noises; pure, to be jitted once.

  The gradient is that of the sum of the losses, so that noises which repel each other both move;
  apart from such terms every noise goes its own way, whatever else is in the batch. A noise whose
  loss is not finite stops where it was best.

  Args:
    objective: see `Objective`; differentiable, and the same at every step.
    z_T: starts, `[N, ...]` float32; may be sharded over N.
    steps: gradient steps at most, a Python number; 0 only measures the starts.
    tx: an elementwise optimiser, e.g. `optax.adam(0.1)`.
    clip: norm of each noise's gradient at most.
    patience: a noise stops after so many steps without improvement; 0: never.
    min_improvement: by which a loss must fall to count as improved.

  Raises:
    ValueError: a number is negative, or the loss is not `[N]`.
  """
  if steps < 0 or clip <= 0 or patience < 0 or min_improvement < 0:
    raise ValueError(f"steps={steps}, clip={clip}, patience={patience}, "
                     f"min_improvement={min_improvement}; expected none negative and clip above 0")
  z_T = jnp.asarray(z_T, jnp.float32)

  def total(z):
    loss, terms = objective(z)
    if loss.shape != z.shape[:1]:
      raise ValueError(f"the objective gives a loss of shape {loss.shape}; expected {z.shape[:1]}")
    return loss.sum(), (loss, terms)

  def note(now: _Progress, loss: Array, step: Array) -> _Progress:
    better = now.active & (loss < now.best_loss - min_improvement)
    active = now.active & jnp.isfinite(loss)
    if patience:
      waited = step - jnp.where(better, step, now.best_step)
      active &= waited < patience
    return now.replace(
        best=jnp.where(_each(better, z_T), now.z_T, now.best),
        best_loss=jnp.where(better, loss, now.best_loss),
        best_step=jnp.where(better, step, now.best_step), active=active)

  def body(now: _Progress, step: Array):
    (_, (loss, terms)), gradient = jax.value_and_grad(total, has_aux=True)(now.z_T)
    now = note(now, loss, step)
    gradient = jnp.where(_each(now.active, z_T), gradient, 0.0)
    updates, opt_state = tx.update(clip_each(gradient, clip), now.opt_state, now.z_T)
    moved = jnp.where(_each(now.active, z_T), now.z_T + updates, now.z_T)
    after = now.replace(z_T=moved, opt_state=opt_state, steps=now.steps + now.active)
    return after, {"loss": loss, **terms}

  count = z_T.shape[:1]
  now = _Progress(
      z_T, tx.init(z_T), best=z_T, best_loss=jnp.full(count, jnp.inf),
      best_step=jnp.zeros(count, jnp.int32), steps=jnp.zeros(count, jnp.int32),
      active=jnp.ones(count, bool))
  now, curves = jax.lax.scan(body, now, jnp.arange(steps))
  _, (loss, terms) = total(now.z_T)
  now = note(now, loss, jnp.int32(steps))
  last = {"loss": loss, **terms}
  curves = {name: jnp.concatenate([curves[name], last[name][None]]) for name in last}
  return OptimisedNoise(now.best, now.best_loss, now.best_step, now.steps, curves)


def _each(values: Array, like: Array) -> Array:
  """`[N]` shaped to broadcast over `like` `[N, ...]`."""
  return values.reshape(-1, *[1] * (like.ndim - 1))
