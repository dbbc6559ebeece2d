"""Text encoders: a published BERT or CLIP text tower and its tokenizer, from a local folder.

The words of a report, or a rendered prompt, become states of tokens for the denoiser's
cross-attention. Nothing is fetched: the folder holds `config.json`, one `.safetensors` file and the
tokenizer's files, as published models have them.
"""

import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.types import Array, PyTree
from cdjax.models.bert import BertEncoder
from cdjax.models.clip_text import ClipTextEncoder
from cdjax.models.convert import load_safetensors, torch_to_flax


@dataclasses.dataclass(frozen=True)
class _Family:
  """A kind of text tower.

  Attributes:
    module: its linen module.
    prefix: what published files may put before every name.
    ignored: names of other parts of published files, which are not read.
    variant: keys of `config.json` that change the arithmetic, and the only value known here.
  """

  module: type
  prefix: str
  ignored: re.Pattern
  variant: Mapping[str, Any]


FAMILIES = {
    "bert": _Family(
        BertEncoder, "bert.", re.compile(r"pooler\.|cls\.|.*position_ids$"),
        {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}),
    "clip": _Family(
        ClipTextEncoder, "text_model.",
        re.compile(r"vision_model\.|visual_projection|text_projection|logit_scale|"
                   r".*position_ids$"), {}),
}


@dataclasses.dataclass(frozen=True)
class TextEncoder:
  """A text tower with its weights and tokenizer.

  Attributes:
    module: `(ids [B, L], mask [B, L]) -> [B, L, width]`.
    params: its parameters, NumPy arrays.
    tokenizer: of the transformers library.
    width: channels of a token's state.
    max_length: most tokens of a text.
  """

  module: Any
  params: PyTree
  tokenizer: Any
  width: int
  max_length: int

  def tokenize(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts to ids `[B, length]` int32 and mask `[B, length]` bool; longer texts are cut.

    Raises:
      ValueError: `length` is more than the model has positions.
    """
    if not 0 < length <= self.max_length:
      raise ValueError(f"length={length}; this text encoder takes 1 to {self.max_length} tokens")
    out = self.tokenizer(list(texts), padding="max_length", truncation=True, max_length=length,
                         return_tensors="np")
    return out["input_ids"].astype(np.int32), out["attention_mask"].astype(bool)

  def apply(self, ids: Array, mask: Array) -> Array:
    """Tokens `[B, L]` to states `[B, L, width]`."""
    return self.module.apply({"params": self.params}, ids, mask)


def find_model(place: str) -> Path:
  """The folder of a published model.

  Args:
    place: a folder with `config.json` and one `.safetensors` file, or the name of an installed
      package that carries one.

  Raises:
    FileNotFoundError: no such folder or package, or nothing usable in it.
  """
  usable = lambda folder: (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
  folder = Path(place)
  if not folder.is_dir():
    known = place.isidentifier() and importlib.util.find_spec(place)
    if not known or not known.submodule_search_locations:
      raise FileNotFoundError(f"{place}: neither a folder nor an installed package")
    folder = Path(next(iter(known.submodule_search_locations)))
  for candidate in [folder, *sorted(path.parent for path in folder.rglob("config.json"))]:
    if usable(candidate):
      return candidate
  raise FileNotFoundError(f"{folder}: expected a folder with config.json and a .safetensors file")


def make_tower(kind: str, config: Mapping, dtype: Any = jnp.float32):
  """The module that a published `config.json` describes.

  Args:
    kind: "bert" or "clip".
    config: the file's content; for CLIP its `text_config` may be nested in it.
    dtype: of the activations.

  Raises:
    ValueError: an unknown kind, a missing key, or a variant that is not computed here.
  """
  if kind not in FAMILIES:
    raise ValueError(f"text encoder {kind!r}; expected one of {sorted(FAMILIES)}")
  family, config = FAMILIES[kind], config.get("text_config", config)
  for key, expected in family.variant.items():
    if config.get(key, expected) != expected:
      raise ValueError(f"config.json: {key}={config[key]!r}; expected {expected!r}")
  fields = {f.name: f for f in dataclasses.fields(family.module)
            if f.name not in ("dtype", "parent", "name")}
  missing = [name for name, field in fields.items()
             if field.default is dataclasses.MISSING and name not in config]
  if missing:
    raise ValueError(f"config.json lacks {missing}")
  return family.module(dtype=dtype, **{name: config[name] for name in fields if name in config})


def tower_params(kind: str, module, state: Mapping[str, np.ndarray]) -> PyTree:
  """Published weights as parameters of `module`; strict, as `convert.torch_to_flax` is.

  Parts of the file that are not the text tower (a pooler, CLIP's picture side) are left out.
  """
  family = FAMILIES[kind]
  named = {key.removeprefix(family.prefix): value for key, value in state.items()}
  named = {key: value for key, value in named.items() if not family.ignored.match(key)}
  ids, mask = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
  template = jax.eval_shape(lambda key: module.init(key, ids, mask), jax.random.key(0))["params"]
  params, _ = torch_to_flax(named, template)
  return params


def load_text_encoder(kind: str, place: str, dtype: Any = jnp.float32) -> TextEncoder:
  """Loads a text encoder from a local folder or an installed package; nothing is downloaded.

  Args:
    kind: "bert" or "clip".
    place: of `find_model`.
    dtype: of the activations.

  Raises:
    ImportError: the extra `text` is not installed.
    FileNotFoundError: no such model.
    ValueError: the model is of another kind, or its weights do not fit.
  """
  try:
    from transformers import AutoTokenizer
  except ImportError as error:
    raise ImportError("text encoders need the extra `text`: pip install 'cdjax[text]'") from error
  folder = find_model(place)
  config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
  module = make_tower(kind, config, dtype)
  try:
    params = tower_params(kind, module, load_safetensors(folder))
  except ValueError as error:
    raise ValueError(f"{folder}: {error}") from error
  tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
  return TextEncoder(module, params, tokenizer, module.hidden_size,
                     module.max_position_embeddings)
