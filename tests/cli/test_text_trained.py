"""A text encoder that learns with the diffusion, and the words that it leaves."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import load_config
from cdjax.evaluate.trained import load_trained, make_subject
from cdjax.findings import findings_to_arrays, parse_findings
from cdjax.models.text import TextEncoder, make_tower
from cdjax.models.text_tokens import load_table
from cdjax.train.stages import STAGES, WORDS_FILE

SIZES = {"vocab_size": 64, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 16, "max_position_embeddings": 16, "type_vocab_size": 1}


class Words:
  """A tokenizer: a word a token."""

  def __init__(self):
    self.seen = {}

  def __call__(self, texts, **options):
    rows = [[self.seen.setdefault(word, len(self.seen) + 1) for word in text.split()]
            for text in texts]
    if not options:
      return {"input_ids": rows}
    ids = np.zeros((len(rows), options["max_length"]), np.int32)
    for out, row in zip(ids, rows, strict=True):
      out[:len(row)] = row
    return {"input_ids": ids, "attention_mask": ids > 0}


def load_encoder(kind, place):
  module = make_tower(kind, SIZES)
  params = nn.unbox(module.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32),
                                jnp.ones((1, 2), bool))["params"])
  return TextEncoder(module, jax.device_get(params), Words(), 8, 16)


@pytest.fixture
def config(monkeypatch):
  monkeypatch.setattr("cdjax.train.stages.load_text_encoder", load_encoder)
  c = load_config("configs/quickstart.py:tiny").copy_and_resolve_references()
  with c.unlocked():
    c.text = "bert:words"
    c.diffusion.condition.tokens = False
  return c


def train(config, tiny_workdir, folder: Path):
  folder.mkdir()
  for name in ("data", "autoencoder", "latents"):
    (folder / name).symlink_to(tiny_workdir / name)
  STAGES["diffusion"](config, folder)
  return load_table(folder / "diffusion" / WORDS_FILE)


def test_it_learns_and_its_words_are_kept(config, tiny_workdir, tmp_path):
  frozen = train(config, tiny_workdir, tmp_path / "frozen")
  with config.unlocked():
    config.diffusion.condition.text_trained = True
  learnt = train(config, tiny_workdir, tmp_path / "learnt")
  np.testing.assert_array_equal(frozen.ids, learnt.ids)
  assert 0 < np.abs(frozen.states - learnt.states)[frozen.mask].mean() < 1

  trained = load_trained(tmp_path / "learnt")
  assert "text" not in trained.params.denoiser["text"] and trained.params.text is not None
  asked = findings_to_arrays([parse_findings("left nodule")], trained.vocabulary)
  healthy = findings_to_arrays([parse_findings("healthy")], trained.vocabulary)
  answer = make_subject(trained).counterfactual_fn(
      jax.random.key(0), jnp.zeros((1, 32, 32, 1)), healthy, asked)
  assert np.isfinite(answer).all()

  (tmp_path / "learnt" / "diffusion" / WORDS_FILE).unlink()   # stopped before it was written
  with pytest.raises(FileNotFoundError, match="the words of the findings are missing"):
    load_trained(tmp_path / "learnt")
  STAGES["diffusion"](config, tmp_path / "learnt")
  again = load_table(tmp_path / "learnt" / "diffusion" / WORDS_FILE)
  np.testing.assert_array_equal(again.states, learnt.states)


def test_there_must_be_an_encoder(config, tiny_workdir, tmp_path):
  with config.unlocked():
    config.text = "findings_tokens"
    config.diffusion.condition.update(dict(tokens=True, text_trained=True))
  with pytest.raises(ValueError, match="there is no text encoder to train"):
    train(config, tiny_workdir, tmp_path / "run")
