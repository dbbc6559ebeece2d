"""The sampler and the optimisation of noises, lowered from shapes alone, as `train.ahead` does it.

Floors do not know their neighbours, so the shapes of parameters come from above.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual import noise_terms
from cdjax.counterfactual.causal_model import CausalModel, CausalParams, make_causal_model
from cdjax.counterfactual.noise import optimize_noise
from cdjax.diffusion.samplers import ddim, get_sampler
from cdjax.models.acquisition import CODE_SIZE
from cdjax.models.disentangled import join
from cdjax.sharding.partition import batch_sharding

NOISE_STEPS = 8          # gradient steps on a noise
NOISE_SAMPLER_STEPS = 8  # of the sampler that the gradient passes through
_APPEARANCE, _NORM, _REPULSION = 0.1, 0.01, 1.0


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


def make_noise_fn(config: ConfigDict) -> Callable:
  """`optimise(params, z_T, findings, z_id, centroid, spread) -> OptimisedNoise`.

  Noises `[N, h, w, c]` for a class of which the mean `centroid` and the deviation `spread`
  `[h, w, c]` of the standardised latents are known; the other terms are those of `noise_terms`.
  """
  model = make_causal_model(config)

  def optimise(params: CausalParams, z_T: Array, findings: FindingsArrays, z_id: Array,
               centroid: Array, spread: Array):
    def objective(z_T):
      sample = _few_steps(model, params, z_T, findings, z_id)
      flat = lambda a: a.reshape(*a.shape[:-3], -1)
      terms = {
          "semantic": noise_terms.semantic(flat(sample), flat(centroid), flat(spread)),
          "appearance": noise_terms.appearance(sample, centroid.mean((0, 1)), spread.mean((0, 1))),
          "norm_prior": noise_terms.norm_prior(z_T), "repulsion": noise_terms.repulsion(z_T)}
      loss = (terms["semantic"] + _APPEARANCE * terms["appearance"]
              + _NORM * terms["norm_prior"] + _REPULSION * terms["repulsion"])
      return loss, terms

    return optimize_noise(objective, z_T, steps=NOISE_STEPS, tx=optax.adam(0.05))

  return optimise


def _few_steps(model: CausalModel, params: CausalParams, z_T: Array, findings: FindingsArrays,
               z_id: Array) -> Array:
  return ddim(model.denoise_fn(params, findings, z_id), z_T, schedule=model.schedule,
              num_steps=NOISE_SAMPLER_STEPS, remat=True)


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
  """All steps of `make_noise_fn`, ready to be compiled; arguments as `lower_sampler`'s."""
  z_id, _ = _identity(mesh, findings, latent)
  place = (*latent[:2], make_causal_model(config).denoiser.latent_channels)
  of_class = jax.ShapeDtypeStruct(place, jnp.float32,
                                  sharding=params.stats.path_mean.sharding)
  z_T = jax.ShapeDtypeStruct((z_id.shape[0], *place), jnp.float32, sharding=z_id.sharding)
  return _on(mesh, make_noise_fn(config)).lower(params, z_T, findings, z_id, of_class, of_class)


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
