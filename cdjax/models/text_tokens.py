"""Findings as words: the states of a text encoder for the phrase of each finding.

What can be asked for is finite: a name, a degree, a side and zones. So every phrase ("large left
lower pleural effusion") goes through the tokenizer, and a text encoder, once and beforehand;
the network looks its rows up. An encoder that learns too reads the phrases of each batch anew, and
all of them once it has learnt. Phrases are read one by one, so that what is said of one finding
cannot be taken for another's.
"""

from collections.abc import Callable, Sequence

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
_FIELDS = ("row", "degrees", "states", "mask", "ids")


@flax.struct.dataclass
class PhraseTable:
  """Every phrase over a vocabulary of K names.

  Attributes:
    row: `[K, S+1, P]` int32, the phrase of a finding, its degree (0: unsaid) and its place (side
      mask · 2^zones + zone mask).
    degrees: `[K, S]` float32, the severities that have words.
    states: `[U, L, D]` float32, of the tokens of the U different phrases.
    mask: `[U, L]` bool.
    ids: `[U, L]` int32, the tokens.
  """

  row: Array
  degrees: Array
  states: Array
  mask: Array
  ids: Array


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
  ids, mask = encoder.tokenize(texts, length)
  return PhraseTable(row, degrees, read_states(encoder.apply, ids, mask), mask, ids)


def read_states(apply: Callable, ids: Array, mask: Array) -> np.ndarray:
  """States `[U, L, D]` float32 of tokens `[U, L]`; `apply(ids, mask)` takes some at a time."""
  return np.concatenate([np.asarray(apply(jnp.asarray(ids[i:i + _BATCH]),
                                          jnp.asarray(mask[i:i + _BATCH])), np.float32)
                         for i in range(0, len(ids), _BATCH)])


def asked_phrases(findings: FindingsArrays, table: PhraseTable, most: int) -> tuple[Array, Array]:
  """Which phrases say findings `[B, K]`: rows `[B, M]`, and whether each is said, `[B, M]` bool.

  Of more than `most` present findings the last in the vocabulary's order go unsaid.
  """
  present = findings.status == PRESENT
  degree = jnp.argmin(jnp.abs(findings.severity[..., None] - table.degrees), -1) + 1
  degree = jnp.where(findings.severity >= 0, degree, 0)
  place = findings.side.astype(jnp.int32) * _ZONES + findings.zone.astype(jnp.int32)
  rows = jnp.asarray(table.row)[jnp.arange(present.shape[-1]), degree, place]
  first = jnp.argsort(~present, axis=-1, stable=True)[:, :most]
  return tuple(jnp.take_along_axis(a, first, -1) for a in (rows, present))


def read_anew(apply: Callable, findings: FindingsArrays, table: PhraseTable, most: int
              ) -> PhraseTable:
  """The table of the phrases that a batch needs, with states that an encoder gives them now.

  Args:
    apply: `(ids [U, L], mask [U, L]) -> [U, L, D]`; gradients go through it.
    findings: `[B, K]`.
    table: of all phrases; its states are not read.
    most: M, findings of an image whose phrases are read.

  Returns:
    A table of `B * M` phrases; rows of phrases that no finding needs are meaningless.
  """
  rows, _ = asked_phrases(findings, table, most)
  needed = jnp.unique(rows, size=rows.size, fill_value=0)
  place = jnp.zeros(len(table.ids), jnp.int32).at[needed].set(
      jnp.arange(rows.size, dtype=jnp.int32))
  ids, mask = (jnp.asarray(a)[needed] for a in (table.ids, table.mask))
  return PhraseTable(place[jnp.asarray(table.row)], table.degrees,
                     apply(ids, mask).astype(jnp.float32), mask, ids)


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
    rows, said = asked_phrases(findings, table, self.max_findings)
    mask = jnp.asarray(table.mask)[rows]
    states = jnp.asarray(table.states)[rows]
    mask = (mask & said[..., None]).reshape(len(mask), -1)
    context = dense(self.width, ("norm", "embed"), name="project")(states)
    return context.reshape(*mask.shape, self.width), mask
