"""The verifier's objective: two studies of one patient are alike, those of two patients are not.

Each anchor is to be found among the mates of the batch and each mate among the anchors (van den
Oord et al., "Representation Learning with Contrastive Predictive Coding", arXiv:1807.03748, eq. 4,
both ways). Exposure is drawn anew for each image, or it would be the fingerprint.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from cdjax.core.rng import stream
from cdjax.models.verifier import make_verifier
from cdjax.train.objectives.autoencoder import augment_acquisition


def init_params(config: ConfigDict, key: jax.Array) -> dict:
  """Parameters, boxed; jittable."""
  size = config.data.resolution
  return {"verifier": make_verifier(config.verifier.model).init(
      key, jnp.zeros((1, size, size, 1)))["params"]}


def make_loss_fn(config: ConfigDict) -> Callable:
  """Returns `loss_fn(params, frozen, batch, rng, step) -> (loss, aux)`.

  A batch has `image` and `mate_image` `[B, H, W, 1]`, `patient` `[B]` and `is_true_mate` `[B]`:
  rows without another study of the patient count as strangers only.
  """
  cfg = config.verifier
  model = make_verifier(cfg.model)
  max_shift = config.autoencoder.model.max_shift

  def loss_fn(params, frozen, batch, rng, step):
    del frozen, step

    def embed(name):
      x = batch[name]
      if cfg.augment:
        x = augment_acquisition(stream(rng, name), x, max_shift=max_shift)
      return model.apply({"params": params["verifier"]}, x, deterministic=False,
                         rngs={"dropout": stream(rng, f"dropout/{name}")})

    likeness = embed("image") @ embed("mate_image").T / cfg.temperature
    rows = jnp.arange(len(likeness))
    # Another anchor of the same patient is no stranger, and no answer either.
    same = batch["patient"][:, None] == batch["patient"][None, :]
    likeness = jnp.where(same & (rows[:, None] != rows), -1e9, likeness)
    nats = (optax.softmax_cross_entropy_with_integer_labels(likeness, rows)
            + optax.softmax_cross_entropy_with_integer_labels(likeness.T, rows)) / 2
    counted = batch["is_true_mate"].astype(jnp.float32)
    mean = lambda values: (values * counted).sum() / jnp.maximum(counted.sum(), 1.0)
    return mean(nats), {"found": mean((likeness.argmax(-1) == rows).astype(jnp.float32))}

  return loss_fn
