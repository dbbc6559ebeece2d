"""Batches from arrays in memory: a loader for data that are made, not read."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from cdjax.data.groups import epoch_order


class ArrayBatches(Iterator[dict[str, Any]]):
  """Endless shuffled batches of a tree of arrays `[N, ...]`; has `get_state` and `set_state`.

  `make_arrays()` is called when the first batch is asked for. `weights` `[N]` say how often each
  example occurs, as of `groups.epoch_order`; None: once an epoch. Of B = `batch_size` examples
  process `shard_index` of `shard_count` gets its B / `shard_count`.
  """

  def __init__(self, make_arrays: Callable[[], dict[str, Any]], *, batch_size: int, seed: int,
               weights: np.ndarray | None = None, shard_index: int = 0, shard_count: int = 1):
    if batch_size % shard_count:
      raise ValueError(f"batch_size={batch_size} of {shard_count} processes; expected a multiple")
    self._make_arrays, self._arrays, self._weights = make_arrays, None, weights
    self._batch_size, self._seed, self._step = batch_size, seed, 0
    self._mine = shard_index * (batch_size // shard_count) + np.arange(batch_size // shard_count)

  def __next__(self) -> dict[str, Any]:
    if self._arrays is None:
      self._arrays = jax.tree.map(np.asarray, self._make_arrays())
      self._size = len(jax.tree.leaves(self._arrays)[0])
    place = self._step * self._batch_size + self._mine
    epoch, offset = np.divmod(place, self._size)
    rows = np.empty(len(place), np.int64)
    for e in np.unique(epoch):
      order = (np.random.default_rng([self._seed, int(e)]).permutation(self._size)
               if self._weights is None else epoch_order(
                   self._size, seed=self._seed, epoch=int(e), weights=self._weights))
      rows[epoch == e] = order[offset[epoch == e]]
    self._step += 1
    return jax.tree.map(lambda a: a[rows], self._arrays)

  def get_state(self) -> dict[str, int]:
    """Where the next batch is."""
    return {"step": self._step}

  def set_state(self, state: dict[str, int]) -> None:
    """Goes to where `get_state` was called."""
    self._step = int(state["step"])
