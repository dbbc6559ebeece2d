"""A long run of the toy that kills itself; `test_kills.py` starts it again and again.

`python killed_toy.py WORKDIR [PLACE STEPS [PROCESS]]`: STEPS after the step where it goes on, by
SIGKILL (of two processes: to that one),
  data   while it reads a batch
  step   while the device computes
  save   while a checkpoint is being written, once its folder has STEPS - 4 files (or is complete)
Without a place it runs to its end and prints the fingerprint of the parameters.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import toy
from jax.experimental import multihost_utils

from cdjax.core.trees import tree_fingerprint
from cdjax.sharding.hosts import initialize_distributed, leave_when_others_are_lost
from cdjax.sharding.mesh import make_mesh

STEPS = 400   # more than thirty times as far as one run gets


def die():
  os.kill(os.getpid(), signal.SIGKILL)


def watch(folder: Path, files: int) -> None:
  seen = None
  while True:
    with contextlib.suppress(FileNotFoundError):   # it has just got its name
      for path in folder.glob("*.orbax-checkpoint-tmp*"):
        seen = path
        if sum(1 for _ in path.rglob("*")) >= files:
          die()
    if seen is not None and not seen.exists():
      die()


def main(workdir: str, place: str = "", steps: str = "0", process: str = "0") -> None:
  initialize_distributed()
  if jax.process_index() != int(process):
    place = ""
  folder = Path(workdir) / toy.STAGE / "checkpoints"
  first = max(toy.checkpoint_steps(workdir), default=0) if folder.exists() else 0
  print(f"from step {first}", flush=True)
  at = first + int(steps)
  reached = threading.Event()

  def before(index: int) -> None:
    if place == "data" and index == at:
      die()

  @contextlib.contextmanager
  def progress(name, start, total):
    def update(step, text):
      if step == at and place == "step":
        die()
      if step == at and place == "save" and not reached.is_set():
        reached.set()
        threading.Thread(target=watch, args=(folder, int(steps) - 4), daemon=True).start()
    yield update

  config = toy.make_config(
      num_train_steps=STEPS, checkpoint_every=3, log_every=50)
  mesh = {"data": 2, "fsdp": 2, "tensor": 2} if jax.process_count() > 1 else config.mesh
  with leave_when_others_are_lost():
    params = toy.train(workdir, loader=toy.Loader(before=before), config=config,
                       mesh=make_mesh(mesh), progress=progress)
    if jax.process_count() > 1:
      params = jax.tree.map(np.asarray, multihost_utils.process_allgather(params, tiled=True))
  print(f"fingerprint {tree_fingerprint(params)}")


if __name__ == "__main__":
  main(*sys.argv[1:])
