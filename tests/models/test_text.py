"""Text towers: causality, masks, strict loading. Parity with PyTorch is in test_text_parity.py."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from cdjax.models.convert import flax_to_torch
from cdjax.models.text import find_model, make_tower, tower_params

BERT = dict(vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=6)
CLIP = BERT | dict(hidden_act="quick_gelu")
KEY = jax.random.key(0)
IDS = jnp.asarray([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
MASK = jnp.asarray([[True] * 5, [True] * 3 + [False] * 2])


def tower(kind, config):
  module = make_tower(kind, config)
  leaves, tree = jax.tree.flatten(nn.unbox(module.init(KEY, IDS, MASK)["params"]))
  drawn = [0.5 * jax.random.normal(jax.random.fold_in(KEY, i), a.shape)
           for i, a in enumerate(leaves)]
  return module, jax.tree.unflatten(tree, drawn)


@pytest.mark.parametrize(("kind", "config"), [("bert", BERT), ("clip", CLIP)])
def test_padding_is_not_seen(kind, config):
  module, params = tower(kind, config)
  states = lambda ids: module.apply({"params": params}, ids, MASK)
  other = states(IDS.at[1, 3:].set(9))
  np.testing.assert_array_equal(states(IDS)[1, :3], other[1, :3])
  assert np.abs(states(IDS) - states(IDS.at[1, 1].set(9)))[1, 2].max() > 1e-3


def test_only_clip_is_causal():
  for kind, config, sees in (("bert", BERT, True), ("clip", CLIP, False)):
    module, params = tower(kind, config)
    states = lambda ids, m=module, p=params: m.apply({"params": p}, ids, MASK)
    changed = np.abs(states(IDS) - states(IDS.at[0, 4].set(9)))[0, 0].max()
    assert (changed > 1e-4) == sees


def test_weights_there_and_back_and_nothing_left_over():
  module, params = tower("bert", BERT)
  state = flax_to_torch(params)
  assert state["encoder.layer.1.attention.self.query.weight"].shape == (8, 8)
  assert state["embeddings.word_embeddings.weight"].shape == (11, 8)
  file = {f"bert.{k}": v for k, v in state.items()} | {
      "bert.pooler.dense.weight": np.zeros((8, 8)), "cls.predictions.bias": np.zeros(11)}
  again = tower_params("bert", module, file)
  jax.tree.map(np.testing.assert_array_equal, again, params)
  del file["bert.embeddings.LayerNorm.bias"]
  with pytest.raises(ValueError, match=r"missing: \['embeddings.LayerNorm.bias'\]"):
    tower_params("bert", module, file)
  wide = make_tower("bert", BERT | {"intermediate_size": 24})
  with pytest.raises(ValueError, match=r"intermediate.dense.weight: \(16, 8\) in .*\(24, 8\) in"):
    tower_params("bert", wide, state)


def test_a_model_is_a_folder_or_a_package(tmp_path, monkeypatch):
  with pytest.raises(FileNotFoundError, match="neither a folder nor an installed package"):
    find_model("no_such_text_model")
  with pytest.raises(FileNotFoundError, match="neither a folder"):
    find_model(str(tmp_path / "none"))
  with pytest.raises(FileNotFoundError, match=r"config.json and a .safetensors"):
    find_model(str(tmp_path))
  inner = tmp_path / "a_text_model" / "model"
  inner.mkdir(parents=True)
  (inner.parent / "__init__.py").write_text("")
  (inner / "config.json").write_text(json.dumps(BERT))
  save_file({"a": np.zeros(1)}, inner / "model.safetensors")
  monkeypatch.syspath_prepend(tmp_path)
  assert find_model("a_text_model") == find_model(str(inner)) == inner


def test_what_would_be_computed_wrongly_is_refused():
  with pytest.raises(ValueError, match=r"config.json: hidden_act='relu'; expected 'gelu'"):
    make_tower("bert", BERT | {"hidden_act": "relu"})
  with pytest.raises(ValueError, match=r"lacks \['vocab_size'\]"):
    make_tower("clip", {"text_config": {k: v for k, v in CLIP.items() if k != "vocab_size"}})
  with pytest.raises(ValueError, match="expected one of"):
    make_tower("gpt", BERT)
  module, params = tower("bert", BERT)
  with pytest.raises(ValueError, match="7 tokens; this model has 6 positions"):
    module.apply({"params": params}, jnp.zeros((1, 7), jnp.int32), jnp.ones((1, 7), bool))
