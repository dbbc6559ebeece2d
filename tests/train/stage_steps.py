"""A program for `test_stage_devices.py`: steps of a stage of the tiny model, on several meshes.

`python stage_steps.py STAGE STEPS DATAxFSDPxTENSOR ...` prints JSON: for each mesh the losses of
its steps and what its program does. In a run of two processes every mesh has the devices of both.
"""

import json
import sys

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cdjax.core.config import load_config
from cdjax.core.rng import stream
from cdjax.core.trees import named_leaves
from cdjax.sharding.hlo import parse_module, replica_groups
from cdjax.sharding.hosts import initialize_distributed
from cdjax.sharding.logical import MIN_SHARDED_BYTES, RULES, SPARE, resolve_spec
from cdjax.sharding.mesh import AXES, make_mesh, replicated
from cdjax.sharding.partition import batch_sharding, to_global
from cdjax.train import ahead
from cdjax.train.optimizer import make_optimizer, make_schedule
from cdjax.train.state import abstract_state, init_state
from cdjax.train.step import make_train_step

BATCH = 16


def draw(name: str, leaf, seed: int) -> np.ndarray:
  """What could stand at this place of a batch."""
  rng = np.random.default_rng([seed, *name.encode()])
  if "patient" in name:
    return np.arange(leaf.size, dtype=leaf.dtype)
  if "status" in name or leaf.dtype == bool:
    return rng.integers(0, 2, leaf.shape).astype(leaf.dtype)
  if leaf.dtype.kind == "i":
    return np.zeros(leaf.shape, leaf.dtype)
  if "severity" in name:
    return rng.uniform(0, 1, leaf.shape).astype(leaf.dtype)
  return np.tanh(rng.normal(size=leaf.shape)).astype(leaf.dtype)


def put(tree, seed: int):
  """A batch for the shapes of a tree; every process has other rows, as its loader would give."""
  names = iter(named_leaves(tree))
  part = BATCH // jax.process_count()
  mine = slice(jax.process_index() * part, (jax.process_index() + 1) * part)
  sharding = jax.tree.leaves(tree)[0].sharding
  return to_global(jax.tree.map(lambda leaf: draw(next(names), leaf, seed)[mine], tree), sharding)


def misplaced(init_fn, state, mesh) -> list[str]:
  """Arrays of parameters, of their average and of their moments that lie not as the table says.

  Those of 64 KiB and more must be split along every axis of the mesh that divides one of theirs.
  """
  boxed = jax.tree_util.tree_leaves_with_path(
      jax.eval_shape(init_fn, jax.random.key(0)),
      is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))
  leaves = jax.tree_util.tree_leaves_with_path(state)
  found = []
  for path, box in boxed:
    names = box.names if isinstance(box, nn.Partitioned) else (None,) * len(box.shape)
    array = nn.unbox(box)
    large = array.size * array.dtype.itemsize >= MIN_SHARDED_BYTES
    spec = resolve_spec(names, array.shape, mesh) if large else PartitionSpec()
    copies = [(where, leaf) for where, leaf in leaves
              if where[-len(path):] == path and leaf.shape == array.shape]
    assert len(copies) >= 3, path   # parameter, average, one moment or more
    for where, leaf in copies:
      name = f"{jax.tree_util.keystr(where)} {leaf.shape} {leaf.sharding.spec}"
      if not leaf.sharding.is_equivalent_to(NamedSharding(mesh, spec), leaf.ndim):
        found.append(f"{name}: expected {spec}")
      used = {axis for part in leaf.sharding.spec if part
              for axis in ((part,) if isinstance(part, str) else part)}
      for axis in {"fsdp", "tensor"} - used if large and mesh.size > 1 else ():
        if mesh.shape[axis] > 1 and any(
            size % mesh.shape[axis] == 0 and (axis in RULES.get(label, ())
                                              or (axis == "fsdp" and label in SPARE))
            for label, size in zip(names, leaf.sharding.shard_shape(leaf.shape), strict=True)):
          found.append(f"{name}: not split over {axis}")
  return found


def gathered(text: str, mesh) -> list[int]:
  """Bytes of what each all-gather of a program makes, but for those along the axis tensor alone.

  Those are of activations, of which each device of the axis has computed a part.
  """
  found, tensor = [], mesh.shape["tensor"]
  for instructions in parse_module(text).computations.values():
    for instruction in instructions.values():
      if instruction.opcode.removesuffix("-start") == "all-gather":
        replicas = replica_groups(instruction) // tensor
        if (replicas != replicas[:, :1]).any():
          found.append(sum(array.bytes for array in instruction.shape))
  return found


def steps(config, stage: str, mesh, count: int) -> dict:
  cfg = config[stage]
  init_fn, loss_fn, frozen = ahead.objective(config, stage, mesh)
  tx = make_optimizer(cfg)
  abstract, shardings = abstract_state(init_fn, tx, mesh)
  sharding = batch_sharding(mesh, BATCH)
  step = make_train_step(
      loss_fn, tx, schedule=make_schedule(cfg), ema_decay=cfg.ema_decay,
      accumulation=cfg.accumulation, mesh=mesh, state_sharding=shardings, batch_sharding=sharding)
  shapes = ahead.abstract_batch(config, stage, BATCH, sharding)
  frozen = jax.tree.map(
      lambda leaf: jax.device_put(np.ones(leaf.shape, leaf.dtype), leaf.sharding), frozen)
  key = jax.device_put(jax.random.key(0), replicated(mesh))
  state = init_state(init_fn, tx, shardings, stream(jax.random.key(0, impl="rbg"), "init"))
  losses, donated = [], True
  for i in range(count):
    batch, before = put(shapes, i), state
    with jax.transfer_guard("allow" if i == 0 else "disallow"):
      state, metrics = step(state, frozen, batch, key)
    donated &= all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    losses.append(float(jax.device_get(metrics["loss"])))
  split = [name for name, leaf in named_leaves(state.params).items()
           if leaf.sharding.shard_shape(leaf.shape) != leaf.shape]
  gathers = gathered(step.lower(abstract, frozen, shapes, key).compile().as_text(), mesh)
  return {"losses": losses, "donated": donated, "traced": step._cache_size(), "split": split,
          "misplaced": misplaced(init_fn, state, mesh),
          "largest_gather": max(gathers, default=0),
          "largest": max(leaf.size * 4 for leaf in jax.tree.leaves(abstract.params))}


def main(stage: str, count: str, *meshes: str) -> None:
  initialize_distributed()
  config = load_config("configs/quickstart.py:tiny")
  # Wide enough that some parameters are worth splitting.
  for name in ("diffusion", "classifier", "judge", "verifier"):
    config[name].model.block_out_channels = (16, 64)
  result = {}
  for text in meshes:
    sizes = tuple(map(int, text.split("x")))
    mesh = make_mesh(dict(zip(AXES, sizes, strict=True)), jax.devices()[:int(np.prod(sizes))])
    with jax.set_mesh(mesh):   # as `train.loop` does
      result[text] = steps(config, stage, mesh, int(count))
  if jax.process_index() == 0:
    print("result " + json.dumps(result))


if __name__ == "__main__":
  main(*sys.argv[1:])
