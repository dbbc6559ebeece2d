"""Group supervision: exchanging latent slots between examples, and what must then agree."""

import jax
import jax.numpy as jnp

from cdjax.core.types import PRESENT, Array, FindingsArrays, Posterior
from cdjax.losses.kl import kl_between


def swap_slots(z: Array, partner: Array, *, slots: slice) -> Array:
  """Exchanges some latent slots between the two members of each pair.

  Args:
    z: latents `[B, h, w, n, c]`.
    partner: index of each example's partner in the batch, `[B]` int32; an involution.
    slots: which of the n slots to exchange.

  Returns:
    `[B, h, w, n, c]`; slots outside `slots` are z's own.

  References:
    Ge et al., "Zero-shot Synthesis with Group-Supervised Learning", arXiv:2009.06586.
  """
  z = jnp.asarray(z)
  exchanged = jnp.zeros(z.shape[-2], bool).at[slots].set(True)
  return jnp.where(exchanged[:, None], z[partner], z)


def same_findings(a: FindingsArrays, b: FindingsArrays) -> Array:
  """`[B]` bool: both have the same findings, at least one, and none of the vocabulary is unknown.

  Two images without finding are not a pair for this: their pathology is null.
  """
  equal = (a.status == b.status) & (a.status >= 0)
  return equal.all(-1) & a.any_present


def same_details(a: FindingsArrays, b: FindingsArrays, *, severity_tolerance: float = 0.1) -> Array:
  """`[B]` bool: `same_findings`, and side, zone and severity of each are the same.

  A severity that is unknown in either does not agree. A side or zone that is unknown in both does:
  a finding without sides has none. Only such pairs may share a pixel loss after an exchange.
  """
  location = (a.side == b.side) & (a.zone == b.zone)
  known = (a.severity >= 0) & (b.severity >= 0)
  severity = known & (jnp.abs(a.severity - b.severity) <= severity_tolerance)
  agree = (a.status != PRESENT) | (location & severity)
  return same_findings(a, b) & agree.all(-1)


def latent_agreement(a: Posterior, b: Posterior, mask: Array) -> Array:
  """Mean of KL(a || b) and KL(b || a), in nats, where the mask is on.

  For `swap_same_findings`: after the exchange of `z_path` between images with equal findings, the
  posteriors of the re-encoded image must be those of the images its slots came from.

  Args:
    a: `[B, ...]`.
    b: same shape.
    mask: `[B]` bool, e.g. `same_findings`.

  Returns:
    `[B]`.
  """
  return jnp.where(jnp.asarray(mask, bool), kl_between(a, b, symmetric=True), 0.0)


def cycle_agreement(again: Posterior, identity_from: Posterior, pathology_from: Posterior, *,
                    has_pathology: Array) -> Array:
  """Agreement of a re-encoded hybrid with the images its two halves came from, in nats.

  `KL(sg[q_A(z_id)] || q(z_id | hybrid)) + KL(sg[q_B(z_path)] || q(z_path | hybrid))`, the hybrid
  being decoded from A's identity slots and B's pathology slot (`cycle_swap`). The sources are not
  moved (sg stops their gradient): else both would collapse to whatever is easy to agree on.

  Args:
    again: posterior of the hybrid's latents, `[B, h, w, n, c]`.
    identity_from: A's.
    pathology_from: B's.
    has_pathology: `[B]` bool; False where B's pathology was null, so that its posterior was unused.

  Returns:
    `[B]`.
  """
  def half(posterior: Posterior, slots: slice) -> Posterior:
    return jax.tree.map(lambda a: a[..., slots, :], posterior)

  def agreement(source: Posterior, slots: slice) -> Array:
    return kl_between(jax.lax.stop_gradient(half(source, slots)), half(again, slots))

  pathology = agreement(pathology_from, slice(-1, None))
  return agreement(identity_from, slice(None, -1)) + jnp.where(
      jnp.asarray(has_pathology, bool), pathology, 0.0)
