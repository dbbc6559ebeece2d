"""What is wrong with the patient in one study, and the draws that the findings leave open."""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.rng import stream
from cdjax.core.types import ABSENT, PRESENT, Array, FindingsArrays
from cdjax.data.phantom.vocabulary import (
  PHANTOM_FINDINGS,
  SIDE_BITS,
  ZONE_BITS,
  check_vocabulary,
  place_table,
)

NUM_HIDDEN = 12
MIN_SEVERITY = 0.25


@flax.struct.dataclass
class Pathology:
  """One study's findings over a vocabulary of K names; unbatched leaves.

  Attributes:
    present: `[K]` bool.
    severity: `[K]` float32 in [0.25, 1]; 0 where absent.
    side: `[K]` int8 bit mask (1 left, 2 right, 3 both); 0 where absent or without side.
    zone: `[K]` int8 bit mask (1 upper, 2 mid, 4 lower); 0 where absent or without zone.
    hidden: `[K, NUM_HIDDEN]` float32 in [0, 1): exact place, shape and texture (`u_path`).
  """

  present: Array
  severity: Array
  side: Array
  zone: Array
  hidden: Array


def _assemble(
    present: Array, severity: Array, side: Array, zone: Array, hidden: Array
) -> Pathology:
  """A pathology whose absent findings have no severity, side or zone."""
  zero = jnp.int8(0)
  return Pathology(
      present=present,
      severity=jnp.where(present, severity, 0.0).astype(jnp.float32),
      side=jnp.where(present, side, zero).astype(jnp.int8),
      zone=jnp.where(present, zone, zero).astype(jnp.int8),
      hidden=hidden,
  )


def _draw(
    key: jax.Array, vocabulary: Sequence[str], held_out: Sequence[str] = ()
) -> tuple[Array, Array, Array, Array, Array]:
  """Everything that can be drawn for each finding, from one random call (they compile slowly).

  Returns:
    severity `[K]`, side `[K]`, zone `[K]`, hidden `[K, NUM_HIDDEN]`, and 2 numbers in [0, 1) for
    each finding, `[K, 2]`.
  """
  sides, zones, counts = place_table(vocabulary, held_out)
  size = len(vocabulary)
  draw = jax.random.uniform(stream(key, "pathology"), (size, NUM_HIDDEN + 4))
  severity = MIN_SEVERITY + (1.0 - MIN_SEVERITY) * draw[:, 0]
  place = jnp.minimum((draw[:, 1] * counts).astype(jnp.int32), counts - 1)
  rows = jnp.arange(size)
  side, zone = jnp.asarray(sides)[rows, place], jnp.asarray(zones)[rows, place]
  return severity, side, zone, draw[:, 4:], draw[:, 2:4]


def sample_pathology(
    key: jax.Array,
    *,
    vocabulary: Sequence[str],
    healthy_share: float = 0.3,
    multiple_share: float = 0.1,
    frequencies: Sequence[float] = (),
    held_out_combinations: Sequence[str] = (),
) -> Pathology:
  """Draws one study's findings.

  Args:
    key: of the study.
    vocabulary: K finding names.
    healthy_share: probability of no finding.
    multiple_share: probability of two or more (three in a fifth of them, where K allows it).
    frequencies: relative frequency of each finding, `[K]`; () for equal ones. Several findings are
      drawn one after another without putting back.
    held_out_combinations: "finding side zone" strings that are never drawn.

  Raises:
    ValueError: shares outside [0, 1], or frequencies of another length, negative, or all 0.
  """
  vocabulary = check_vocabulary(vocabulary)
  size = len(vocabulary)
  frequencies = np.asarray(frequencies if len(frequencies) else np.ones(size), np.float32)
  if frequencies.shape != (size,) or (frequencies < 0).any() or not frequencies.any():
    raise ValueError(f"frequencies={frequencies.tolist()}; expected {size} numbers >= 0, not all 0")
  if min(healthy_share, multiple_share) < 0 or healthy_share + multiple_share > 1:
    raise ValueError(f"healthy_share={healthy_share}, multiple_share={multiple_share}; "
                     "expected shares in [0, 1] that sum to at most 1")
  severity, side, zone, hidden, spare = _draw(key, vocabulary, held_out_combinations)
  draw = spare[0, 1]
  count = jnp.where(draw < healthy_share, 0, 1)
  count = jnp.where(draw > 1 - multiple_share, 2, count)
  count = jnp.where(draw > 1 - 0.2 * multiple_share, 3, count)
  with np.errstate(divide="ignore"):
    log_frequencies = np.log(frequencies)
  # The order of Gumbel-perturbed log weights is the order of draws without putting back.
  gumbel = -jnp.log(-jnp.log(jnp.clip(spare[:, 0], 1e-12, 1.0 - 1e-7)))
  score = log_frequencies + gumbel
  rank = jnp.argsort(jnp.argsort(-score))
  present = (rank < count) & (frequencies > 0)
  return _assemble(present, severity, side, zone, hidden)


