"""Lesions on the side where the data may never have shown them, rebuilt like any other.

Without this the pathology slot learns which lesion to expect at a place, and draws that one there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.images import to_unit
from cdjax.core.types import Array
from cdjax.losses.findings import findings_loss, location_loss, severity_loss
from cdjax.losses.kl import kl_to_standard_normal
from cdjax.losses.reconstruction import gaussian_nll
from cdjax.models.disentangled import Layers, join
from cdjax.models.mirrored import can_mirror, mirror_findings, mirror_lesion
from cdjax.train.objectives.credit import credited

_SHARE = 4   # one image in so many is turned: a whole pass through the network more costs too much


def mirrored_terms(key: jax.Array, group, layers: Layers, z: Array, code: Array, apply: Callable,
                   take: Callable, *, weights: ConfigDict, price: Array) -> Array:
  """`mirror`, `[N / 4]` in nats: what a turned image and its findings cost, at the usual prices.

  The film under the lesion is given, so that nothing that makes a film learns from it.

  Args:
    key: of the draw of the latents.
    group: a `Group` of N images; those whose lesion can be turned come first.
    layers: what is painted of them.
    z: the latents that they are painted from, `[N, h, w, n, c]`.
    code: acquisition, `[N, a]`.
    apply: `(name, *args, method)` of the modules.
    take: `(key, posterior) -> latents`.
    weights: `config.autoencoder.loss`.
    price: of information at this step, as a factor.
  """
  allowed = can_mirror(group.findings)
  rows = jnp.argsort(~allowed)[:max(len(allowed) // _SHARE, 1)]
  x, layers, z, code, view, findings = jax.tree.map(
      lambda a: jax.lax.stop_gradient(a[rows]),
      (group.x, layers, z, code, group.view, mirror_findings(group.findings)))
  observe = lambda layers: apply("autoencoder", layers, code, method="observe")
  healthy = layers.replace(opacity=jnp.zeros_like(layers.opacity))
  turned, target = jax.lax.stop_gradient(
      mirror_lesion(x, to_unit(observe(layers)), to_unit(observe(healthy))))
  posterior = apply("autoencoder", turned, method="encode").pathology
  z_path = take(key, posterior)
  again = apply("autoencoder", join(z[..., :-1, :], z_path), view, method="paint")
  x_hat = observe(credited(again.replace(film=layers.film), weights))
  nats = gaussian_nll(target, to_unit(x_hat), sigma=weights.sigma)
  nats += price * weights.kl_pathology * kl_to_standard_normal(posterior)
  if weights.findings or weights.location or weights.severity:
    logits = apply("findings_head", z_path)
    nats += weights.findings * findings_loss(logits.status, findings.status)
    nats += weights.location * location_loss(logits.side, logits.zone, findings)
    nats += weights.severity * severity_loss(logits.severity, findings)
  return jnp.where(allowed[rows], nats, 0.0)
