"""Findings as tokens for cross-attention, and as a map of the asked regions.

One token per finding of the vocabulary, made of its name and status, its side and zone (together:
"left lower" is one place, not two words; and each as this finding has it) and its severity. A
finding of unknown status has a masked token; a first token that says nothing keeps the context from
being empty.
"""

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import PRESENT, SIDES, UNKNOWN, ZONES, Array, FindingsArrays
from cdjax.models.layers import dense

_SIDES, _ZONES = 2 ** len(SIDES), 2 ** len(ZONES)


def labels_only(findings: FindingsArrays) -> FindingsArrays:
  """Forgets side, zone and severity (ablation `condition.findings = "labels"`)."""
  return FindingsArrays(
      status=findings.status,
      severity=jnp.full_like(findings.severity, -1.0),
      side=jnp.zeros_like(findings.side),
      zone=jnp.zeros_like(findings.zone),
  )


class FindingsEncoder(nn.Module):
  """`FindingsArrays` [B, K] -> (ctx `[B, K+1, D]`, ctx_mask `[B, K+1]` bool).

  Attributes:
    num_findings: K.
    width: D.
  """

  num_findings: int
  width: int

  @nn.compact
  def __call__(self, findings: FindingsArrays) -> tuple[Array, Array]:
    k = self.num_findings
    if findings.status.shape[-1] != k:
      raise ValueError(f"findings have {findings.status.shape[-1]} names; the model knows {k}")
    table = lambda name, rows: self.param(
        name, nn.with_logical_partitioning(nn.initializers.normal(0.5), ("norm", "embed")),
        (rows, self.width))
    present = findings.status == PRESENT
    status = present.astype(jnp.int32)
    name_status = table("name_status", 2 * k)[2 * jnp.arange(k) + status]
    side, zone = findings.side.astype(jnp.int32), findings.zone.astype(jnp.int32)
    # What a side or a zone is to a finding ("upper" of a lung is not "upper" of the heart), and
    # what both together are to all of them: no place of a finding has a row that only it can train.
    names = jnp.arange(k)
    places = (table("place", _SIDES * _ZONES)[side * _ZONES + zone]
              + table("name_side", k * _SIDES)[names * _SIDES + side]
              + table("name_zone", k * _ZONES)[names * _ZONES + zone])
    known = (findings.severity >= 0)[..., None]
    severity = jnp.clip(findings.severity, 0.0, 1.0)[..., None]
    # A few harmonics tell close severities apart.
    waves = jnp.concatenate([jnp.cos(jnp.pi * i * severity) for i in range(1, 5)], axis=-1)
    waves = jnp.where(known, waves, 0.0)
    graded = dense(self.width, ("norm", "embed"), name="severity")(waves)
    details = places + jnp.where(known, graded, 0.0)
    tokens = name_status + jnp.where(present[..., None], details, 0.0)
    first = jnp.broadcast_to(table("start", 1)[None], (tokens.shape[0], 1, self.width))
    mask = findings.status != UNKNOWN
    tokens = jnp.concatenate([first, tokens], axis=1)
    return tokens, jnp.concatenate([jnp.ones_like(mask[:, :1]), mask], axis=1)


def region_map(findings: FindingsArrays, height: int, width: int) -> Array:
  """Where each present finding is asked to be: `[B, h, w, K]` in [0, 1].

  The patient's right is the picture's left. Zones are thirds of the lungs' usual height. A finding
  without side or zone fills the picture; its severity scales the map (1 where unknown).
  """
  rows = (jnp.arange(height) + 0.5) / height
  columns = (jnp.arange(width) + 0.5) / width
  soft = lambda edge, at: nn.sigmoid(24.0 * (at - edge))
  edges = (-1.0, 0.38, 0.58, 2.0)
  zone_maps = jnp.stack([soft(edges[i], rows) - soft(edges[i + 1], rows) for i in range(3)])
  right_of_patient = 1.0 - soft(0.5, columns)
  side_maps = jnp.stack([1.0 - right_of_patient, right_of_patient])

  def bits(mask, n):
    return ((mask[..., None].astype(jnp.int32) >> jnp.arange(n)) & 1).astype(jnp.float32)

  side_bits, zone_bits = bits(findings.side, len(SIDES)), bits(findings.zone, len(ZONES))
  side = jnp.where((findings.side == 0)[..., None], 1.0, side_bits @ side_maps)
  zone = jnp.where((findings.zone == 0)[..., None], 1.0, zone_bits @ zone_maps)
  strength = jnp.where(findings.severity >= 0, findings.severity, 1.0)
  strength = jnp.where(findings.status == PRESENT, strength, 0.0)
  return jnp.einsum("bkh,bkw,bk->bhwk", zone, side, strength)
