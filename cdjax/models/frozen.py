"""What networks trained elsewhere share: convolutions and norms that only run, and their weights.

A module here carries the names of the file it is loaded from: the path to a parameter, joined by
dots, is its key, `__` in a name stands for another dot ("features__conv0" → "features.conv0"), and
`kernel` and `scale` are both called `weight`. Features are compared between machines, so that every
product is taken at the highest precision (a TPU's default is bfloat16).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from cdjax.core.types import Array, PyTree
from cdjax.models.convert import from_torch, torch_shape

PRECISION = jax.lax.Precision.HIGHEST
# PyTorch counts the batches that a norm has seen; nothing is computed from it.
COUNTERS = r".*\.num_batches_tracked"

_WEIGHT = ("kernel", "scale")


class FrozenBatchNorm(nn.Module):
  """Batch norm by the statistics of training, `[..., C]` → the same.

  Attributes:
    epsilon: added to the variance.
  """

  epsilon: float

  @nn.compact
  def __call__(self, x: Array) -> Array:
    channels = (x.shape[-1],)
    scale = self.param("scale", nn.initializers.ones, channels)
    bias = self.param("bias", nn.initializers.zeros, channels)
    mean = self.param("running_mean", nn.initializers.zeros, channels)
    variance = self.param("running_var", nn.initializers.ones, channels)
    factor = scale / (variance + self.epsilon) ** 0.5
    return x * factor + (bias - mean * factor)


def frozen_conv(features: int, kernel: int | Sequence[int], *, strides: int = 1, padding: Any = 0,
                groups: int = 1, use_bias: bool = False, name: str | None = None) -> nn.Conv:
  """A 2-D convolution with PyTorch's meaning of padding: zeros on each side, or "SAME"."""
  kernel = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
  return nn.Conv(features, kernel, strides=strides, padding=padding, feature_group_count=groups,
                 use_bias=use_bias, precision=PRECISION, name=name)


def frozen_dense(features: int, *, name: str | None = None) -> nn.Dense:
  """A dense layer over the last axis."""
  return nn.Dense(features, precision=PRECISION, name=name)


def torch_key(path: Sequence[str]) -> str:
  """Key of the parameter at `path`: ("features__conv0", "kernel") → "features.conv0.weight"."""
  *modules, leaf = path
  return ".".join([*modules, "weight" if leaf in _WEIGHT else leaf]).replace("__", ".")


def load_frozen(
    state: Mapping[str, np.ndarray], template: PyTree, *, unused: Sequence[str] = ()
) -> PyTree:
  """Puts PyTorch arrays into a module's parameters; all of them, and nothing else.

  Args:
    state: arrays by PyTorch's keys, e.g. from `models.convert.load_safetensors`.
    template: the module's parameters or their shapes (`jax.eval_shape` of its init).
    unused: regular expressions of keys the file may hold that the module has no use for, such as
      a classifier's last layer. Counters of batches never matter.

  Returns:
    The parameters, NumPy float32.

  Raises:
    ValueError: keys are missing, unexpected or of another shape; one message names them all.
  """
  leaves = flax.traverse_util.flatten_dict(template)
  paths = {torch_key(path): path for path in leaves}
  skipped = re.compile("|".join(f"(?:{pattern})" for pattern in (*unused, COUNTERS)))
  missing = [f"missing: {key} {torch_shape(leaves[paths[key]].shape, paths[key])}"
             for key in sorted(paths.keys() - state.keys())]
  unexpected = [f"unexpected: {key} {tuple(np.shape(state[key]))}"
                for key in sorted(state.keys() - paths.keys()) if not skipped.fullmatch(key)]
  shapes, params = [], {}
  for key in sorted(paths.keys() & state.keys()):
    path, value = paths[key], np.asarray(state[key])
    expected = torch_shape(leaves[path].shape, path)
    if value.shape != expected:
      shapes.append(f"shape: {key} {value.shape} in the file, {expected} in the model")
      continue
    params[path] = from_torch(value, path).astype(np.float32)
  faults = missing + unexpected + shapes
  if faults:
    raise ValueError(f"the weights do not fit the model, {len(missing)} keys are missing, "
                     f"{len(unexpected)} unexpected, {len(shapes)} of another shape:\n  "
                     + "\n  ".join(faults))
  return flax.traverse_util.unflatten_dict(params)
