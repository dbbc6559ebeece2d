"""The swaps between patients: equal findings exchanged, and the cycle through a made-up image.

Ge et al., "Zero-shot Synthesis with Group-Supervised Learning", arXiv:2009.06586: the one-overlap
swap and the cycle swap, here on posteriors, with agreement measured in nats.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cdjax.core.images import to_unit
from cdjax.core.types import Array, FindingsArrays
from cdjax.losses.anchor import null_pathology
from cdjax.losses.kl import posterior_sample
from cdjax.losses.reconstruction import gaussian_nll
from cdjax.losses.swap import cycle_agreement, same_details, same_findings, swap_slots

_IDENTITY, _PATHOLOGY = slice(0, -1), slice(-1, None)


def partner_with_equal_findings(key: jax.Array, findings: FindingsArrays) -> tuple[Array, Array]:
  """For each image another with exactly the same findings present.

  Args:
    key: chooses among several.
    findings: `[N, K]`.

  Returns:
    index `[N]` int32 (the image itself where there is none) and found `[N]` bool; images without
    finding and with unknown findings have no partner.
  """
  n = findings.status.shape[0]
  rows = jnp.arange(n)
  row, column = jnp.repeat(rows, n), jnp.tile(rows, n)
  at = lambda index: jax.tree.map(lambda a: a[index], findings)
  same = same_findings(at(row), at(column)).reshape(n, n) & ~jnp.eye(n, dtype=bool)
  score = jnp.where(same, jax.random.uniform(key, (n, n)), -1.0)
  found = same.any(-1)
  return jnp.where(found, jnp.argmax(score, -1), rows), found


def same_findings_terms(key: jax.Array, group, encoding, z: Array, code: Array, decode: Callable,
                        *, sigma: float) -> Array:
  """`swap_same_findings`, `[N]` in nats.

  The pooled pathology of two images with equal findings agrees; where place and severity agree
  too, the image is also rebuilt with the partner's pathology.

  Args:
    key: chooses the partners.
    group: a `Group` of N images.
    encoding: their `Encoding`.
    z: the latents that rebuild them, `[N, h, w, n, c]`.
    code: acquisition, `[N, a]`.
    decode: `(z, code, view) -> image`.
    sigma: of the likelihood.
  """
  index, found = partner_with_equal_findings(key, group.findings)
  partner = jax.tree.map(lambda a: a[index], group.findings)
  pooled = encoding.pathology.mean.mean((1, 2))
  agreement = 0.5 * jnp.sum((pooled - pooled[index]) ** 2, -1)
  x_hat = decode(swap_slots(z, index, slots=_PATHOLOGY), code, group.view)
  rebuilt = gaussian_nll(to_unit(group.x), to_unit(x_hat), sigma=sigma)
  rebuilt = jnp.where(same_details(group.findings, partner), rebuilt, 0.0)
  return jnp.where(found, agreement + rebuilt, 0.0)


def cycle_swap_terms(key: jax.Array, group, null: Array, encoding, z: Array, code: Array,
                     encode: Callable, decode: Callable, *, sigma: float) -> Array:
  """`cycle_swap`, `[N]` in nats.

  A's identity with B's pathology is decoded and encoded again: its identity posterior must be A's
  and its pathology posterior B's; with A's own pathology put back it must rebuild A. Arguments as
  `same_findings_terms`; `null` `[N]` bool says whose pathology is null, `encode` is
  `image -> Encoding`.
  """
  n = group.x.shape[0]
  other = (jnp.arange(n) + jax.random.randint(key, (), 1, n)) % n
  made = decode(swap_slots(z, other, slots=_PATHOLOGY), code, group.view)
  again = encode(made)
  pathology_from = jax.tree.map(lambda a: a[other], encoding.slots)
  agreement = cycle_agreement(again.slots, encoding.slots, pathology_from,
                              has_pathology=~null[other])
  z_again = posterior_sample(jax.random.fold_in(key, 1), again.slots)
  back = jnp.concatenate([z_again[..., _IDENTITY, :], z[..., _PATHOLOGY, :]], -2)
  x_hat = decode(null_pathology(back, null), code, group.view)
  return agreement + gaussian_nll(to_unit(group.x), to_unit(x_hat), sigma=sigma)
