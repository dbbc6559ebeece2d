"""Batches for training and evaluation, read ahead by Grain.

Batch number `step` is a function of (data, seed, step) and of nothing else. Grain only computes
these functions ahead of time, in threads or in processes, so neither their number nor a restart can
change what comes out, and the whole state of an iterator is one number.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from cdjax.core.types import FindingsArrays
from cdjax.data.groups import choose_mates, epoch_order, make_groups
from cdjax.data.pool import leave_with_parent
from cdjax.data.source import Split

AttachFn = Callable[[np.ndarray, np.ndarray | None], dict[str, np.ndarray]]
_ENDLESS = 1 << 40  # steps


@dataclasses.dataclass(frozen=True)
class BatchPlan:
  """`plan(step)` is a batch. Picklable where `source` and `attach` are.

  Global batch `step` holds places `step·B … step·B + B - 1` of the endless sequence of epochs, so
  that every record is an anchor once an epoch even where B does not divide N; a process takes its
  rows of it.
  """

  source: Split
  batch_size: int
  seed: int
  shuffle: bool
  weights: np.ndarray | None
  mates: bool
  with_images: bool
  attach: AttachFn | None
  shard_index: int
  shard_count: int

  @functools.cached_property
  def _groups(self):
    index = self.source.index
    return make_groups(index.patient, index.study, index.findings)

  @functools.cached_property
  def _order(self) -> Callable[[int], np.ndarray]:
    return functools.lru_cache(maxsize=3)(functools.partial(
        epoch_order, len(self.source), seed=self.seed, shuffle=self.shuffle, weights=self.weights))

  def __getstate__(self) -> dict:
    fields = {field.name for field in dataclasses.fields(self)}
    return {key: value for key, value in self.__dict__.items() if key in fields}

  def __call__(self, step: int) -> dict[str, Any]:
    """Batch `step`; see `make_loader`."""
    local = self.batch_size // self.shard_count
    place = step * self.batch_size + self.shard_index * local + np.arange(local)
    epoch, offset = np.divmod(place, len(self.source))
    index = np.empty(local, np.int64)
    for e in np.unique(epoch):
      index[epoch == e] = self._order(epoch=int(e))[offset[epoch == e]]
    return self.make(index, epoch)

  def make(self, index: np.ndarray, epoch: np.ndarray) -> dict[str, Any]:
    """The batch of some anchors `[B]`, with mates as chosen in `epoch` `[B]`."""
    columns = self.source.index
    batch = {"findings": _take(columns.findings, index), "index": index.astype(np.int32),
             "patient": columns.patient[index], "view": columns.view[index]}
    mate = None
    if self.mates:
      mate, is_true = choose_mates(self._groups, index, seed=self.seed, epoch=epoch)
      batch |= {"mate_findings": _take(columns.findings, mate),
                "mate_index": mate.astype(np.int32), "mate_view": columns.view[mate],
                "is_true_mate": is_true}
    if self.with_images:
      wanted, where = np.unique(index if mate is None else np.concatenate([index, mate]),
                                return_inverse=True)
      images = to_model_range(self.source.images(wanted), self.source.bits)
      batch["image"] = images[where[:len(index)]]
      if mate is not None:
        batch["mate_image"] = images[where[len(index):]]
    if self.attach is not None:
      more = self.attach(index, mate)
      if clash := set(more) & set(batch):
        raise ValueError(f"attach returned {sorted(clash)}, which the batch has already")
      batch |= more
    return batch


def to_model_range(pixels: np.ndarray, bits: int) -> np.ndarray:
  """`[B, H, W]` integers to `[B, H, W, 1]` float32 in [-1, 1]."""
  return (pixels.astype(np.float32) * np.float32(2 / ((1 << bits) - 1)) - 1)[..., None]


def _take(findings: FindingsArrays, index: np.ndarray) -> FindingsArrays:
  return FindingsArrays(status=findings.status[index], severity=findings.severity[index],
                        side=findings.side[index], zone=findings.zone[index])


class Batches(Iterator[dict[str, Any]]):
  """Iterator over batches that can say where it is and go there."""

  def __init__(self, plan: BatchPlan, num_steps: int, *, num_workers: int, read_threads: int,
               prefetch: int):
    self._plan, self._num_steps = plan, num_steps
    self._num_workers, self._read_threads, self._prefetch = num_workers, read_threads, prefetch
    self._step = 0
    self._iterator = None

  def __next__(self) -> dict[str, Any]:
    if self._iterator is None:
      self._iterator = iter(self._dataset())
    batch = next(self._iterator)
    self._step += 1
    return batch

  def _dataset(self) -> grain.IterDataset:
    """The batches from here on."""
    dataset = grain.MapDataset.range(self._step, self._num_steps).map(self._plan)
    workers = self._num_workers
    share = max(1, self._prefetch // max(1, workers))
    dataset = dataset.to_iter_dataset(grain.ReadOptions(
        num_threads=self._read_threads, prefetch_buffer_size=share if self._read_threads else 0))
    if workers:
      if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads its flags when it starts processes.
      dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(
          num_workers=workers, per_worker_buffer_size=share), worker_init_fn=leave_with_parent)
    return dataset

  def get_state(self) -> dict[str, Any]:
    """Where the next batch is, as plain JSON values."""
    plan = self._plan
    return {"step": self._step, "seed": plan.seed, "batch_size": plan.batch_size,
            "fingerprint": plan.source.info["fingerprint"], "split": plan.source.name}

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to where `get_state` was called, with any number of workers, threads and shards.

    Raises:
      ValueError: the state is of other data, another seed or another batch size.
    """
    mine = self.get_state()
    if differing := {key: (state.get(key), mine[key]) for key in mine
                     if key != "step" and state.get(key) != mine[key]}:
      raise ValueError("the data position does not fit: "
                       + "; ".join(f"{key} was {old!r}, is {new!r}"
                                   for key, (old, new) in differing.items()))
    self.close()
    self._step = int(state["step"])

  def close(self) -> None:
    """Stops reading ahead; the next batch starts it again."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None


def make_loader(source: Split, *, batch_size: int, seed: int, num_workers: int = 0,
                read_threads: int = 4, prefetch: int = 16, shuffle: bool = True,
                num_epochs: int | None = None, mates: bool = True, with_images: bool = True,
                attach: AttachFn | None = None, weights: np.ndarray | None = None,
                shard_index: int = 0, shard_count: int = 1) -> Batches:
  """Makes the training batches of one process.

  Args:
    source: from `open_split`.
    batch_size: B over all processes; each gets `B / shard_count` rows of every batch.
    seed: of the order and of the mates.
    num_workers: processes that read; 0 reads in this process. Each starts Python anew, so scripts
      need the `if __name__ == "__main__"` guard.
    read_threads: threads in each of them; 0 reads when asked.
    prefetch: batches made ahead.
    shuffle: False goes through the records in order.
    num_epochs: None never ends. Else `num_epochs · N // B` batches; the rest of the last is left
      out.
    mates: choose a mate of each anchor.
    with_images: False leaves "image" and "mate_image" out.
    attach: `(index [b], mate_index [b] or None) -> dict` of arrays `[b, …]` to add to the batch,
      e.g. precomputed latents. With workers it must be picklable: open a memory map inside of it.
    weights: `[N]`; how often each record is an anchor, see `epoch_order`.
    shard_index: this process.
    shard_count: number of processes.

  Returns:
    An iterator with `get_state`, `set_state` and `close`. A batch is a dict of NumPy arrays:
    `image` float32 `[b, H, W, 1]` in [-1, 1], `findings` FindingsArrays `[b, K]`, `index`,
    `patient`, `view` int32 `[b]`; and with mates `mate_image`, `mate_findings`, `mate_index`,
    `mate_view`, `is_true_mate` bool `[b]`, False where the mate is the anchor itself.

  Raises:
    ValueError: sizes that do not fit.
  """
  size = len(source)
  if batch_size < 1 or batch_size % shard_count:
    raise ValueError(f"batch_size={batch_size}; expected a positive multiple of "
                     f"shard_count={shard_count}")
  if not 0 <= shard_index < shard_count:
    raise ValueError(f"shard_index={shard_index}; expected 0..{shard_count - 1}")
  if weights is not None:
    weights = np.asarray(weights, np.float64)
    if weights.shape != (size,) or not (weights.min() >= 0 and 0 < weights.sum() < np.inf):
      raise ValueError(f"weights: expected {size} finite numbers >= 0, not all 0; got shape "
                       f"{weights.shape}")
  num_steps = _ENDLESS if num_epochs is None else num_epochs * size // batch_size
  if not num_steps:
    raise ValueError(f"{num_epochs} epochs of {size} records make no batch of {batch_size}; "
                     "use a smaller batch_size or num_epochs=None")
  plan = BatchPlan(source=source, batch_size=batch_size, seed=seed, shuffle=shuffle,
                   weights=weights, mates=mates, with_images=with_images, attach=attach,
                   shard_index=shard_index, shard_count=shard_count)
  return Batches(plan, num_steps, num_workers=num_workers, read_threads=read_threads,
                 prefetch=prefetch)


def eval_batches(source: Split, batch_size: int, *, seed: int = 0, mates: bool = False,
                 with_images: bool = True, attach: AttachFn | None = None,
                 batches: range | None = None) -> Iterator[dict[str, Any]]:
  """One pass over all records in their order; arguments as of `make_loader`.

  Args:
    batches: which batches by number; None: all.

  Yields:
    Batches of exactly `batch_size` rows, with `mask` bool `[B]`: False on the rows that fill up the
    last batch (they repeat its last record).
  """
  plan = BatchPlan(source=source, batch_size=batch_size, seed=seed, shuffle=False, weights=None,
                   mates=mates, with_images=with_images, attach=attach, shard_index=0,
                   shard_count=1)
  for number in range(-(-len(source) // batch_size)) if batches is None else batches:
    place = number * batch_size + np.arange(batch_size)
    mask = place < len(source)
    index = np.minimum(place, len(source) - 1)
    yield plan.make(index, np.zeros(batch_size, np.int64)) | {"mask": mask}
