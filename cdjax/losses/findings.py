"""Findings read from the pathology: which, where, how severe. Unknown labels never count.

All are negative log-likelihoods in nats, summed over the findings that are known, so that an image
with more known labels weighs more, as it does in a likelihood.
"""

import jax
import jax.numpy as jnp

from cdjax.core.types import PRESENT, SIDES, UNKNOWN, ZONES, Array, FindingsArrays


def bernoulli_nll(logits: Array, labels: Array) -> Array:
  """`-log Bernoulli(labels; sigmoid(logits))` elementwise; stable for any logit."""
  return jax.nn.softplus(logits) - labels * logits


def findings_loss(logits: Array, status: Array, *, class_weights: Array | None = None,
                  positive_weights: Array | None = None) -> Array:
  """Multi-label cross-entropy over the findings whose status is known.

  Args:
    logits: `[B, K]`.
    status: `[B, K]`; 1 present, 0 absent, -1 unknown.
    class_weights: `[K]`, multiplies everything of a finding.
    positive_weights: `[K]`, multiplies its positive term only (long tail).

  Returns:
    `[B]` nats.
  """
  present = (status == PRESENT).astype(jnp.float32)
  nll = bernoulli_nll(logits.astype(jnp.float32), present)
  if positive_weights is not None:
    nll = nll * jnp.where(present > 0, positive_weights, 1.0)
  if class_weights is not None:
    nll = nll * class_weights
  return jnp.where(status != UNKNOWN, nll, 0.0).sum(-1)


def _bits_loss(logits: Array, bits: Array, present: Array) -> Array:
  """`[B]`: cross-entropy of each bit of a mask, where it is known (not 0) and the finding there."""
  labels = (bits[..., None].astype(jnp.int32) >> jnp.arange(logits.shape[-1])) & 1
  nll = bernoulli_nll(logits.astype(jnp.float32), labels).sum(-1)
  return jnp.where(present & (bits > 0), nll, 0.0).sum(-1)


def location_loss(side_logits: Array, zone_logits: Array, findings: FindingsArrays) -> Array:
  """Side and zone of the findings that are present and whose location is known.

  Args:
    side_logits: `[B, K, 2]`, a bit for each of `SIDES`; a bilateral finding has both.
    zone_logits: `[B, K, 3]`, a bit for each of `ZONES`.
    findings: `[B, K]`.

  Returns:
    `[B]` nats.
  """
  if side_logits.shape[-1] != len(SIDES) or zone_logits.shape[-1] != len(ZONES):
    raise ValueError(f"side_logits {side_logits.shape} and zone_logits {zone_logits.shape}; "
                     f"expected last sizes {len(SIDES)} and {len(ZONES)}")
  return (_bits_loss(side_logits, findings.side, findings.present)
          + _bits_loss(zone_logits, findings.zone, findings.present))


def severity_loss(severity_hat: Array, findings: FindingsArrays, *, sigma: float = 0.2) -> Array:
  """`sum (severity - severity_hat)² / (2 sigma²)` over present findings of known severity.

  Args:
    severity_hat: `[B, K]`, severity in [0, 1].
    findings: `[B, K]`.
    sigma: standard deviation of a reading, in units of severity.

  Returns:
    `[B]` nats.
  """
  known = findings.present & (findings.severity >= 0)
  square = 0.5 * ((severity_hat.astype(jnp.float32) - findings.severity) / sigma) ** 2
  return jnp.where(known, square, 0.0).sum(-1)
