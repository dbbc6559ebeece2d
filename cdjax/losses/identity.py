"""Contrastive identity: studies of one patient together, those of others apart."""

import jax
import jax.numpy as jnp

from cdjax.core.types import Array


def identity_contrastive(a: Array, b: Array, is_true_mate: Array, *, patient: Array | None = None,
                         temperature: float = 0.1) -> Array:
  """NT-Xent between an identity code and its mate's, among the 2B codes of the batch.

  For each of the two codes of a pair: `-log exp(sim(i, mate) / tau) / sum_j exp(sim(i, j) / tau)`
  over all j but i, sim being the cosine (Chen et al. 2020, eq. 1). The result is the mean of both.

  Args:
    a: identity codes `[B, ...]`, flattened.
    b: codes of another study of the same patient, same shape.
    is_true_mate: `[B]` bool. A pair that is no true mate (one image twice) is not pulled together;
      its codes still serve as others' negatives.
    patient: `[B]` int; two pairs of one patient are then no negatives of each other.
    temperature: tau, positive.

  Returns:
    `[B]` nats, 0 where there is no true mate.

  References:
    Chen et al. 2020 (SimCLR), arXiv:2002.05709.
  """
  if temperature <= 0:
    raise ValueError(f"temperature={temperature}; expected a positive number")
  size = a.shape[0]
  codes = jnp.concatenate([a.reshape(size, -1), b.reshape(size, -1)]).astype(jnp.float32)
  norm = jnp.sqrt(jnp.maximum((codes**2).sum(-1, keepdims=True), 1e-12))
  codes = codes / norm
  logits = jnp.matmul(codes, codes.T, precision="highest") / temperature
  index = jnp.arange(2 * size)
  mate = (index + size) % (2 * size)
  group = index % size if patient is None else jnp.tile(jnp.asarray(patient), 2)
  is_mate = index[None] == mate[:, None]
  counts = is_mate | (group[:, None] != group[None])
  log_sum = jax.nn.logsumexp(logits, axis=-1, where=counts)
  nll = log_sum - (logits * is_mate).sum(-1)
  return jnp.where(jnp.asarray(is_true_mate, bool), (nll[:size] + nll[size:]) / 2, 0.0)
