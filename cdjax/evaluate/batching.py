"""Calls a jitted function on many examples in batches of one shape, so that it compiles once."""

from collections.abc import Callable

import jax
import numpy as np

from cdjax.core import rng
from cdjax.core.types import Array, PyTree


def map_batches(
    fn: Callable[..., PyTree],
    *arrays: PyTree,
    batch_size: int,
    key: Array | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> PyTree:
  """Applies `fn` batch by batch; the last batch is filled up by repeating its last row.

  Args:
    fn: takes batches of `arrays` (and a key first, where `key` is given) and returns a pytree of
      arrays whose first axis is the batch.
    *arrays: pytrees of arrays with one common first axis of length N ≥ 1.
    batch_size: rows of every call.
    key: if given, batch i gets `stream(key, "batch", i)`.
    on_batch: called after each batch with the number of real rows in it.

  Returns:
    The results, joined: NumPy arrays `[N, ...]`.

  Raises:
    ValueError: no rows, or first axes that differ.
  """
  arrays = jax.tree.map(np.asarray, arrays)
  sizes = {leaf.shape[0] for leaf in jax.tree.leaves(arrays)}
  if len(sizes) != 1 or sizes == {0}:
    raise ValueError(f"first axes are {sorted(sizes)}; expected one common length of at least 1")
  total = sizes.pop()
  parts = []
  for index, start in enumerate(range(0, total, batch_size)):
    rows = np.minimum(np.arange(start, start + batch_size), total - 1)
    batch = jax.tree.map(lambda leaf, rows=rows: leaf[rows], arrays)
    keys = () if key is None else (rng.stream(key, "batch", index),)
    real = min(batch_size, total - start)
    out = jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[:real], fn(*keys, *batch))
    parts.append(out)
    if on_batch is not None:
      on_batch(real)
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
