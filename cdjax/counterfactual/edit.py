"""The usual way to edit an image, for comparison: latent diffusion without disentanglement.

The whole latent is led some way into the noise under the factual findings, by inversion (Song et
al., arXiv:2010.02502, section 4.3) or by adding noise (SDEdit, Meng et al., arXiv:2108.01073), and
back under the asked ones. How far decides between an image that stays as it is and another patient.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual.abduct import Abduction, fresh_noise
from cdjax.counterfactual.causal_model import CausalModel, CausalParams
from cdjax.counterfactual.scales import question_guidance
from cdjax.diffusion.inversion import invert
from cdjax.diffusion.prediction import q_sample
from cdjax.diffusion.samplers import get_sampler
from cdjax.diffusion.schedule import timestep_grid

NOISINGS = ("invert", "noise")


def edit(model: CausalModel, params: CausalParams, key: jax.Array, abduction: Abduction,
         findings: FindingsArrays, do_findings: FindingsArrays, cfg: ConfigDict) -> Array:
  """All slots under the asked findings, `[B, h, w, n, c]`; arguments as `answer.act`'s."""
  if cfg.noising not in NOISINGS:
    raise ValueError(f"counterfactual.noising={cfg.noising!r}; expected one of {NOISINGS}")
  z, stats, schedule = abduction.z, params.stats, model.schedule
  flat = z.reshape(*z.shape[:3], -1)
  z_0 = (flat - stats.path_mean) / stats.path_std
  spacing = "log_snr" if cfg.sampler == "dpmpp_2m" else "trailing"
  if cfg.noising == "invert":
    z_t = invert(
        model.denoise_fn(params, findings, abduction.z_id), z_0, schedule=schedule,
        num_steps=cfg.inversion_steps, order=cfg.inversion_order,
        refinements=cfg.inversion_refinements, spacing=spacing, strength=cfg.strength)
  else:
    t = timestep_grid(schedule, cfg.num_steps, spacing, cfg.strength)[0]
    z_t = q_sample(z_0, fresh_noise(key, z_0), jnp.full(len(z), t), schedule)
  denoise_fn = model.guided_denoise_fn(
      params, do_findings, abduction.z_id, guidance_rescale=cfg.guidance_rescale,
      guidance_findings=question_guidance(cfg, findings, do_findings))
  back = get_sampler(cfg.sampler)(
      denoise_fn, z_t, jax.random.fold_in(key, 1), schedule=schedule, num_steps=cfg.num_steps,
      spacing=spacing, strength=cfg.strength)
  return (back * stats.path_std + stats.path_mean).reshape(z.shape)
