"""Leakage: what a fresh probe reads of the findings from the parts a counterfactual keeps.

The measure is (a − ½) / (b − ½), where a is the macro balanced accuracy of a probe on what is kept
and b that of a probe on the full latent's means: 0 where nothing can be read, 1 where everything
that the latent knows can be. The probe of what is kept is the best of three, by its loss on
training patients held out: of all of it, of the slots alone, of the code alone; a probe of more
inputs is not always the better trained.
"""

from collections.abc import Callable

import jax
import numpy as np

from cdjax.core import rng
from cdjax.core.types import Array, Posterior
from cdjax.evaluate.bootstrap import Statistic, balanced_accuracy, divide
from cdjax.evaluate.probe import Latents, View, train_probe

# key -> (identity slots, pathology slot, acquisition code, sampled)
_PROBES = {
    "full": (1, 1, 1, 0),
    "leakage/findings_from_identity": (1, 0, 1, 1),
    "leakage/from_means": (1, 0, 1, 0),
    "leakage/from_slots": (1, 0, 0, 1),
    "leakage/from_acquisition": (0, 0, 1, 1),
}
# What is kept, whole and in its parts, as it is used.
_KEPT = ("leakage/findings_from_identity", "leakage/from_slots", "leakage/from_acquisition")


def join_latents(encoded: dict[str, Posterior]) -> tuple[Latents, int]:
  """Puts the parts of `Subject.encode_fn`'s answer side by side.

  Args:
    encoded: "id" `[N, h, w, n-1, c]`, "path" `[N, h, w, c]`, and "acq" `[N, a]` or nothing.

  Returns:
    The latents, identity channels before pathology channels, and the number of the former.
  """
  flat = jax.tree.map(lambda a: a.reshape(*a.shape[:3], -1), encoded["id"])
  grid = jax.tree.map(lambda i, p: np.concatenate([i, p], -1), flat, encoded["path"])
  empty = np.zeros((len(grid.mean), 0), np.float32)
  return Latents(grid, encoded.get("acq", Posterior(empty, empty))), flat.mean.shape[-1]


def leakage_statistics(
    key: Array,
    train: dict[str, Posterior],
    train_present: Array,
    train_patient: Array,
    test: dict[str, Posterior],
    test_present: Array,
    *,
    sampled: bool,
    max_steps: int,
    on_epoch: Callable[[], None] | None = None,
) -> dict[str, Statistic]:
  """Trains the five probes and returns the leakage keys as statistics over test patients.

  Args:
    key: of the probes.
    train: latents of training patients' studies, see `join_latents`.
    train_present: `[N, K]` bool.
    train_patient: `[N]` int.
    test: latents of M patients never seen, one study each.
    test_present: `[M, K]` bool.
    sampled: whether the model uses its latents as samples; False probes means everywhere.
    max_steps: optimiser steps of each probe at most.
    on_epoch: called after each epoch of each probe.

  Returns:
    The METRICS keys `leakage/*` of findings, `ceiling/probe/accuracy` (b itself) and
    `leakage/plateau`, the share of probes that reached their plateau within `max_steps`.
  """
  latents, identity = join_latents(train)
  test_latents, _ = join_latents(test)
  channels, code = latents.grid.mean.shape[-1], latents.code.mean.shape[-1]
  accuracy, loss, plateaus = {}, {}, []
  for name, (sees_identity, sees_pathology, sees_code, is_sample) in _PROBES.items():
    if name == "leakage/from_acquisition" and code == 0:
      continue
    mask = np.where(np.arange(channels) < identity, sees_identity, sees_pathology)
    view = View(mask.astype(np.float32), np.full(code, sees_code, np.float32),
                np.float32(is_sample and sampled))
    probe_key = rng.stream(key, name)
    probe = train_probe(probe_key, latents, train_present, train_patient, view,
                        max_steps=max_steps, on_epoch=on_epoch)
    predicted = probe.predict(rng.stream(probe_key, "test"), test_latents)
    accuracy[name] = balanced_accuracy(predicted, test_present)
    loss[name] = probe.loss
    plateaus.append(float(probe.plateau))
  full = accuracy.pop("full")
  # Who sees everything that is kept may also look at a part of it only.
  accuracy[_KEPT[0]] = accuracy[min(loss.keys() & set(_KEPT), key=loss.get)]

  def relative(a):
    return lambda weights: divide(a(weights) - 0.5, full(weights) - 0.5)

  return {
      **{name: relative(a) for name, a in accuracy.items()},
      "ceiling/probe/accuracy": full,
      "leakage/plateau": lambda weights: np.full(len(weights), np.mean(plateaus)),
  }
