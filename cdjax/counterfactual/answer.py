"""The whole question: this patient, but with other findings (abduct, act, predict)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual.abduct import Abduction, abduct, abduct_noise, fresh_noise
from cdjax.counterfactual.causal_model import CausalModel, CausalParams, make_causal_model
from cdjax.counterfactual.edit import edit
from cdjax.counterfactual.predict import Answer, predict
from cdjax.counterfactual.scales import question_guidance
from cdjax.diffusion.samplers import get_sampler

INVERT = ("kept", "always", "never")


def act(model: CausalModel, params: CausalParams, key: jax.Array, abduction: Abduction,
        findings: FindingsArrays, do_findings: FindingsArrays, cfg: ConfigDict,
        noise: Array | None = None) -> Array:
  """The pathology slot under the asked findings, `[B, h, w, c]`.

  A finding that stays keeps its noise u_path (its place, shape and texture: what the findings leave
  open), a new one gets fresh noise. A model without slots edits all of z: `[B, h, w, n, c]`, see
  `edit`. `noise`, `[B, h, w, c]`, is u_path where it is given (an optimised one, say).

  Raises:
    ValueError: an unknown `cfg.invert`, or `noise` for a model without slots.
  """
  if model.whole:
    if noise is not None:
      raise ValueError("diffusion.target='everything' has no pathology slot that a noise could be "
                       "given for")
    return edit(model, params, key, abduction, findings, do_findings, cfg)
  if cfg.invert not in INVERT:
    raise ValueError(f"counterfactual.invert={cfg.invert!r}; expected one of {sorted(INVERT)}")
  kept = (findings.present & do_findings.present).any(-1)
  u_path = fresh_noise(key, abduction.z_path) if noise is None else noise
  if cfg.invert != "never" and noise is None:
    asked = kept if cfg.invert == "kept" else findings.any_present
    inverted = jax.lax.cond(
        asked.any(),
        lambda: abduct_noise(
            model, params, abduction, findings, num_steps=cfg.inversion_steps,
            order=cfg.inversion_order, refinements=cfg.inversion_refinements),
        lambda: u_path)
    u_path = jnp.where(asked[:, None, None, None], inverted, u_path)
  denoise_fn = model.guided_denoise_fn(
      params, do_findings, abduction.z_id,
      guidance_findings=question_guidance(cfg, findings, do_findings),
      guidance_identity=cfg.guidance_identity, guidance_rescale=cfg.guidance_rescale)
  z_0 = get_sampler(cfg.sampler)(denoise_fn, u_path, jax.random.fold_in(key, 1),
                                 schedule=model.schedule, num_steps=cfg.num_steps)
  z_path = z_0 * params.stats.path_std + params.stats.path_mean
  return jnp.where(do_findings.healthy[:, None, None, None], 0.0, z_path)   # the null pathology


def answer(model: CausalModel, params: CausalParams, key: jax.Array, x: Array,
           findings: FindingsArrays, do_findings: FindingsArrays, view: Array | None = None, *,
           cfg: ConfigDict, noise: Array | None = None) -> Answer:
  """Answers a batch of questions.

  Args:
    model: the networks.
    params: their parameters.
    key: decides the draws of the latents and of fresh noise.
    x: factual images, `[B, H, W, 1]` in [-1, 1].
    findings: factual findings, `[B, K]`.
    do_findings: the asked ones, `[B, K]`; all of them, not only what changes.
    view: radiographic view, `[B]` int32, or None.
    cfg: `config.counterfactual`.
    noise: u_path, see `act`; None: abducted or fresh.
  """
  abduction = abduct(model, params, key, x, findings, view)
  z_path = act(model, params, key, abduction, findings, do_findings, cfg, noise)
  return predict(model, params, abduction, z_path, **residual_options(cfg))


def residual_options(cfg: ConfigDict) -> dict:
  """The keys of `config.counterfactual` that `predict` takes."""
  return {name: cfg[name] for name in ("residual", "mask_threshold", "mask_dilation",
                                       "residual_sigma")}


def make_counterfactual_fn(config: ConfigDict, params: CausalParams) -> Callable:
  """Returns `counterfactual_fn(rng, x, findings, do_findings) -> x_cf`, pure and jittable.

  Images are `[B, H, W, 1]` in [-1, 1], findings `[B, K]` over `config.data.vocabulary`.
  """
  model, cfg = make_causal_model(config), config.counterfactual
  params = jax.tree.map(jnp.asarray, params)   # a traced index cannot be taken of NumPy's arrays

  def counterfactual_fn(rng, x, findings, do_findings, view=None):
    return answer(model, params, rng, x, findings, do_findings, view, cfg=cfg).image

  return counterfactual_fn
