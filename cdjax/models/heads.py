"""Small heads on the latents: findings from the pathology, adversaries, embeddings."""

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from cdjax.core.types import SIDES, ZONES, Array
from cdjax.models.layers import dense


@flax.struct.dataclass
class FindingsLogits:
  """What a head or classifier says of K findings.

  Attributes:
    status: `[B, K]` logits of presence.
    side: `[B, K, 2]` logits, left and right.
    zone: `[B, K, 3]` logits, upper, mid and lower.
    severity: `[B, K]` in [0, 1].
  """

  status: Array
  side: Array
  zone: Array
  severity: Array


class FindingsReadout(nn.Module):
  """From a feature vector `[B, D]` to `FindingsLogits` of `num_findings` names."""

  num_findings: int

  @nn.compact
  def __call__(self, h: Array) -> FindingsLogits:
    k = self.num_findings
    h = h.astype(jnp.float32)
    return FindingsLogits(
        status=dense(k, name="status")(h),
        side=dense(k * len(SIDES), name="side")(h).reshape(-1, k, len(SIDES)),
        zone=dense(k * len(ZONES), name="zone")(h).reshape(-1, k, len(ZONES)),
        severity=nn.sigmoid(dense(k, name="severity")(h)),
    )


class LatentFindingsHead(nn.Module):
  """Findings from latents `[B, h, w, ...]`; the whole grid is read, since place matters."""

  num_findings: int
  width: int = 128

  @nn.compact
  def __call__(self, z: Array) -> FindingsLogits:
    h = z.reshape(z.shape[0], -1)
    h = nn.silu(dense(self.width, name="hidden")(h))
    return FindingsReadout(self.num_findings, name="readout")(h)


class LatentEmbedding(nn.Module):
  """A unit vector `[B, width]` from latents `[B, h, w, ...]`, for contrastive losses."""

  width: int = 64

  @nn.compact
  def __call__(self, z: Array) -> Array:
    h = z.reshape(z.shape[0], -1)
    h = nn.silu(dense(2 * self.width, name="hidden")(h))
    h = dense(self.width, name="out")(h)
    return h / jnp.maximum(jnp.linalg.norm(h, axis=-1, keepdims=True), 1e-6)