def _allowed(asked: Array, drawn: Array, bits: np.ndarray) -> Array:
  """Keeps what was asked as far as the finding can have it, else takes the draw; `[K]`."""
  asked = asked.astype(jnp.int8) & jnp.asarray(bits)
  return jnp.where(asked == 0, drawn, asked)


def pathology_from_findings(
    findings: FindingsArrays, key: jax.Array, *, vocabulary: Sequence[str]
) -> Pathology:
  """A pathology with these findings; what they leave open is drawn.

  Args:
    findings: of one example, leaves `[K]`; uncertain findings count as absent.
    key: for unknown sides, zones and severities, and for the hidden draws.
    vocabulary: K finding names.

  Returns:
    The pathology. A side or zone that the finding cannot have is dropped; a finding that is always
    on both sides is so whatever was asked.
  """
  vocabulary = check_vocabulary(vocabulary)
  drawn_severity, drawn_side, drawn_zone, hidden, _ = _draw(key, vocabulary)
  specs = [PHANTOM_FINDINGS[name] for name in vocabulary]
  union = lambda names, table: sum(table[n] for n in names if n != "both")
  side_bits = np.asarray([union(s.sides, SIDE_BITS) for s in specs], np.int8)
  zone_bits = np.asarray([union(s.zones, ZONE_BITS) for s in specs], np.int8)
  severity = jnp.asarray(findings.severity, jnp.float32)
  severity = jnp.where(severity < 0, drawn_severity, severity)
  return _assemble(
      jnp.asarray(findings.status) == PRESENT,
      severity,
      _allowed(jnp.asarray(findings.side), drawn_side, side_bits),
      _allowed(jnp.asarray(findings.zone), drawn_zone, zone_bits),
      hidden)


def findings_of(pathology: Pathology) -> FindingsArrays:
  """The findings that a perfect reader would report; leaves `[K]`."""
  return FindingsArrays(
      status=jnp.where(pathology.present, PRESENT, ABSENT).astype(jnp.int8),
      severity=jnp.where(pathology.present, pathology.severity, -1.0).astype(jnp.float32),
      side=pathology.side,
      zone=pathology.zone,
  )


def redraw_hidden(pathology: Pathology, key: jax.Array, which: Array) -> Pathology:
  """The same findings with another hidden draw where `which` (`[K]` bool) says so."""
  fresh = jax.random.uniform(stream(key, "hidden"), pathology.hidden.shape)
  return pathology.replace(hidden=jnp.where(which[:, None], fresh, pathology.hidden))


def healthy_like(pathology: Pathology) -> Pathology:
  """The same study without any finding."""
  return _assemble(jnp.zeros_like(pathology.present), pathology.severity, pathology.side,
                   pathology.zone, pathology.hidden)
