"""Trains one stage from its first step to its last; read it from top to bottom.

A stage's folder is `WORKDIR/NAME/`: `config.json` (what it was started with), `checkpoints/`,
`metrics.jsonl`, `events/` (TensorBoard), `samples/`, `init_from.json` and, at the end, `done.json`.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from cdjax.core.rng import stream
from cdjax.core.trees import named_leaves, tree_fingerprint
from cdjax.core.types import PyTree
from cdjax.sharding.hosts import all_agree, is_primary
from cdjax.sharding.mesh import replicated
from cdjax.sharding.partition import batch_sharding, to_global
from cdjax.train.checkpoint import (
    finish_checkpoints,
    load_params,
    open_checkpoints,
    restore_newest,
    save_checkpoint,
)
from cdjax.train.disk import write_json
from cdjax.train.init_from import init_from
from cdjax.train.lock import folder_lock
from cdjax.train.metrics import MetricWriter, make_accumulate, read_totals
from cdjax.train.optimizer import make_optimizer, make_schedule
from cdjax.train.position import decode_position, encode_position
from cdjax.train.progress import Update, console_progress
from cdjax.train.record import check_resumable, make_record, read_record
from cdjax.train.state import TrainState, abstract_state, init_state
from cdjax.train.step import LossFn, make_train_step
from cdjax.train.stop import Stopped, any_signal, make_agreement, stop_request

log = logging.getLogger(__name__)

EvalFn = Callable[[PyTree, int], Mapping[str, Any]]
Progress = Callable[[str, int, int], contextlib.AbstractContextManager[Update]]


def train_stage(*, name: str, config: Any, stage_config: Any, workdir: str | Path,
                init_fn: Callable[[jax.Array], PyTree], loss_fn: LossFn, frozen: PyTree,
                loader: Any, mesh: Mesh, eval_fn: EvalFn | None = None,
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
    Stopped: SIGTERM or SIGINT while it took steps; the state is saved.
    FloatingPointError: a number was not finite; names the step and the term.
    ValueError: the folder was started with another configuration or other data.
    BlockingIOError: another process trains in the folder.
  """
  folder = Path(workdir) / name
  folder.mkdir(parents=True, exist_ok=True)
  num_steps = stage_config.num_train_steps
  record = make_record(name, config, stage_config, data_fingerprint, frozen)
  tx = make_optimizer(stage_config)

  alone = folder_lock(folder) if is_primary() else contextlib.nullcontext()
  with alone, jax.set_mesh(mesh), open_checkpoints(
      folder / "checkpoints", stage_config.keep_checkpoints) as checkpoints:
    if checkpoints.all_steps():
      check_resumable(read_record(folder), record, folder)
    abstract, shardings = abstract_state(init_fn, tx, mesh)
    restored = restore_newest(checkpoints, abstract)
    if restored is None:
      state, position, start = _begin(name, config, stage_config, folder, record, init_fn, tx,
                                      shardings), {"seconds": 0.0}, 0
    else:
      state, position, start = restored
      log.info("%s: going on from step %d of %d", name, start, num_steps)
    if all_agree(start == num_steps and (folder / "done.json").exists()):
      return state.ema_params

    # What the steps use is put on the mesh once.
    key, frozen = jax.device_put((jax.random.key(config.seed), frozen), replicated(mesh))
    signum = None
    if start < num_steps:
      state, seconds, signum = _run_steps(
          name=name, stage_config=stage_config, folder=folder, record=record, tx=tx, key=key,
          state=state, shardings=shardings, position=position, loss_fn=loss_fn, frozen=frozen,
          loader=loader, mesh=mesh, eval_fn=eval_fn, checkpoints=checkpoints, progress=progress)
    else:
      seconds = position["seconds"]  # it ended between its last checkpoint and done.json
    if is_primary():
      write_json(folder / "done.json", {
          "steps": num_steps, "seconds": round(seconds, 3),
          "fingerprint": tree_fingerprint(load_params(
              folder / "checkpoints" / str(num_steps))[0])})
    all_agree(True)   # nobody asks for the finished stage before it says so
    if signum is not None:
      raise Stopped(f"{name}: stopped after its last step; it is done. The same command goes on "
                    "with the next stage, if there is one", signum)
  return state.ema_params


def _begin(name, config, stage_config, folder, record, init_fn, tx, shardings) -> TrainState:
  """Initial parameters, from a checkpoint where the config says so; writes the record."""
  # The "rbg" generator compiles in a tenth of threefry's time, and a network has many kernels.
  key = stream(jax.random.key(config.seed, impl="rbg"), "init")
  state = init_state(init_fn, tx, shardings, key)
  if stage_config.init_from:
    params, report = init_from(stage_config.init_from, state.params, stage_config.init_include,
                               stage=name)
    state = state.replace(params=params, ema_params=jax.tree.map(jnp.copy, params))
    log.info("%s", report)
    if is_primary():
      write_json(folder / "init_from.json", dataclasses.asdict(report))
  if is_primary():
    write_json(folder / "config.json", record)
    log.info("%s", parameter_overview.get_parameter_overview(
        state.params, include_stats="sharding"))
  return state


