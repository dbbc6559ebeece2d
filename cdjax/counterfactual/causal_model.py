"""The trained networks as the functions of a structural causal model.

Everything here is pure: parameters go in, arrays come out. `CausalModel` holds what does not
change (modules, schedule, configuration), `CausalParams` what was trained.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays, Prediction, PyTree
from cdjax.diffusion.prediction import predict_from
from cdjax.diffusion.schedule import Schedule, make_schedule
from cdjax.models.denoiser import Denoiser, LatentStats, drop_findings, make_denoiser
from cdjax.models.disentangled import DisentangledAutoencoder, Encoding, make_autoencoder


@flax.struct.dataclass
class CausalParams:
  """Trained parameters: of the autoencoder and the denoiser, and the latents' statistics."""

  autoencoder: PyTree
  denoiser: PyTree
  stats: LatentStats


@dataclasses.dataclass(frozen=True)
class CausalModel:
  """The functions that the networks stand for.

  Attributes:
    autoencoder, denoiser: the modules.
    schedule: of the diffusion.
    prediction: what the denoiser's output means: v | eps | x0.
    sample_latents: latents are draws from their posteriors, as in training.
    use_identity: the denoiser is shown the identity.
  """

  autoencoder: DisentangledAutoencoder
  denoiser: Denoiser
  schedule: Schedule
  prediction: str
  sample_latents: bool
  use_identity: bool

  def encode(self, params: CausalParams, x: Array) -> Encoding:
    """Posteriors of `x` `[B, H, W, 1]` in [-1, 1]."""
    return self.autoencoder.apply({"params": params.autoencoder}, x, method="encode")

  def decode(self, params: CausalParams, z: Array, code: Array, view: Array | None) -> Array:
    """`D(T(z))` seen through the acquisition: `[B, H, W, 1]` in about [-1, 1]."""
    return self.autoencoder.apply({"params": params.autoencoder}, z, code, view, method="decode")

  def denoise_fn(self, params: CausalParams, findings: FindingsArrays, z_id: Array, *,
                 guidance_findings: Array, guidance_identity: Array | float = 1.0):
    """A guided `denoise_fn(z_t, t) -> Prediction` on the standardised pathology slot.

    Guidance is `∅ + s_id (id − ∅) + s_f (findings,id − id)` on v (or the network's own output;
    Brooks et al., arXiv:2211.09800, eq. 3), so a scale of 1 is no guidance.

    Args:
      params: trained parameters.
      findings: conditions, `[B, K]`.
      z_id: identity, `[B, h, w, n-1, c]`, not standardised.
      guidance_findings: `[B]`, a scale for each example.
      guidance_identity: a Python number; 1 saves an evaluation.
    """
    batch = z_id.shape[0]
    z_id = (z_id - params.stats.id_mean) / params.stats.id_std
    everyone = jnp.ones(batch, bool)
    # Guided in one pass: the copies of the batch differ in what they are told.
    told = [(findings, everyone), (drop_findings(findings, everyone), everyone)]
    three = not (isinstance(guidance_identity, (int, float)) and guidance_identity == 1.0)
    if three:
      told.append((drop_findings(findings, everyone), ~everyone))
    stacked = jax.tree.map(lambda *a: jnp.concatenate(a), *[f for f, _ in told])
    keep = jnp.concatenate([k for _, k in told]) & self.use_identity
    copies = lambda a: jnp.concatenate([a] * len(told))
    scale = jnp.asarray(guidance_findings, jnp.float32).reshape(-1, 1, 1, 1)

    def fn(z_t: Array, t: Array) -> Prediction:
      t = jnp.broadcast_to(t, (batch,))
      output = self.denoiser.apply(
          {"params": params.denoiser}, copies(z_t), copies(t), stacked, copies(z_id), keep)
      full, identity, *rest = jnp.split(output, len(told))
      base = rest[0] + guidance_identity * (identity - rest[0]) if three else identity
      return predict_from(base + scale * (full - identity), z_t, t, self.schedule, self.prediction)

    return fn

  def plain_denoise_fn(self, params: CausalParams, findings: FindingsArrays, z_id: Array):
    """The same without guidance, at one evaluation a step."""
    z_id = (z_id - params.stats.id_mean) / params.stats.id_std
    keep = jnp.full(z_id.shape[0], self.use_identity)

    def fn(z_t: Array, t: Array) -> Prediction:
      output = self.denoiser.apply({"params": params.denoiser}, z_t, t, findings, z_id, keep)
      return predict_from(output, z_t, t, self.schedule, self.prediction)

    return fn


def make_causal_model(config: ConfigDict) -> CausalModel:
  """Builds the model that `config`'s autoencoder and diffusion stages train."""
  schedule = config.diffusion.schedule
  return CausalModel(
      autoencoder=make_autoencoder(config.autoencoder.model),
      denoiser=make_denoiser(config.diffusion, config.autoencoder.model,
                             len(config.data.vocabulary)),
      schedule=make_schedule(schedule.kind, schedule.num_timesteps, schedule.zero_terminal_snr),
      prediction=schedule.prediction,
      sample_latents=config.autoencoder.model.sample_latents,
      use_identity=config.diffusion.condition.identity != "none",
  )
