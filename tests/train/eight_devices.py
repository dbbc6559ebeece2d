"""A program for `test_devices.py`: trains the toy on several meshes of eight devices.

Prints JSON: for each mesh the largest difference to one device, the layout of a kernel, of its
moments and of its average.
"""

import json
import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import toy

from cdjax.core.rng import stream
from cdjax.sharding.mesh import AXES, make_mesh
from cdjax.train.checkpoint import load_params, open_checkpoints, restore_newest
from cdjax.train.optimizer import make_optimizer
from cdjax.train.state import abstract_state
from cdjax.train.stop import Stopped


def mesh_of(sizes):
  devices = jax.devices()[:int(np.prod(sizes))]
  return make_mesh(dict(zip(AXES, sizes, strict=True)), devices)


def difference(a, b) -> float:
  return max(float(np.abs(np.asarray(x) - np.asarray(y)).max())
             for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def main(workdir: str) -> None:
  config = toy.make_config(num_train_steps=6, accumulation=2, checkpoint_every=0, batch_size=32)
  train = lambda name, sizes, before=lambda index: None: toy.train(
      Path(workdir) / name, mesh=mesh_of(sizes), config=config,
      loader=toy.Loader(32, before=before))
  reference = jax.device_get(train("one", (1, 1, 1)))
  result = {"moved": difference(reference, jax.device_get(toy.nn.unbox(toy.init_fn(
      stream(jax.random.key(config.seed), "init")))))}
  for sizes in [(8, 1, 1), (1, 8, 1)]:
    result[str(sizes)] = difference(train(str(sizes), sizes), reference)

  # Stopped on one mesh, gone on with on another.
  def stop(index):
    if index == 3:
      os.kill(os.getpid(), signal.SIGTERM)
  try:
    train("moved", (2, 2, 2), stop)
  except Stopped:
    folder = Path(workdir) / "moved" / toy.STAGE / "checkpoints"
    tx = make_optimizer(config[toy.STAGE])
    abstract, _ = abstract_state(toy.init_fn, tx, mesh_of((1, 4, 2)))
    with open_checkpoints(folder, 1) as manager:
      state, _, step = restore_newest(manager, abstract)
    spec = lambda tree: list(tree["up"]["kernel"].sharding.spec)
    momenta = [list(leaf.sharding.spec) for path, leaf in
               jax.tree_util.tree_flatten_with_path(state.opt_state)[0]
               if jax.tree_util.keystr(path).endswith("['up']['kernel']")]
    result |= {
        "stopped_at": step, "restored": difference(state.ema_params, load_params(folder)[0]),
        "specs": [spec(state.params), spec(state.ema_params), *momenta],
        "shards": len({str(s.index) for s in state.params["up"]["kernel"].addressable_shards})}
  result["resumed"] = difference(train("moved", (1, 4, 2)), reference)
  print(json.dumps(result))


if __name__ == "__main__":
  main(sys.argv[1])
