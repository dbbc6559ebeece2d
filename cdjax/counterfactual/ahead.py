"""Sampling and the optimisation of noises as programs for a mesh.

The commands run them on the devices that there are, and `cdjax compile` compiles the same ones from
shapes alone. Floors do not know their neighbours, so the shapes of parameters come from above.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual.answer import answer
from cdjax.counterfactual.causal_model import CausalModel, CausalParams, make_causal_model
from cdjax.counterfactual.noise_objective import NoiseTask, make_optimise_fn
from cdjax.sharding.logical import resolve_spec
from cdjax.sharding.mesh import compiler_options, replicated

# Of a `NoiseTask`: what all noises share; the rest has a row for each of them.
_SHARED = ("healthy", "spread", "references", "allowed")


def jit_on(mesh: Mesh, fn: Callable, *, everywhere: bool = False) -> Callable:
  """`fn` jitted, its activations laid out on the mesh; on one device as by `jax.jit` alone.

  Args:
    mesh: where its arguments lie; may be of devices that do not exist here.
    fn: pure.
    everywhere: every device, and so every process, gets the whole result.
  """
  if mesh.size == 1:
    return jax.jit(fn)

  @functools.wraps(fn)
  def run(*args):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return fn(*args)

  return jax.jit(run, out_shardings=replicated(mesh) if everywhere else None,
                 compiler_options=compiler_options(mesh))


def rows_sharding(mesh: Mesh, size: int) -> NamedSharding:
  """Of `size` rows that every process knows: over data and fsdp as far as these divide them."""
  return NamedSharding(mesh, resolve_spec(("batch",), (size,), mesh))


def task_sharding(mesh: Mesh, size: int, task: NoiseTask) -> NoiseTask:
  """The sharding of each array of a task of `size` noises."""
  rows, shared = rows_sharding(mesh, size), replicated(mesh)
  return NoiseTask(**{
      name: jax.tree.map(lambda _, to=shared if name in _SHARED else rows: to, getattr(task, name))
      for name in NoiseTask.__dataclass_fields__})


def make_answer_program(mesh: Mesh, model: CausalModel, cfg: ConfigDict) -> Callable:
  """`program(params, key, x, findings, do_findings, view=None, noise=None) -> images` of `answer`.

  Args:
    mesh: see `jit_on`.
    model: the networks.
    cfg: `config.counterfactual`.
  """
  def counterfactual(params: CausalParams, key: jax.Array, x: Array, findings: FindingsArrays,
                     do_findings: FindingsArrays, view: Array | None = None,
                     noise: Array | None = None) -> Array:
    return answer(model, params, key, x, findings, do_findings, view, cfg=cfg, noise=noise).image

  return jit_on(mesh, counterfactual)


def make_noise_program(mesh: Mesh, model: CausalModel, *, counterfactual: ConfigDict,
                       noise: ConfigDict) -> Callable:
  """`program(params, starts, task) -> OptimisedNoise` of `make_optimise_fn`; see `jit_on`."""
  return jit_on(mesh, make_optimise_fn(model, counterfactual=counterfactual, noise=noise),
                everywhere=True)


def lower_sampler(config: ConfigDict, mesh: Mesh, params: CausalParams, key: jax.ShapeDtypeStruct,
                  findings: FindingsArrays) -> jax.stages.Lowered:
  """The answers to a batch of questions, ready to be compiled.

  Args:
    config: the configuration.
    mesh: may be of devices that do not exist here.
    params, key, findings: shapes with their shardings; the findings say how many images.
  """
  size, side = findings.status.shape[0], config.data.resolution
  of = lambda *shape, dtype=jnp.float32: jax.ShapeDtypeStruct(
      (size, *shape), dtype, sharding=rows_sharding(mesh, size))
  program = make_answer_program(mesh, make_causal_model(config), config.counterfactual)
  return program.lower(params, key, of(side, side, 1), findings, findings, of(dtype=jnp.int32))


def lower_noise(config: ConfigDict, mesh: Mesh, params: CausalParams, findings: FindingsArrays,
                latent: tuple[int, ...]) -> jax.stages.Lowered:
  """All steps of an optimisation as `config.noise` says, ready to be compiled.

  Args:
    config, mesh, params, findings: as `lower_sampler`'s.
    latent: `(h, w, n, c)`.
  """
  model, noise, size = make_causal_model(config), config.noise, findings.status.shape[0]
  height, width, slots, channels = latent
  place = (height, width, model.denoiser.latent_channels)
  of = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  task = NoiseTask(
      findings=findings, z_id=of(size, height, width, slots - 1, channels),
      place=jax.ShapeDtypeStruct((size,), jnp.int32), centroid=of(size, *place), reach=of(size),
      healthy=of(*place), spread=of(*place), channel_mean=of(size, place[-1]),
      channel_std=of(size, place[-1]), references=of(noise.references, *place), allowed=of())
  laid_out = lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to)
  task = jax.tree.map(laid_out, task, task_sharding(mesh, size, task))
  program = make_noise_program(mesh, model, counterfactual=config.counterfactual, noise=noise)
  return program.lower(params, laid_out(of(size, *place), rows_sharding(mesh, size)), task)
