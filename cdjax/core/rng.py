"""Random streams: every key is a function of (seed, name, step), never of a carried chain."""

import zlib

import jax


def stream(key: jax.Array, name: str, step: int | jax.Array | None = None) -> jax.Array:
  """A key for one purpose (and step), independent of every other name and step.

  Args:
    key: the run's key, `jax.random.key(seed)`.
    name: what the key is for, e.g. "posterior".
    step: the training step or example index; scalar int32, may be traced.

  Returns:
    A new key; the same inputs always give the same key.
  """
  key = jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
  return key if step is None else jax.random.fold_in(key, step)
