"""Findings as words: rows of the table, what the network reads of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.findings import findings_to_arrays, parse_findings
from cdjax.models.denoiser import drop_findings, make_denoiser
from cdjax.models.text_tokens import (
    PhraseTable,
    TextTokens,
    load_table,
    make_table,
    phrases,
    read_anew,
    save_table,
)

VOCABULARY = ("pleural_effusion", "nodule", "cardiomegaly")
KEY = jax.random.key(0)
VECTORS = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)


class Words:
  """A text encoder that knows its words by heart: a token a word, a random vector a token."""

  def __init__(self):
    self.seen = {}

  def _ids(self, text):
    return [self.seen.setdefault(word, len(self.seen) + 1) for word in text.split()]

  def tokenizer(self, texts):
    return {"input_ids": [self._ids(text) for text in texts]}

  def tokenize(self, texts, length):
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts, strict=True):
      row[:len(self._ids(text))] = self._ids(text)
    return ids, ids > 0

  def apply(self, ids, mask):
    return jnp.asarray(VECTORS)[ids] * mask[..., None]


def arrays(*texts):
  return findings_to_arrays([parse_findings(text) for text in texts], VOCABULARY)


def test_every_finding_has_the_phrase_that_its_arrays_say():
  texts, row, degrees = phrases(VOCABULARY)
  assert len(set(texts)) == len(texts) == row.max() + 1 and degrees.shape == (3, row.shape[1] - 1)
  place = lambda side, zone: side * 8 + zone
  large = 1 + int(np.argmin(np.abs(degrees[0] - 0.9)))
  assert texts[row[0, large, place(1, 4)]] == "large left lower pleural effusion"
  assert texts[row[1, 0, place(3, 3)]] == "bilateral upper and mid nodule"
  assert texts[row[2, 0, place(1, 2)]] == texts[row[2, 0, 0]] == "cardiomegaly"   # has no side


def test_the_network_reads_the_words_of_what_is_present_and_nothing_else():
  table = make_table(VOCABULARY, Words(), 8)
  module = TextTokens(5, max_findings=2)
  params = nn.unbox(module.init(KEY, arrays("healthy"), table))
  read = lambda *texts: module.apply(params, arrays(*texts), table)
  states, mask = read("large left lower pleural effusion; nodule", "nodule", "healthy")
  assert states.shape == (3, 16, 5) and mask.sum(1).tolist() == [6, 1, 0]
  alone, alone_mask = read("nodule")
  np.testing.assert_array_equal(states[0, 8:][mask[0, 8:]], alone[0][alone_mask[0]])
  graded = read("severity 0.88 left lower effusion", "severity 0.3 left lower effusion")[0]
  np.testing.assert_array_equal(graded[0, :5], states[0, :5])   # 0.88 is said as "large"
  assert np.abs(graded[1, 0] - states[0, 0]).max() > 0.1
  unsaid = module.apply(params, drop_findings(arrays("nodule"), jnp.asarray([True])), table)
  assert not unsaid[1].any()


def test_a_batch_reads_its_phrases_anew_and_gradients_come_back():
  encoder = Words()
  table = make_table(VOCABULARY, encoder, 8)
  module = TextTokens(5, max_findings=2)
  asked = arrays("large left lower pleural effusion; nodule", "nodule", "healthy", "right effusion")
  params = nn.unbox(module.init(KEY, asked, table))
  kept = module.apply(params, asked, table)
  forgotten = table.replace(states=jnp.zeros_like(table.states))

  def read(vectors):
    apply = lambda ids, mask: vectors[ids] * mask[..., None]
    return module.apply(params, asked, read_anew(apply, asked, forgotten, 2))

  states, mask = jax.jit(read)(jnp.asarray(VECTORS))
  np.testing.assert_array_equal(mask, kept[1])
  np.testing.assert_allclose(states[mask], kept[0][mask], atol=1e-6)
  slope = jax.grad(lambda vectors: (read(vectors)[0] ** 2)[mask].sum())(jnp.asarray(VECTORS))
  said = {word for text in ("large left lower pleural effusion", "nodule", "right pleural effusion")
          for word in text.split()}
  moved = set(np.flatnonzero(np.abs(slope).max(-1)).tolist())
  assert moved == {encoder.seen[word] for word in said}


def test_a_phrase_that_does_not_fit_is_named():
  with pytest.raises(ValueError, match=r"length=3 tokens; the phrase '.* pleural effusion' has"):
    make_table(VOCABULARY, Words(), 3)


def test_the_table_is_kept_beside_the_model(tmp_path):
  table = make_table(VOCABULARY, Words(), 8)
  save_table(tmp_path / "words.npz", table)
  again = load_table(tmp_path / "words.npz")
  assert isinstance(again, PhraseTable)
  jax.tree.map(np.testing.assert_array_equal, table, again)


def test_the_denoiser_follows_words_alone():
  config = base_config()
  with config.unlocked():
    config.data.vocabulary = VOCABULARY
    config.diffusion.model.update(dict(
        block_out_channels=(8,), attention_blocks=(True,), norm_num_groups=4, attention_heads=2,
        context_width=8))
    config.diffusion.condition.update(dict(tokens=False, region_map=False))
  table = make_table(VOCABULARY, Words(), 8)
  model = make_denoiser(config.diffusion, config.autoencoder.model, 3)
  rest = (jnp.ones((1, 4, 4, 4)), jnp.zeros(1, jnp.int32))
  identity = (jnp.zeros((1, 4, 4, 3, 4)), jnp.ones(1, bool))
  shapes = model.init(KEY, *rest, arrays("nodule"), *identity, table)
  leaves, tree = jax.tree.flatten(nn.unbox(shapes))
  params = jax.tree.unflatten(tree, [0.3 * jax.random.normal(jax.random.fold_in(KEY, i), a.shape)
                                     for i, a in enumerate(leaves)])
  ask = jax.jit(lambda findings, table: model.apply(params, *rest, findings, *identity, table))
  left, right = arrays("left nodule"), arrays("right nodule")
  assert np.abs(ask(left, table) - ask(right, table)).max() > 1e-3
  silent = table.replace(states=jnp.zeros_like(table.states))
  np.testing.assert_allclose(ask(left, silent), ask(right, silent), atol=1e-6)
