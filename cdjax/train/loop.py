"""Trains one stage from its first step to its last; read it from top to bottom.

A stage's folder is `WORKDIR/NAME/`: `config.json` (what it was started with), `checkpoints/`,
`metrics.jsonl`, `events/` (TensorBoard), `samples/`, `init_from.json` and, at the end, `done.json`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from clu import parameter_overview
from jax.sharding import Mesh

from cdjax.core.rng import stream
from cdjax.core.trees import named_leaves, tree_fingerprint
from cdjax.core.types import PyTree
from cdjax.sharding.hosts import gather_texts, is_primary
from cdjax.sharding.mesh import replicated
from cdjax.sharding.partition import batch_sharding, to_global
from cdjax.train.checkpoint import (
    finish_checkpoints,
    open_checkpoints,
    restore_newest,
    save_checkpoint,
)
from cdjax.train.disk import write_json
from cdjax.train.init_from import init_from
from cdjax.train.metrics import MetricWriter, make_accumulate, read_totals
from cdjax.train.optimizer import make_optimizer, make_schedule
from cdjax.train.position import decode_position, encode_position
from cdjax.train.progress import Update, console_progress
from cdjax.train.record import check_resumable, make_record, read_record
from cdjax.train.state import abstract_state, init_state
from cdjax.train.step import LossFn, make_train_step
from cdjax.train.stop import Stopped, stop_request

Progress = Callable[[str, int, int], contextlib.AbstractContextManager[Update]]


def train_stage(*, name: str, config: Any, stage_config: Any, workdir: str | Path,
                init_fn: Callable[[jax.Array], PyTree], loss_fn: LossFn, frozen: PyTree,
                loader: Any, mesh: Mesh,
                eval_fn: Callable[[PyTree, int], Mapping[str, Any]] | None = None,
                data_fingerprint: str = "", progress: Progress = console_progress) -> PyTree:
  """Trains a stage, or goes on where it was, or returns at once where it is done.

  A run that was stopped, even killed, and started again ends with the same parameters, bit for
  bit, as one that was not: the state, the position in the data and the seed decide everything.

  Args:
    name: of the stage, and of its folder.
    config: the whole configuration; uses `seed` and records the rest.
    stage_config: the stage's part of it, with the keys of `core.config`.
    workdir: parent of the stage's folder.
    init_fn: key → parameters, boxed with their logical axis names.
    loss_fn: (params, frozen, batch, rng, step) → (loss, named terms).
    frozen: arrays the loss uses and does not train; copied to every device.
    loader: iterable of batches (trees of NumPy arrays `[B / processes, ...]`, never written to
      again), without end; its iterator has `get_state()` (JSON or bytes, not changed afterwards)
      and `set_state(state)`.
    mesh: from `sharding.mesh.make_mesh`.
    eval_fn: (averaged params, step) → numbers, and optionally "images": name → array as
      `train.metrics.image_grid` takes it. Called every eval_every steps and at the end.
    data_fingerprint: of the data set; a run does not go on with other data.
    progress: (name, start, total) → context with an `update(step, text)`.

  Returns:
    The averaged parameters.

  Raises:
    Stopped: SIGTERM or SIGINT; the state is saved.
    FloatingPointError: a number was not finite; names the step and the term.
    ValueError: the folder was started with another configuration or other data.
  """
  folder = Path(workdir) / name
  folder.mkdir(parents=True, exist_ok=True)
  num_steps = stage_config.num_train_steps
  record = make_record(name, config, stage_config, data_fingerprint, frozen)
  schedule, tx = make_schedule(stage_config), make_optimizer(stage_config)

  with contextlib.ExitStack() as stack:
    stack.enter_context(jax.set_mesh(mesh))
    checkpoints = stack.enter_context(
        open_checkpoints(folder / "checkpoints", stage_config.keep_checkpoints))

    # Go on, or begin.
    if checkpoints.all_steps():
      check_resumable(read_record(folder), record, folder)
    key = jax.random.key(config.seed)
    abstract, state_sharding = abstract_state(init_fn, tx, mesh)
    restored = restore_newest(checkpoints, abstract)
    if restored is not None:
      state, position, start = restored
      if (folder / "done.json").exists() and start == num_steps:
        return state.ema_params
      logging.info("%s: going on from step %d of %d", name, start, num_steps)
    else:
      state, position, start = init_state(init_fn, tx, state_sharding, stream(key, "init")), {}, 0
      if stage_config.init_from:
        params, report = init_from(stage_config.init_from, state.params,
                                   stage_config.init_include, stage=name)
        state = state.replace(params=params, ema_params=jax.tree.map(jnp.copy, params))
        logging.info("%s", report)
        _write_json(folder / "init_from.json", flax.struct.dataclasses.asdict(report))
      _write_json(folder / "config.json", record)
      logging.info("%s", parameter_overview.get_parameter_overview(
          state.params, include_stats="sharding"))

    # The data, where the checkpoint left them.
    iterator = iter(loader)
    if restored is not None:
      iterator.set_state(decode_position(position["data"]))
    batches = _to_device(iterator, mesh)
    upcoming = next(batches)
    first_batch = upcoming[0]

    # Everything the step needs is on the mesh before the loop.
    key, frozen = jax.device_put((key, frozen), replicated(mesh))
    train_step = make_train_step(
        loss_fn, tx, schedule=schedule, ema_decay=stage_config.ema_decay,
        accumulation=stage_config.accumulation, mesh=mesh, state_sharding=state_sharding,
        batch_sharding=jax.tree.leaves(first_batch)[0].sharding)
    accumulate = make_accumulate()
    writer = stack.enter_context(MetricWriter(folder, start))
    update = stack.enter_context(progress(name, start, num_steps))
    stop = stack.enter_context(stop_request())
