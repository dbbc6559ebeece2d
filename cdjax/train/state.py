"""What training carries from step to step, and how it is laid out on a mesh."""

from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cdjax.core.types import Array, PyTree
from cdjax.sharding.mesh import replicated
from cdjax.sharding.partition import optimizer_shardings, param_shardings


@flax.struct.dataclass
class TrainState:
  """Data only. Random keys are not in it: they are functions of the seed and `step`.

  Attributes:
    step: optimiser steps done, int32 scalar.
    params: float32.
    ema_params: their exponential average, of the same shapes.
    opt_state: of the optimizer.
  """

  step: Array
  params: PyTree
  ema_params: PyTree
  opt_state: PyTree


def abstract_state(init_fn: Callable[[jax.Array], PyTree], tx: optax.GradientTransformation,
                   mesh: Mesh) -> tuple[TrainState, TrainState]:
  """Shapes and shardings of the state, without any computation.

  Args:
    init_fn: key → parameters, boxed with their logical axis names.
    tx: the optimizer.
    mesh: the mesh.

  Returns:
    The state as `jax.ShapeDtypeStruct`s that carry their sharding; the shardings alone.
  """
  boxed = jax.eval_shape(init_fn, jax.random.key(0))
  params = nn.unbox(boxed)
  of_params = param_shardings(boxed, mesh)
  shardings = TrainState(step=replicated(mesh), params=of_params, ema_params=of_params,
                         opt_state=optimizer_shardings(tx, params, of_params, mesh))
  shapes = jax.eval_shape(lambda: make_state(params_like(params), tx))
  abstract = jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
      shapes, shardings)
  return abstract, shardings


def params_like(params: PyTree) -> PyTree:
  """Zeros of the shapes and types of the parameters."""
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)


def make_state(params: PyTree, tx: optax.GradientTransformation) -> TrainState:
  """The state before the first step; the average starts at the parameters."""
  return TrainState(step=jnp.zeros((), jnp.int32), params=params,
                    ema_params=jax.tree.map(jnp.copy, params), opt_state=tx.init(params))


def init_state(init_fn: Callable[[jax.Array], PyTree], tx: optax.GradientTransformation,
               shardings: TrainState, key: jax.Array) -> TrainState:
  """Initialises every array on the devices that will hold it, never whole on one of them.

  Args:
    init_fn: key → boxed parameters.
    tx: the optimizer.
    shardings: from `abstract_state`.
    key: of the parameters.
  """
  init = jax.jit(lambda key: make_state(nn.unbox(init_fn(key)), tx), out_shardings=shardings)
  return init(key)
