"""CLIP's text tower (Radford et al., arXiv:2103.00020), as the transformers library defines it.

Layer norms come before, attention is causal, the GELU is CLIP's quick one or the exact one.
Modules carry the names of published weights (`encoder.layers.0.self_attn.q_proj`). The
states of the tokens after the last norm are what cross-attention reads, as in Stable Diffusion.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.layers import dense, embed, layer_norm

# x·sigmoid(1.702 x), Hendrycks and Gimpel, arXiv:1606.08415, section 2.
ACTIVATIONS = {"quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
               "gelu": lambda x: nn.gelu(x, approximate=False)}


class _SelfAttention(nn.Module):
  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    split = lambda a: a.reshape(*a.shape[:2], self.heads, -1)
    project = lambda name: dense(x.shape[-1], ("embed", "heads"), dtype=self.dtype, name=name)
    q, k, v = (split(project(name)(x)) for name in ("q_proj", "k_proj", "v_proj"))
    seen = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :], is_causal=True)
    return dense(x.shape[-1], ("heads", "embed"), dtype=self.dtype,
                 name="out_proj")(seen.reshape(x.shape))


class _FeedForward(nn.Module):
  features: int
  activation: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    h = ACTIVATIONS[self.activation](dense(self.features, dtype=self.dtype, name="fc1")(x))
    return dense(x.shape[-1], ("mlp", "embed"), dtype=self.dtype, name="fc2")(h)


class _Layer(nn.Module):
  heads: int
  features: int
  activation: str
  eps: float
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    norm = lambda i: layer_norm(eps=self.eps, dtype=self.dtype, name=f"layer_norm{i}")
    x = x + _SelfAttention(self.heads, self.dtype, name="self_attn")(norm(1)(x), mask)
    return x + _FeedForward(self.features, self.activation, self.dtype, name="mlp")(norm(2)(x))


class _Layers(nn.Module):
  number: int
  layer: Mapping[str, Any]

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    for i in range(self.number):
      x = _Layer(**self.layer, name=f"layers_{i}")(x, mask)
    return x


class _Embeddings(nn.Module):
  words: int
  positions: int
  width: int
  dtype: Any

  @nn.compact
  def __call__(self, ids: Array) -> Array:
    table = lambda rows, name: embed(rows, self.width, dtype=self.dtype, name=f"{name}_embedding")
    places = table(self.positions, "position")(jnp.arange(ids.shape[1]))
    return table(self.words, "token")(ids) + places[None]


class ClipTextEncoder(nn.Module):
  """Tokens to states.

  Attributes:
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size,
      max_position_embeddings, hidden_act, layer_norm_eps: of a published `config.json`.
    dtype: of the activations.
  """

  vocab_size: int
  hidden_size: int
  num_hidden_layers: int
  num_attention_heads: int
  intermediate_size: int
  max_position_embeddings: int
  hidden_act: str = "quick_gelu"
  layer_norm_eps: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, ids: Array, mask: Array) -> Array:
    """`ids` `[B, L]` int32, `mask` `[B, L]` bool (True: a token) → `[B, L, hidden_size]` float32.

    Raises:
      ValueError: more tokens than the model has positions, or an unknown activation.
    """
    if ids.shape[1] > self.max_position_embeddings:
      raise ValueError(f"{ids.shape[1]} tokens; this model has {self.max_position_embeddings} "
                       "positions")
    if self.hidden_act not in ACTIVATIONS:
      raise ValueError(f"hidden_act={self.hidden_act!r}; expected one of {sorted(ACTIVATIONS)}")
    x = _Embeddings(self.vocab_size, self.max_position_embeddings, self.hidden_size, self.dtype,
                    name="embeddings")(ids)
    layer = dict(heads=self.num_attention_heads, features=self.intermediate_size,
                 activation=self.hidden_act, eps=self.layer_norm_eps, dtype=self.dtype)
    x = _Layers(self.num_hidden_layers, layer, name="encoder")(x, mask)
    norm = layer_norm(eps=self.layer_norm_eps, dtype=self.dtype, name="final_layer_norm")
    return norm(x).astype(jnp.float32)
