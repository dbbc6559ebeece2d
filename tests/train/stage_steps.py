"""A program for `test_stage_devices.py`: steps of a stage of the tiny model, on several meshes.

`python stage_steps.py STAGE STEPS DATAxFSDPxTENSOR ...` prints JSON: for each mesh the losses of
its steps and what its program does. In a run of two processes every mesh has the devices of both.
"""

import json
import sys

import flax.linen as nn
import jax
import numpy as np

from cdjax.core.config import load_config
from cdjax.core.rng import stream
from cdjax.core.trees import named_leaves
from cdjax.sharding.cost import program_cost
from cdjax.sharding.hlo import parse_module
from cdjax.sharding.hosts import initialize_distributed
from cdjax.sharding.logical import MIN_SHARDED_BYTES, RULES
from cdjax.sharding.mesh import AXES, make_mesh, replicated
from cdjax.sharding.partition import batch_sharding
from cdjax.train import ahead
from cdjax.train.optimizer import make_optimizer, make_schedule
from cdjax.train.state import abstract_state, init_state
from cdjax.train.step import make_train_step

BATCH = 16


def draw(name: str, leaf, seed: int) -> np.ndarray:
  """What could stand at this place of a batch."""
  rng = np.random.default_rng([seed, *name.encode()])
  if "status" in name or leaf.dtype == bool:
    return rng.integers(0, 2, leaf.shape).astype(leaf.dtype)
  if leaf.dtype.kind == "i":
    return np.zeros(leaf.shape, leaf.dtype)
  if "severity" in name:
    return rng.uniform(0, 1, leaf.shape).astype(leaf.dtype)
  return np.tanh(rng.normal(size=leaf.shape)).astype(leaf.dtype)


def put(tree, seed: int):
  """Arrays for the shapes of a tree, laid out as those say; every process makes its own part."""
  names = iter(named_leaves(tree))

  def one(leaf):
    value = draw(next(names), leaf, seed)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: value[index])

  return jax.tree.map(one, tree)


def whole_though_divisible(init_fn, state, mesh) -> list[str]:
  """Large parameters that every device has whole though a rule of an axis could split them."""
  boxed = jax.tree.leaves(jax.eval_shape(init_fn, jax.random.key(0)),
                          is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))
  found = []
  for (name, leaf), box in zip(named_leaves(state.params).items(), boxed, strict=True):
    divides = any(mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0
                  for label, size in zip(box.names, leaf.shape, strict=True)
                  for axis in RULES[label])
    whole = leaf.sharding.shard_shape(leaf.shape) == leaf.shape
    if leaf.size * leaf.dtype.itemsize >= MIN_SHARDED_BYTES and divides and whole:
      found.append(name)
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
  text = step.lower(abstract, frozen, shapes, key).compile().as_text()
  gathers = [c.result_bytes for c in program_cost(parse_module(text)).collectives
             if c.kind == "all-gather"]
  return {"losses": losses, "donated": donated, "traced": step._cache_size(), "split": split,
          "whole": whole_though_divisible(init_fn, state, mesh),
          "largest_gather": max(gathers, default=0),
          "parameters": sum(leaf.size * 4 for leaf in jax.tree.leaves(abstract.params)),
          "largest": max(leaf.size * 4 for leaf in jax.tree.leaves(abstract.params))}


def main(stage: str, count: str, *meshes: str) -> None:
  initialize_distributed()
  config = load_config("configs/quickstart.py:tiny")
  # Wide enough that some parameters are worth splitting.
  config.classifier.model.block_out_channels = (16, 64)
  config.diffusion.model.block_out_channels = (16, 64)
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
