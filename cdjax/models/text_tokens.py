"""Findings as words: the states of a text encoder for the phrase of each finding.

What can be asked for is finite: a name, a degree, a side and zones. So every phrase ("large left
lower pleural effusion") goes through the tokenizer, and a text encoder, once and beforehand;
the network looks its rows up. Phrases are read one by one, so that what is said of one finding
cannot be taken for another's.
"""

from collections.abc import Sequence

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import numpy as np

from cdjax.core.types import PRESENT, SIDES, ZONES, Array, FindingsArrays
from cdjax.findings import Finding, get_ontology, mask_side, mask_zones, render_finding
from cdjax.models.layers import dense
from cdjax.models.text import TextEncoder

_SIDES, _ZONES = 2 ** len(SIDES), 2 ** len(ZONES)
_BATCH = 256
_FIELDS = ("row", "degrees", "states", "mask")


@flax.struct.dataclass
class PhraseTable:
  """Every phrase over a vocabulary of K names.

  Attributes:
    row: `[K, S+1, P]` int32, the phrase of a finding, its degree (0: unsaid) and its place (side
      mask · 2^zones + zone mask).
    degrees: `[K, S]` float32, the severities that have words.
    states: `[U, L, D]` float32, of the tokens of the U different phrases.
    mask: `[U, L]` bool.
  """

  row: Array
  degrees: Array
  states: Array
  mask: Array


def phrases(vocabulary: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
  """The different phrases, and `row` and `degrees` of `PhraseTable`.

  A place that a finding cannot have is left unsaid.
  """
  ontology, index = get_ontology(), {}
  scales = [[ontology.severity[word] for word in ontology.scales[ontology.findings[name].scale]]
            for name in vocabulary]
  degrees = np.asarray(scales, np.float32)
  row = np.zeros((len(vocabulary), degrees.shape[1] + 1, _SIDES * _ZONES), np.int32)
  for k, name in enumerate(vocabulary):
    entry = ontology.findings[name]
    for s, severity in enumerate([None, *scales[k]]):
      for place in range(_SIDES * _ZONES):
        side, zones = mask_side(place // _ZONES), mask_zones(place % _ZONES)
        text = render_finding(Finding(
            name, severity=severity, laterality=side if entry.side else None,
            zones=zones if entry.zone else ()))
        row[k, s, place] = index.setdefault(text, len(index))
  return list(index), row, degrees


def make_table(vocabulary: Sequence[str], encoder: TextEncoder, length: int) -> PhraseTable:
  """Reads every phrase with a text encoder.

  Args:
    vocabulary: K canonical names.
    encoder: of `load_text_encoder`.
    length: L, tokens of a phrase at most.

  Raises:
    ValueError: a phrase has more tokens than `length`; names the longest.
  """
  texts, row, degrees = phrases(vocabulary)
  sizes = [len(tokens) for tokens in encoder.tokenizer(texts)["input_ids"]]
  if max(sizes) > length:
    longest = texts[int(np.argmax(sizes))]
    raise ValueError(f"length={length} tokens; the phrase {longest!r} has {max(sizes)}")
  parts = [encoder.encode(texts[i:i + _BATCH], length) for i in range(0, len(texts), _BATCH)]
  states, mask = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in (0, 1))
  return PhraseTable(row, degrees, states, mask)


def save_table(path, table: PhraseTable) -> None:
  """Writes the table as a plain `.npz` file."""
  np.savez(path, **{name: np.asarray(getattr(table, name)) for name in _FIELDS})


def load_table(path) -> PhraseTable:
  """Reads what `save_table` wrote."""
  with np.load(path, allow_pickle=False) as arrays:
    return PhraseTable(**{name: arrays[name] for name in _FIELDS})


class TextTokens(nn.Module):
  """`FindingsArrays` `[B, K]` → (context `[B, M·L, width]`, mask `[B, M·L]` bool).

  Attributes:
    width: of the context.
    max_findings: M; of more present findings the last in the vocabulary's order go unsaid.
  """

  width: int
  max_findings: int

  @nn.compact
  def __call__(self, findings: FindingsArrays, table: PhraseTable) -> tuple[Array, Array]:
    present = findings.status == PRESENT
    most = min(self.max_findings, present.shape[-1])
    degree = jnp.argmin(jnp.abs(findings.severity[..., None] - table.degrees), -1) + 1
    degree = jnp.where(findings.severity >= 0, degree, 0)
    place = findings.side.astype(jnp.int32) * _ZONES + findings.zone.astype(jnp.int32)
    rows = jnp.asarray(table.row)[jnp.arange(present.shape[-1]), degree, place]
    first = jnp.argsort(~present, axis=-1, stable=True)[:, :most]
    rows, said = (jnp.take_along_axis(a, first, -1) for a in (rows, present))   # [B, M]
    mask = jnp.asarray(table.mask)[rows]
    states = jnp.asarray(table.states)[rows]
    mask = (mask & said[..., None]).reshape(len(mask), -1)
    context = dense(self.width, ("norm", "embed"), name="project")(states)
    return context.reshape(*mask.shape, self.width), mask
