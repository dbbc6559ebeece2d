"""BERT's encoder (Devlin et al., arXiv:1810.04805), as the transformers library defines it.

Layer norms come after the residual, the GELU is exact, positions are learnt. Modules carry the
names of published weights (`encoder.layer.0.attention.self.query`), so that `models.convert` can
load them. There is no pooler and no dropout: the states of the tokens are what cross-attention
reads.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.attention import attend
from cdjax.models.layers import dense, embed, layer_norm


class _SelfAttention(nn.Module):
  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    split = lambda a: a.reshape(*a.shape[:2], self.heads, -1)
    q, k, v = (split(dense(x.shape[-1], ("embed", "heads"), dtype=self.dtype, name=name)(x))
               for name in ("query", "key", "value"))
    return attend(q, k, v, mask).reshape(x.shape)


class _AddAndNorm(nn.Module):
  eps: float
  dtype: Any

  @nn.compact
  def __call__(self, h: Array, x: Array) -> Array:
    out = dense(x.shape[-1], ("mlp", "embed"), dtype=self.dtype, name="dense")(h)
    return layer_norm(eps=self.eps, dtype=self.dtype, name="LayerNorm")(x + out)


class _Attention(nn.Module):
  heads: int
  eps: float
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    seen = _SelfAttention(self.heads, self.dtype, name="self")(x, mask)
    return _AddAndNorm(self.eps, self.dtype, name="output")(seen, x)


class _Intermediate(nn.Module):
  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    return nn.gelu(dense(self.features, dtype=self.dtype, name="dense")(x), approximate=False)


class _Layer(nn.Module):
  heads: int
  intermediate_size: int
  eps: float
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    x = _Attention(self.heads, self.eps, self.dtype, name="attention")(x, mask)
    h = _Intermediate(self.intermediate_size, self.dtype, name="intermediate")(x)
    return _AddAndNorm(self.eps, self.dtype, name="output")(h, x)


class _Embeddings(nn.Module):
  words: int
  positions: int
  types: int
  width: int
  eps: float
  dtype: Any

  @nn.compact
  def __call__(self, ids: Array) -> Array:
    table = lambda rows, name: embed(rows, self.width, dtype=self.dtype, name=f"{name}_embeddings")
    x = table(self.words, "word")(ids)
    x = x + table(self.positions, "position")(jnp.arange(ids.shape[1]))[None]
    x = x + table(self.types, "token_type")(jnp.zeros_like(ids))
    return layer_norm(eps=self.eps, dtype=self.dtype, name="LayerNorm")(x)


class _Layers(nn.Module):
  number: int
  layer: Mapping[str, Any]

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    for i in range(self.number):
      x = _Layer(**self.layer, name=f"layer_{i}")(x, mask)
    return x


class BertEncoder(nn.Module):
  """Tokens to states.

  Attributes:
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size,
      max_position_embeddings, type_vocab_size, layer_norm_eps: of a published `config.json`.
    dtype: of the activations.
  """

  vocab_size: int
  hidden_size: int
  num_hidden_layers: int
  num_attention_heads: int
  intermediate_size: int
  max_position_embeddings: int
  type_vocab_size: int = 2
  layer_norm_eps: float = 1e-12
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, ids: Array, mask: Array) -> Array:
    """`ids` `[B, L]` int32, `mask` `[B, L]` bool (True: a token) → `[B, L, hidden_size]` float32.

    Raises:
      ValueError: more tokens than the model has positions.
    """
    if ids.shape[1] > self.max_position_embeddings:
      raise ValueError(f"{ids.shape[1]} tokens; this model has {self.max_position_embeddings} "
                       "positions")
    x = _Embeddings(self.vocab_size, self.max_position_embeddings, self.type_vocab_size,
                    self.hidden_size, self.layer_norm_eps, self.dtype, name="embeddings")(ids)
    layer = dict(heads=self.num_attention_heads, intermediate_size=self.intermediate_size,
                 eps=self.layer_norm_eps, dtype=self.dtype)
    return _Layers(self.num_hidden_layers, layer, name="encoder")(x, mask).astype(jnp.float32)
