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


_NUMBERS = 1 + len(SIDES) + len(ZONES) + 1   # of a finding: status, side, zone, severity


def read_out(numbers: Array) -> FindingsLogits:
  """What `[B, K, 7]` numbers say of K findings."""
  status, side, zone, severity = jnp.split(
      numbers.astype(jnp.float32), [1, 1 + len(SIDES), _NUMBERS - 1], axis=-1)
  return FindingsLogits(status=status[..., 0], side=side, zone=zone,
                        severity=nn.sigmoid(severity[..., 0]))


class FindingsReadout(nn.Module):
  """From a feature vector `[B, D]` to numbers `[B, K, 7]` for `read_out`."""

  num_findings: int

  @nn.compact
  def __call__(self, h: Array) -> Array:
    sizes = {"status": 1, "side": len(SIDES), "zone": len(ZONES), "severity": 1}
    return jnp.concatenate([
        dense(self.num_findings * size, name=name)(h.astype(jnp.float32)).reshape(
            -1, self.num_findings, size) for name, size in sizes.items()], -1)


class AttentionReadout(nn.Module):
  """From features `[B, h, w, C]` of any size to numbers `[B, K, 7]` for `read_out`.

  Each finding looks where it is: a mean over places with learnt weights of its own (attention-based
  pooling, Ilse et al., arXiv:1802.04712). A small lesion would drown in a mean over everything.
  """

  num_findings: int
  dropout: float

  @nn.compact
  def __call__(self, h: Array, *, deterministic: bool = True) -> Array:
    h = h.reshape(h.shape[0], -1, h.shape[-1]).astype(jnp.float32)
    where = nn.softmax(dense(self.num_findings, name="where")(h), axis=1)
    h = jnp.einsum("bnk,bnc->bkc", where, h)
    h = nn.Dropout(self.dropout, deterministic=deterministic)(h)
    kernel = self.param("what", nn.initializers.lecun_normal(batch_axis=0),
                        (self.num_findings, h.shape[-1], _NUMBERS))
    return jnp.einsum("bkc,kcn->bkn", h, kernel)


class LatentFindingsHead(nn.Module):
  """Findings from latents `[B, h, w, ...]`; the whole grid is read, since place matters."""

  num_findings: int
  width: int = 128

  @nn.compact
  def __call__(self, z: Array) -> FindingsLogits:
    h = z.reshape(z.shape[0], -1)
    h = nn.silu(dense(self.width, name="hidden")(h))
    return read_out(FindingsReadout(self.num_findings, name="readout")(h))


class LatentEmbedding(nn.Module):
  """A unit vector `[B, width]` from latents `[B, h, w, ...]`, for contrastive losses."""

  width: int = 64

  @nn.compact
  def __call__(self, z: Array) -> Array:
    h = z.reshape(z.shape[0], -1)
    h = nn.silu(dense(2 * self.width, name="hidden")(h))
    h = dense(self.width, name="out")(h)
    return h / jnp.maximum(jnp.linalg.norm(h, axis=-1, keepdims=True), 1e-6)