def _run_steps(*, name, stage_config, folder, record, tx, key, state, shardings, position, loss_fn,
               frozen, loader, mesh, eval_fn, checkpoints, progress
               ) -> tuple[TrainState, float, int | None]:
  """The loop: from `state.step` to the last step.

  Returns:
    The state, the seconds of all runs, and the signal that came too late to stop before the end.
  """
  cfg = stage_config
  start, num_steps = int(state.step), cfg.num_train_steps
  iterator = iter(loader)
  if start > 0:
    iterator.set_state(decode_position(position["data"]))
  batches = _to_device(iterator, mesh)
  batch, data_state = next(batches)
  shapes = _shapes(batch)
  train_step = make_train_step(
      loss_fn, tx, schedule=make_schedule(cfg), ema_decay=cfg.ema_decay,
      accumulation=cfg.accumulation, mesh=mesh, state_sharding=shardings,
      batch_sharding=jax.tree.leaves(batch)[0].sharding)
  accumulate, agree = make_accumulate(), make_agreement(mesh)
  totals, pending, in_flight = None, None, None
  began = time.perf_counter() - position["seconds"]

  with MetricWriter(folder, start) as writer, progress(name, start, num_steps) as update, \
       stop_request() as stop:

    def write(pending):
      """Writes one line of the log; raises where a step was not finite."""
      if pending is not None:
        step, totals, seconds_per_step = pending
        values = read_totals(totals)
        writer.scalars(step, {**values, "steps_per_second": 1 / seconds_per_step})
        update(step, f"loss {values['loss']:.4g}, {1 / seconds_per_step:.3g} steps/s")

    logged_at, logged_step = time.perf_counter(), start
    for step in range(start + 1, num_steps + 1):
      # The first step is traced, which may put constants on the device; no other transfers.
      with jax.transfer_guard("allow" if step == start + 1 else "disallow"):
        state, metrics = train_step(state, frozen, batch, key)
        totals = accumulate(totals, metrics, state.step)
      if train_step._cache_size() != 1:
        raise RuntimeError(f"{name}: step {step} was traced again; {_difference(shapes, batch)}")
      used = data_state
      if step < num_steps:
        batch, data_state = next(batches)  # while the device computes
      # Stay at most one step ahead of the device, so that stops and clocks mean something.
      jax.block_until_ready(in_flight)
      in_flight = metrics["loss"]
      update(step, None)

      # Several processes stop at the same step, whichever of them was told.
      last, signum = step == num_steps, agree(stop.signum, metrics["loss"])
      stopped = signum is not None
      evaluate = eval_fn is not None and (last or (cfg.eval_every and step % cfg.eval_every == 0))
      save = last or stopped or (cfg.checkpoint_every and step % cfg.checkpoint_every == 0)
      if step % cfg.log_every == 0 or last:
        write(pending)  # one interval late: the device is past it, nothing waits
        now = time.perf_counter()
        pending = step, totals, (now - logged_at) / (step - logged_step)
        totals, logged_at, logged_step = None, now, step
      paused = time.perf_counter()
      if evaluate or save:
        write(pending)
        pending = None
        if totals is not None:
          read_totals(totals)  # nothing that is not finite is ever saved or evaluated
      if evaluate:
        results = dict(eval_fn(state.ema_params, step))
        writer.images(step, results.pop("images", {}))
        writer.scalars(step, {f"eval/{key}": float(value) for key, value in results.items()})
      if save:
        save_checkpoint(
            checkpoints, state, step=step, record=record,
            position={"data": encode_position(used), "seconds": time.perf_counter() - began})
      logged_at += time.perf_counter() - paused
      if stopped and not last:
        finish_checkpoints(checkpoints)
        raise Stopped(f"{name}: stopped at step {step} of {num_steps}; saved in "
                      f"{folder / 'checkpoints' / str(step)}. The same command goes on from there",
                      signum)
    finish_checkpoints(checkpoints)
    signum = any_signal(stop.signum)
  return state, time.perf_counter() - began, signum


def _to_device(iterator: Any, mesh: Mesh) -> Iterator[tuple[PyTree, Any]]:
  """Batches on the mesh, each with the position of the data after it."""
  for batch in iterator:
    state = iterator.get_state()
    sizes = {name: np.shape(leaf)[:1] for name, leaf in named_leaves(batch).items()}
    if len(set(sizes.values())) != 1 or () in sizes.values():
      raise ValueError(f"a batch's arrays must have one size along their first axis; got {sizes}")
    (size,), = set(sizes.values())
    yield to_global(batch, batch_sharding(mesh, size * jax.process_count())), state
  raise ValueError("the loader ended; expected one that repeats its data without end")


def _shapes(batch: PyTree) -> dict[str, str]:
  return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named_leaves(batch).items()}


def _difference(shapes: dict[str, str], batch: PyTree) -> str:
  """Which arrays of a batch differ from those of the first one."""
  now = _shapes(batch)
  changed = [f"{name}: {shapes.get(name, 'absent')} → {now.get(name, 'absent')}"
             for name in sorted(shapes.keys() | now.keys()) if shapes.get(name) != now.get(name)]
  return ("every batch must have the shapes of the first one; changed: " + "; ".join(changed)
          if changed else "the shapes of the batches are the same, so the loss function changed")
