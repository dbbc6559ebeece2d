"""The classifier's objective: findings, side, zone and severity from images; any acquisition."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.rng import stream
from cdjax.losses.findings import findings_loss, location_loss, severity_loss
from cdjax.models.classifier import make_classifier
from cdjax.train.objectives.autoencoder import augment_acquisition


def init_params(config: ConfigDict, stage: str, key: jax.Array) -> dict:
  """Parameters of the classifier of `stage` ("classifier" or "judge"), boxed; jittable."""
  model = make_classifier(config[stage].model, len(config.data.vocabulary))
  size = config.data.resolution
  return {"classifier": model.init(key, jnp.zeros((1, size, size, 1)))["params"]}


def make_loss_fn(config: ConfigDict, stage: str) -> Callable:
  """Returns `loss_fn(params, frozen, batch, rng, step) -> (loss, aux)`.

  `frozen` is {}, or has `positive_weights` `[K]` of `losses.balance`.
  """
  cfg = config[stage]
  model: nn.Module = make_classifier(cfg.model, len(config.data.vocabulary))
  max_shift = config.autoencoder.model.max_shift

  def loss_fn(params, frozen, batch, rng, step):
    del step
    x, findings = batch["image"], batch["findings"]
    if cfg.augment:
      x = augment_acquisition(stream(rng, "augment"), x, max_shift=max_shift)
    logits = model.apply(
        {"params": params["classifier"]}, x, deterministic=False,
        rngs={"dropout": stream(rng, "dropout")})
    terms = {
        "findings": findings_loss(logits.status, findings.status,
                                  positive_weights=frozen.get("positive_weights")),
        "location": location_loss(logits.side, logits.zone, findings),
        "severity": severity_loss(logits.severity, findings, sigma=cfg.severity_sigma),
    }
    return sum(t.mean() for t in terms.values()), {k: t.mean() for k, t in terms.items()}

  return loss_fn
