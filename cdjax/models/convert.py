"""Weights of published PyTorch models to linen parameters, and back.

The modules of `models.autoencoder_kl` and `models.unet` carry diffusers' names, those of
`models.bert` and `models.clip_text` the transformers library's, so the mapping is a rule, not a
table:

* path: `down_blocks_0/resnets_1/conv1/kernel` ↔ `down_blocks.0.resnets.1.conv1.weight`;
* kernels of convolutions: HWIO ↔ OIHW; of dense layers: (in, out) ↔ (out, in);
* norm scales, biases and tables of embeddings as they are.

Conversion is strict: every key of the file must have its place and every parameter its key.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import flax.traverse_util
import numpy as np

from cdjax.core.types import PyTree

# Lists of modules: linen has no dots in names, so the index follows an underscore there.
_LISTS = ("down_blocks", "up_blocks", "resnets", "attentions", "downsamplers", "upsamplers",
          "transformer_blocks", "to_out", "net", "layer", "layers")
_LIST_ITEM = re.compile(rf"({'|'.join(_LISTS)})_(\d+)")
# Attention layers of autoencoder files from before diffusers 0.18.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_KEY = re.compile(rf"(mid_block\.attentions\.\d+)\.({'|'.join(_OLD_ATTENTION)})\.")


def load_safetensors(path: str | Path) -> dict[str, np.ndarray]:
  """Reads a `.safetensors` file; nothing in it is ever executed.

  Args:
    path: the file, or a folder that holds exactly one such file (a published `unet/` or `vae/`).

  Returns:
    Arrays by their PyTorch names.

  Raises:
    FileNotFoundError: no such file, or no single one in the folder.
    ValueError: another format, such as a pickle (`.bin`, `.ckpt`, `.pt`, `.pth`), which could run
      code when read; or a file that is not what its name says.
  """
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  path = Path(path)
  if path.is_dir():
    files = sorted(p.name for p in path.glob("*.safetensors"))
    if len(files) != 1:
      raise FileNotFoundError(f"{path} holds {len(files)} .safetensors files {files}; "
                              "expected one, or the path of the one to read")
    path = path / files[0]
  if path.suffix != ".safetensors":
    raise ValueError(
        f"{path}: only .safetensors is read, because a pickled checkpoint can run code. Where you "
        "trust the file, convert it on another machine: python -c \"import torch; from "
        "safetensors.torch import save_file; state = torch.load('FILE', weights_only=True); "
        "save_file({k: v.contiguous() for k, v in state.items()}, 'FILE.safetensors')\"")
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist")
  try:
    return load_file(path)
  except SafetensorError as error:
    raise ValueError(f"{path} is not a valid safetensors file: {error}") from error


def torch_to_flax(state: Mapping[str, np.ndarray], template: PyTree) -> tuple[PyTree, list[str]]:
  """Puts a PyTorch state dict into the shape of linen parameters.

  Args:
    state: arrays by diffusers' names, e.g. from `load_safetensors`.
    template: the model's parameters or their shapes (`jax.eval_shape` of its init); boxes with
      axis names are allowed.

  Returns:
    The parameters, unboxed NumPy arrays of the template's dtypes, and one line for each thing that
    was not taken as it was: old names, and a first convolution with fewer input channels than
    the model's `conv_in`, whose missing rows are zero.

  Raises:
    ValueError: keys are missing or unknown (all are listed), or shapes differ (key and both
      shapes).
  """
  notes = []
  state = _rename_old_attention(state, notes)
  leaves = _flatten(template)
  names = {torch_name(path): path for path in leaves}
  missing, unknown = sorted(names.keys() - state.keys()), sorted(state.keys() - names.keys())
  if missing or unknown:
    raise ValueError(f"the weights do not fit the model: {len(missing)} keys are missing: "
                     f"{missing}; {len(unknown)} are unknown: {unknown}")
  params, wrong = {}, []
  for name, path in names.items():
    value, leaf = from_torch(np.asarray(state[name]), path), leaves[path]
    if name == "conv_in.weight":
      value = _pad_input_channels(value, leaf.shape, notes)
    if value.shape != leaf.shape:
      wrong.append(f"{name}: {torch_shape(value.shape, path)} in the file, "
                   f"{torch_shape(leaf.shape, path)} in the model")
    params[path] = value.astype(leaf.dtype)
  if wrong:
    raise ValueError(f"{len(wrong)} weights have another shape: " + "; ".join(wrong))
  return flax.traverse_util.unflatten_dict(params), notes


def flax_to_torch(params: PyTree) -> dict[str, np.ndarray]:
  """Inverse of `torch_to_flax`: arrays by diffusers' names; `params` may be boxed."""
  return {torch_name(path): np.ascontiguousarray(_to_torch(np.asarray(value), path))
          for path, value in _flatten(params).items()}


def torch_name(path: tuple[str, ...]) -> str:
  """diffusers' name of the parameter at `path`, e.g. ("conv_in", "kernel") → "conv_in.weight".

  Raises:
    ValueError: the last part is not one of kernel, scale, embedding, bias.
  """
  *modules, leaf = path
  if leaf not in ("kernel", "scale", "embedding", "bias"):
    raise ValueError(f"parameter {'/'.join(path)}: expected kernel, scale, embedding or bias at "
                     "the end")
  parts = [_LIST_ITEM.sub(r"\1.\2", m) if _LIST_ITEM.fullmatch(m) else m for m in modules]
  return ".".join([*parts, "bias" if leaf == "bias" else "weight"])


def _flatten(params: PyTree) -> dict[tuple[str, ...], np.ndarray]:
  return flax.traverse_util.flatten_dict(nn.meta.unbox(params))


def from_torch(value: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
  """PyTorch's array in linen's layout; only kernels have one, told by their number of axes."""
  if path[-1] != "kernel":
    return value
  return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _to_torch(value: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
  if path[-1] != "kernel":
    return value
  return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def torch_shape(shape: Sequence[int], path: Sequence[str]) -> tuple[int, ...]:
  """PyTorch's shape of the parameter at `path`: kernels are HWIO → OIHW, (in, out) → (out, in)."""
  if path[-1] != "kernel":
    return tuple(shape)
  return tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else tuple(shape[::-1])


def _rename_old_attention(state: Mapping[str, np.ndarray],
                          notes: list[str]) -> dict[str, np.ndarray]:
  renamed = {}
  for key, value in state.items():
    new = _OLD_KEY.sub(lambda m: f"{m[1]}.{_OLD_ATTENTION[m[2]]}.", key)
    if new != key:
      notes.append(f"{key}: old name, read as {new}")
    if new in renamed:
      raise ValueError(f"the file has {new} under its old and its new name")
    renamed[new] = value
  return renamed


def _pad_input_channels(kernel: np.ndarray, shape: tuple[int, ...],
                        notes: list[str]) -> np.ndarray:
  """Zero rows for input channels (axis 2 of HWIO) that the file does not have."""
  missing = shape[2] - kernel.shape[2] if kernel.ndim == 4 else 0
  if missing <= 0:
    return kernel
  notes.append(f"conv_in.weight: {kernel.shape[2]} input channels in the file, {shape[2]} in the "
               f"model; the last {missing} start at zero")
  return np.pad(kernel, ((0, 0), (0, 0), (0, missing), (0, 0)))
