"""The trained networks as the functions of a structural causal model.

Everything here is pure: parameters go in, arrays come out. `CausalModel` holds what does not
change (modules, schedule, configuration), `CausalParams` what was trained.
"""

import dataclasses

import flax.struct
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays, Prediction, PyTree
from cdjax.diffusion.guidance import two_conditions
from cdjax.diffusion.prediction import DenoiseFn, predict_from
from cdjax.diffusion.schedule import Schedule, make_schedule
from cdjax.models.denoiser import Denoiser, LatentStats, drop_findings, make_denoiser
from cdjax.models.disentangled import DisentangledAutoencoder, Encoding, make_autoencoder
from cdjax.models.text_tokens import PhraseTable


@flax.struct.dataclass
class CausalParams:
  """Trained parameters of the autoencoder and the denoiser, statistics of the latents, words."""

  autoencoder: PyTree
  denoiser: PyTree
  stats: LatentStats
  text: PhraseTable | None = None


@dataclasses.dataclass(frozen=True)
class CausalModel:
  """The functions that the networks stand for.

  Attributes:
    autoencoder, denoiser: the modules.
    schedule: of the diffusion.
    prediction: what the denoiser's output means: v | eps | x0.
    sample_latents: latents are draws from their posteriors, as in training.
    target_noise: of what the diffusion denoises: 0 posterior means, 1 draws.
    use_identity: the denoiser is shown the identity.
    whole: the denoiser knows no slots: it denoises all of z (plain latent diffusion).
  """

  autoencoder: DisentangledAutoencoder
  denoiser: Denoiser
  schedule: Schedule
  prediction: str
  sample_latents: bool
  target_noise: float
  use_identity: bool
  whole: bool = False

  def encode(self, params: CausalParams, x: Array) -> Encoding:
    """Posteriors of `x` `[B, H, W, 1]` in [-1, 1]."""
    return self.autoencoder.apply({"params": params.autoencoder}, x, method="encode")

  def decode(self, params: CausalParams, z: Array, code: Array, view: Array | None) -> Array:
    """`D(T(z))` seen through the acquisition: `[B, H, W, 1]` in about [-1, 1]."""
    return self.autoencoder.apply({"params": params.autoencoder}, z, code, view, method="decode")

  def denoise_fn(self, params: CausalParams, findings: FindingsArrays, z_id: Array, *,
                 has_identity: bool = True) -> DenoiseFn:
    """`denoise_fn(z_t, t) -> Prediction` of the standardised pathology slot, without guidance.

    Args:
      params: trained parameters.
      findings: conditions, `[B, K]`.
      z_id: identity, `[B, h, w, n-1, c]`, not standardised.
      has_identity: False hides it.
    """
    batch = z_id.shape[0]
    z_id = (z_id - params.stats.id_mean) / params.stats.id_std
    keep = jnp.full(batch, has_identity and self.use_identity)

    def fn(z_t: Array, t: Array) -> Prediction:
      t = jnp.broadcast_to(t, (batch,))
      output = self.denoiser.apply({"params": params.denoiser}, z_t, t, findings, z_id, keep,
                                   params.text)
      return predict_from(output, z_t, t, self.schedule, self.prediction)

    return fn

  def guided_denoise_fn(self, params: CausalParams, findings: FindingsArrays, z_id: Array, *,
                        guidance_findings: Array, guidance_identity: Array | float = 1.0,
                        guidance_rescale: float = 0.0) -> DenoiseFn:
    """The same guided by identity and by findings; scales of 1 are no guidance.

    Args:
      params, findings, z_id: as `denoise_fn`'s.
      guidance_findings: `[B]`, a scale for each example.
      guidance_identity: a Python number; 1 saves an evaluation.
      guidance_rescale: strength of `diffusion.guidance.combine`'s rescale, 0..1.
    """
    unasked = drop_findings(findings, jnp.ones(z_id.shape[0], bool))
    return two_conditions(
        self.denoise_fn(params, unasked, z_id, has_identity=False),
        self.denoise_fn(params, unasked, z_id), self.denoise_fn(params, findings, z_id),
        identity_scale=guidance_identity, findings_scale=guidance_findings,
        schedule=self.schedule, rescale=guidance_rescale)


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
      target_noise=config.diffusion.target_noise,
      use_identity=config.diffusion.condition.identity != "none",
      whole=config.diffusion.target == "everything",
  )
