"""The sampler and the optimisation of noises, lowered from shapes alone, as `train.ahead` does it.

Floors do not know their neighbours, so the shapes of parameters come from above.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual.causal_model import CausalParams, make_causal_model
from cdjax.counterfactual.noise_objective import NoiseTask, make_optimise_fn
from cdjax.diffusion.samplers import get_sampler
from cdjax.models.acquisition import CODE_SIZE
from cdjax.models.disentangled import join
from cdjax.sharding.partition import batch_sharding


def make_sample_fn(config: ConfigDict) -> Callable:
  """`sample(params, key, findings, z_id, code) -> images`: fresh pathology for given patients.

  Findings `[B, K]`, identities `[B, h, w, n-1, c]`, acquisitions `[B, CODE_SIZE]`; images
  `[B, H, W, 1]`; guided as `config.counterfactual` says.
  """
  model, cfg = make_causal_model(config), config.counterfactual

  def sample(params: CausalParams, key: jax.Array, findings: FindingsArrays, z_id: Array,
             code: Array) -> Array:
    shape = (*z_id.shape[:3], model.denoiser.latent_channels)
    denoise_fn = model.guided_denoise_fn(
        params, findings, z_id, guidance_findings=jnp.full(len(z_id), cfg.guidance_findings),
        guidance_identity=cfg.guidance_identity, guidance_rescale=cfg.guidance_rescale)
    z_0 = get_sampler(cfg.sampler)(
        denoise_fn, jax.random.normal(key, shape), jax.random.fold_in(key, 1),
        schedule=model.schedule, num_steps=cfg.num_steps)
    z = z_0 * params.stats.path_std + params.stats.path_mean
    z = z.reshape(*z.shape[:3], -1, z_id.shape[-1]) if model.whole else join(z_id, z)
    return model.decode(params, z, code, None)

  return sample


def lower_sampler(config: ConfigDict, mesh: Mesh, params: CausalParams, key: jax.ShapeDtypeStruct,
                  findings: FindingsArrays, latent: tuple[int, ...]) -> jax.stages.Lowered:
  """The sampler of `make_sample_fn`, ready to be compiled.

  Args:
    config: the configuration.
    mesh: may be of devices that do not exist here.
    params, key, findings: shapes with their shardings; the findings say how many images.
    latent: `(h, w, n, c)`.
  """
  z_id, code = _identity(mesh, findings, latent)
  return _on(mesh, make_sample_fn(config)).lower(params, key, findings, z_id, code)


def lower_noise(config: ConfigDict, mesh: Mesh, params: CausalParams, findings: FindingsArrays,
                latent: tuple[int, ...]) -> jax.stages.Lowered:
  """All steps of an optimisation as `config.noise` says; arguments as `lower_sampler`'s."""
  model, noise = make_causal_model(config), config.noise
  z_id, _ = _identity(mesh, findings, latent)
  place = (*latent[:2], model.denoiser.latent_channels)
  shape = lambda like: lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32,
                                                           sharding=like.sharding)
  each, shared = shape(z_id), shape(params.stats.path_mean)
  size = z_id.shape[0]
  task = NoiseTask(
      findings=findings, z_id=z_id, centroid=each(size, *place), spread=shared(*place),
      channel_mean=each(size, place[-1]), channel_std=each(size, place[-1]),
      references=shared(noise.references, *place), allowed=shared())
  optimise = make_optimise_fn(model, counterfactual=config.counterfactual, noise=noise)
  return _on(mesh, optimise).lower(params, each(size, *place), task)


def _identity(mesh: Mesh, findings: FindingsArrays, latent: tuple[int, ...]):
  """Shapes of identities and acquisitions, one for each row of the findings."""
  height, width, slots, channels = latent
  size = findings.status.shape[0]
  of = lambda *shape: jax.ShapeDtypeStruct((size, *shape), jnp.float32,
                                           sharding=batch_sharding(mesh, size))
  return of(height, width, slots - 1, channels), of(CODE_SIZE)


def _on(mesh: Mesh, fn: Callable) -> Callable:
  """`fn` jitted, its activations laid out on the mesh."""
  def run(*args):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return fn(*args)

  return jax.jit(run)
