"""Stage 2's objective: denoise the pathology slot, given the findings and a *mate's* identity.

The identity that a denoiser is shown in training is never that of the same image: it would read the
lesion that has leaked into it and return the factual (DESIGN section 10). It is another study's of
the patient, or, where there is none, the re-encoded pseudo-healthy image's.

Some studies are shown with their lesion on the other side: a finding that was never seen at one
place has then been seen there all the same.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.rng import stream
from cdjax.core.types import PRESENT, UNKNOWN, FindingsArrays, Posterior, PyTree
from cdjax.diffusion.prediction import predict_from, q_sample
from cdjax.diffusion.schedule import make_schedule
from cdjax.diffusion.weighting import class_balancing, diffusion_loss, sample_timesteps
from cdjax.losses.kl import posterior_sample
from cdjax.models.denoiser import drop_details, drop_findings, make_denoiser
from cdjax.models.mirrored import can_mirror, mirror_findings
from cdjax.models.text_tokens import PhraseTable, read_anew

_LEAST_SHARE = 0.05   # of information, below which an element's weight falls no further


def init_params(config: ConfigDict, latent_shape: tuple[int, ...], key: jax.Array,
                text: PhraseTable | None = None, tower: nn.Module | None = None) -> dict:
  """Parameters of the denoiser, boxed; `latent_shape` is `(h, w, n, c)`; jittable.

  `tower` is a text encoder that learns too: "text" is what it has learnt, its distance from the
  published weights. So weight decay draws it towards these (Li et al., arXiv:1802.01483, "L2-SP").
  """
  k = len(config.data.vocabulary)
  model = make_denoiser(config.diffusion, config.autoencoder.model, k)
  height, width, slots, channels = latent_shape
  noisy = model.latent_channels
  zeros = lambda dtype: jnp.zeros((1, k), dtype)
  findings = FindingsArrays(zeros(jnp.int8), zeros(jnp.float32), zeros(jnp.int8), zeros(jnp.int8))
  params = model.init(
      key, jnp.zeros((1, height, width, noisy)), jnp.zeros(1, jnp.int32), findings,
      jnp.zeros((1, height, width, slots - 1, channels)), jnp.ones(1, bool), text)["params"]
  if tower is None:
    return {"denoiser": params}
  learnt = tower.init(key, jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))["params"]
  return {"denoiser": params, "text": jax.tree.map(jnp.zeros_like, learnt)}


def any_finding(key: jax.Array, n: int, num_findings: int) -> FindingsArrays:
  """n draws of one finding alone, each equally likely, place and severity unsaid: `[n, K]`."""
  drawn = jax.random.randint(key, (n,), 0, num_findings)
  status = jnp.where(drawn[:, None] == jnp.arange(num_findings), PRESENT, 0).astype(jnp.int8)
  unsaid = jnp.zeros((n, num_findings), jnp.int8)
  return FindingsArrays(status, jnp.full((n, num_findings), -1.0), unsaid, unsaid)


def tower_apply(tower: nn.Module, published: PyTree, learnt: PyTree) -> Callable:
  """`(ids [U, L], mask [U, L]) -> states` of a text encoder that has learnt."""
  params = jax.tree.map(jnp.add, published, learnt)
  return lambda ids, mask: tower.apply({"params": params}, ids, mask)


def make_loss_fn(config: ConfigDict, tower: nn.Module | None = None) -> Callable:
  """Returns `loss_fn(params, frozen, batch, rng, step) -> (loss, aux)` of stage 2.

  `frozen` is `{"stats": LatentStats}`, with `"text": PhraseTable` where a text encoder reads the
  findings, and `"tower"`, the published weights of `tower`, where it learns too; the batch holds
  latents instead of images (see `train.latents.LatentAttach`).
  """
  cfg = config.diffusion
  condition, schedule_cfg = cfg.condition, cfg.schedule
  model = make_denoiser(cfg, config.autoencoder.model, len(config.data.vocabulary))
  schedule = make_schedule(
      schedule_cfg.kind, schedule_cfg.num_timesteps,
      zero_terminal_snr=schedule_cfg.zero_terminal_snr)
  if condition.identity not in ("mate", "own", "none"):
    raise ValueError(f"condition.identity={condition.identity!r}; expected mate, own or none")
  if cfg.target == "everything" and cfg.mirror_share:
    raise ValueError(f"mirror_share={cfg.mirror_share} with target='everything': there is no lesion"
                     " that could be laid elsewhere; expected 0")
  if cfg.target == "everything" and condition.identity != "none":
    raise ValueError(f"condition.identity={condition.identity!r} with target='everything':"
                     " the identity is part of what is denoised; expected 'none'")

  def loss_fn(params, frozen, batch, rng, step):
    del step
    stats = frozen["stats"]
    n = batch["path_mean"].shape[0]
    findings = batch["findings"]
    turn = jax.random.uniform(stream(rng, "mirror"), (n,)) < cfg.mirror_share
    turn &= can_mirror(findings)
    either = lambda turned, own: jnp.where(
        turn.reshape(-1, *[1] * (own.ndim - 1)), turned, own)
    findings = jax.tree.map(either, mirror_findings(findings), findings)
    path = Posterior(either(batch["mirror_mean"], batch["path_mean"]),
                     either(batch["mirror_logvar"], batch["path_logvar"]))
    # Two thirds of the elements of a draw are noise, which a denoiser would spend itself on.
    path = posterior_sample(stream(rng, "pathology"), path, cfg.target_noise)
    x0 = (path - stats.path_mean) / stats.path_std
    z_id = posterior_sample(stream(rng, "identity"),
                            Posterior(batch["id_mean"], batch["id_logvar"]))
    z_id = (z_id - stats.id_mean) / stats.id_std

    uniform = lambda name: jax.random.uniform(stream(rng, name), (n,))
    details = [uniform(f"drop_{part}") < condition.dropout_details
               for part in ("side", "zone", "severity")]
    findings = drop_findings(drop_details(findings, *details),
                             uniform("drop_findings") < condition.dropout_findings)
    has_identity = uniform("drop_identity") >= condition.dropout_identity
    if condition.identity == "none":
      has_identity = jnp.zeros_like(has_identity)
    t = sample_timesteps(stream(rng, "t"), n, schedule_cfg.num_timesteps)
    eps = jax.random.normal(stream(rng, "eps"), x0.shape)
    text = frozen.get("text")
    if tower is None:
      words = lambda findings: text
    else:
      apply = tower_apply(tower, frozen["tower"], params["text"])
      words = lambda findings: read_anew(apply, findings, text, condition.text_findings)
    z_t = q_sample(x0, eps, t, schedule)
    output = model.apply({"params": params["denoiser"]}, z_t, t, findings, z_id, has_identity,
                         words(findings))
    # What says little about the image may well be learnt last.
    share = jnp.maximum(stats.path_information, _LEAST_SHARE) if cfg.weigh_information else 1.0
    loss = diffusion_loss(
        output, x0, eps, t, schedule=schedule, prediction=schedule_cfg.prediction,
        weighting=schedule_cfg.loss_weighting, min_snr_gamma=schedule_cfg.min_snr_gamma,
        element_weights=share / jnp.mean(share))
    aux = {}
    if cfg.cbdm.weight:
      drawn = any_finding(stream(rng, "cbdm"), n, len(config.data.vocabulary))
      other = model.apply({"params": params["denoiser"]}, z_t, t, drawn, z_id, has_identity,
                          words(drawn))
      noise = lambda output: predict_from(output, z_t, t, schedule, schedule_cfg.prediction).eps
      balance = class_balancing(
          noise(output), noise(other), t, num_timesteps=schedule_cfg.num_timesteps,
          commitment=cfg.cbdm.commitment, element_weights=share / jnp.mean(share))
      balance *= (findings.status != UNKNOWN).any(-1)   # a prediction for no finding is of no class
      loss, aux = loss + cfg.cbdm.weight * balance, {"loss/class_balancing": balance.mean()}
    noisy = t >= schedule_cfg.num_timesteps // 2
    half = lambda mask: jnp.sum(jnp.where(mask, loss, 0.0)) / jnp.maximum(mask.sum(), 1)
    return loss.mean(), {"loss/noisy_half": half(noisy), "loss/clean_half": half(~noisy), **aux}

  return loss_fn
