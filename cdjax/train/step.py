"""One update of the training state: a jitted, sharded function."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from cdjax.core.rng import stream
from cdjax.core.types import Array, PyTree
from cdjax.sharding.logical import constrain
from cdjax.sharding.mesh import compiler_options, replicated
from cdjax.train.state import TrainState

# (params, frozen, batch, rng, step) → (loss, named terms); all of the result float32 scalars.
LossFn = Callable[[PyTree, PyTree, PyTree, jax.Array, Array], tuple[Array, Mapping[str, Array]]]

RESERVED = ("loss", "grad_norm", "learning_rate", "finite")


def ema_update(ema: PyTree, params: PyTree, decay: float, step: Array) -> PyTree:
  """`ema + (1 - d) · (params - ema)` with d = min(decay, (1 + s) / (10 + s)).

  The bound lets the average forget the initial parameters early in training.

  Args:
    ema: the average so far.
    params: the new parameters.
    decay: in [0, 1); 0: no average, the result is `params`.
    step: s, steps done before this one.
  """
  if decay == 0:
    return jax.tree.map(jnp.copy, params)
  step = step.astype(jnp.float32)
  d = jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(lambda e, p: e + (1 - d) * (p - e), ema, params)


def split_batch(batch: PyTree, parts: int) -> PyTree:
  """`[B, ...]` to `[parts, B / parts, ...]`; part i has the examples i, i + parts, ...

  Taking every parts-th example leaves each one on the device that has it.

  Raises:
    ValueError: B is not a multiple of `parts`.
  """
  def split(leaf: Array) -> Array:
    if leaf.shape[0] % parts:
      raise ValueError(f"batch of {leaf.shape[0]} examples, accumulation={parts}; expected a "
                       f"batch_size that it divides")
    leaf = leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)
    return constrain(leaf, (None, "batch") + (None,) * (leaf.ndim - 2))

  return jax.tree.map(split, batch)


def gradients(loss_fn: LossFn, params: PyTree, frozen: PyTree, batch: PyTree, rng: jax.Array,
              step: Array, *, accumulation: int) -> tuple[PyTree, Array, dict[str, Array]]:
  """Means of gradient, loss and terms over the micro-batches of a batch.

  Micro-batch i draws from `fold_in(rng, i)`.

  Returns:
    Gradient; loss; terms.
  """
  def one(rng, batch):
    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        params, frozen, batch, rng, step)
    taken = [name for name in aux if name in RESERVED]
    if taken:
      raise ValueError(f"loss terms {taken} clash with the metrics of the step {RESERVED}")
    aux = {name: jnp.asarray(value, jnp.float32) for name, value in aux.items()}
    return grads, jnp.asarray(loss, jnp.float32), aux

  if accumulation == 1:
    return one(jax.random.fold_in(rng, 0), batch)

  def add(total, part):
    index, batch = part
    grads, loss, aux = one(jax.random.fold_in(rng, index), batch)
    return jax.tree.map(jnp.add, total, grads), (loss, aux)

  parts = split_batch(batch, accumulation)
  zeros = jax.tree.map(jnp.zeros_like, params)
  grads, (loss, aux) = jax.lax.scan(add, zeros, (jnp.arange(accumulation), parts))
  mean = lambda tree: jax.tree.map(lambda leaf: leaf.mean(0), tree)
  return jax.tree.map(lambda leaf: leaf / accumulation, grads), mean(loss), mean(aux)


def make_train_step(loss_fn: LossFn, tx: optax.GradientTransformation, *,
                    schedule: optax.Schedule, ema_decay: float, accumulation: int = 1,
                    mesh: Mesh, state_sharding: TrainState, batch_sharding: NamedSharding
                    ) -> Any:
  """The update of a `TrainState`, jitted; the state that goes in is donated.

  Args:
    loss_fn: see `LossFn`; `rng` is `stream(key, "train", state.step)` folded with the micro-batch.
    tx: the optimizer.
    schedule: its learning rate, for the metrics.
    ema_decay: of the parameters' average.
    accumulation: micro-batches a step.
    mesh: where it runs.
    state_sharding: from `train.state.abstract_state`.
    batch_sharding: of the first axis of every leaf of a batch.

  Returns:
    `step(state, frozen, batch, key) -> (state, metrics)`. `frozen`: arrays that are not trained,
    on the mesh. `metrics`: loss, grad_norm (before clipping), learning_rate, every term of the
    loss, and `finite`, whether loss, gradient norm and terms all are.
  """
  if accumulation < 1:
    raise ValueError(f"accumulation={accumulation}; expected 1 or more")
  if not 0 <= ema_decay < 1:
    raise ValueError(f"ema_decay={ema_decay}; expected 0 <= ema_decay < 1")

  def train_step(state: TrainState, frozen: PyTree, batch: PyTree, key: jax.Array):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      rng = stream(key, "train", state.step)
      grads, loss, aux = gradients(
          loss_fn, state.params, frozen, batch, rng, state.step, accumulation=accumulation)
      grad_norm = optax.global_norm(grads)
      updates, opt_state = tx.update(grads, state.opt_state, state.params)
      params = optax.apply_updates(state.params, updates)
      metrics = {"loss": loss, "grad_norm": grad_norm, **aux}
      finite = jnp.stack([jnp.isfinite(value) for value in metrics.values()]).all()
      metrics |= {"learning_rate": schedule(state.step), "finite": finite}
      state = TrainState(
          step=state.step + 1, params=params, opt_state=opt_state,
          ema_params=ema_update(state.ema_params, params, ema_decay, state.step))
    return state, metrics

  return jax.jit(
      train_step, donate_argnums=0,
      in_shardings=(state_sharding, None, batch_sharding, replicated(mesh)),
      out_shardings=(state_sharding, replicated(mesh)),
      compiler_options=compiler_options(mesh))
