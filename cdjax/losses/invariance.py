"""What may depend on the study: the identity posteriors of one patient's studies must agree."""

import jax.numpy as jnp

from cdjax.core.types import Array, Posterior
from cdjax.losses.kl import kl_between


def invariance(own: Posterior, mate: Posterior, is_true_mate: Array) -> Array:
  """Mean of KL(own || mate) and KL(mate || own) of the identity posteriors, in nats.

  A sample of `z_id` can tell which of the two studies it came from by no more than this many nats
  on average, whatever reads it: this prices findings out of the identity without an adversary.
  The mean of both ways is the price of one image; a pair pays it twice, once for each member.

  Args:
    own: identity posterior of each image, `[B, ...]`.
    mate: that of another study of the same patient, same shape.
    is_true_mate: `[B]` bool. A patient with one study has no true mate: a copy carries the same
      lesion and would teach nothing about it.

  Returns:
    `[B]`, zero where there is no true mate.

  References:
    Moyer et al. 2018, "Invariant representations without adversarial training", arXiv:1805.09458;
    Bouchacourt et al. 2018 (ML-VAE), arXiv:1705.08841.
  """
  kl = kl_between(own, mate, symmetric=True)
  return jnp.where(jnp.asarray(is_true_mate, bool), kl, 0.0)
