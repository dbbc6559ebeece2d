"""The same lesion on the other side of the body.

The lungs are near mirror images of each other, so a lesion laid over the other lung is a picture of
a finding that the data may never have shown there. Copying lesions to new places is an old
augmentation (Ghiasi et al., "Simple Copy-Paste", arXiv:2012.07177); here the layers of the
autoencoder are the cut-out, and nobody has to draw masks.
"""

from cdjax.core.types import Array, FindingsArrays
from cdjax.models.disentangled import Layers


def can_mirror(findings: FindingsArrays) -> Array:
  """`[B]` bool: there is a finding, and the side of every finding that is present is known.

  A finding without side (an enlarged heart) has no other side to be on.
  """
  return findings.any_present & (~findings.present | (findings.side > 0)).all(-1)


def mirror_findings(findings: FindingsArrays) -> FindingsArrays:
  """Left for right in `[B, K]` findings; status, zone and severity stay."""
  left, right = findings.side & 1, findings.side & 2
  return findings.replace(side=((left << 1) | (right >> 1)).astype(findings.side.dtype))


def mirror_lesion(layers: Layers) -> Layers:
  """The lesion and its opacity on the other side of the same film."""
  turn = lambda image: image[:, :, ::-1]
  return layers.replace(lesion=turn(layers.lesion), opacity=turn(layers.opacity))
