"""The same lesion on the other side of the body.

The lungs are near mirror images of each other, so a lesion laid over the other lung is a picture of
a finding that the data may never have shown there. Copying lesions to new places is an old
augmentation (Ghiasi et al., "Simple Copy-Paste", arXiv:2012.07177); here the autoencoder says what
is lesion, and nobody has to draw masks.
"""

import jax.numpy as jnp

from cdjax.core.images import dilate, from_unit, gaussian_blur, to_unit
from cdjax.core.types import Array, FindingsArrays

_LESION = 0.04   # of an image in [0, 1], by which a lesion changes a pixel at least
_MARGIN = 2.0   # pixels at 64 px, around it


def can_mirror(findings: FindingsArrays) -> Array:
  """`[B]` bool: there is a finding, and the side of every finding that is present is known.

  A finding without side (an enlarged heart) has no other side to be on.
  """
  return findings.any_present & (~findings.present | (findings.side > 0)).all(-1)


def mirror_findings(findings: FindingsArrays) -> FindingsArrays:
  """Left for right in `[B, K]` findings; status, zone and severity stay."""
  left, right = findings.side & 1, findings.side & 2
  return findings.replace(side=((left << 1) | (right >> 1)).astype(findings.side.dtype))


def mirror_lesion(x: Array, explained: Array, healthy: Array) -> tuple[Array, Array]:
  """Cuts a lesion out of a radiograph and lays it over the other side.

  What is cut out is the radiograph's own: all its detail and grain, where the model says that the
  lesion is. It leaves the healthy film behind.

  Args:
    x: images `[B, H, W, 1]` in [-1, 1].
    explained: what the model paints of them, in [0, 1].
    healthy: the same without lesion.

  Returns:
    x with its lesion on the other side, in [-1, 1], and the healthy film with it there, in [0, 1].
  """
  pixel = x.shape[1] / 64.0
  where = dilate(jnp.abs(explained - healthy) > _LESION, round(_MARGIN * pixel))
  where = gaussian_blur(where.astype(jnp.float32), _MARGIN / 2 * pixel)
  lesion = where * (to_unit(x) - healthy)
  turned = lesion[:, :, ::-1]
  return from_unit(to_unit(x) - lesion + turned), healthy + turned
