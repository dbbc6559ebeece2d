"""A long run of the toy that kills itself; `test_kills.py` starts it again and again.

`python killed_toy.py WORKDIR [PLACE STEPS]`: STEPS after the step where it goes on, by SIGKILL,
  data   while it reads a batch
  step   while the device computes
  save   while a checkpoint is being written, as soon as its folder is there
Without a place it runs to its end and prints the fingerprint of the parameters.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import toy

from cdjax.core.trees import tree_fingerprint

STEPS = 400


def die():
  os.kill(os.getpid(), signal.SIGKILL)


def watch(folder: Path) -> None:
  while not any(".orbax-checkpoint-tmp" in path.name for path in folder.glob("*")):
    pass
  die()


def main(workdir: str, place: str = "", steps: str = "0") -> None:
  folder = Path(workdir) / toy.STAGE / "checkpoints"
  first = max(toy.checkpoint_steps(workdir), default=0) if folder.exists() else 0
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
        threading.Thread(target=watch, args=(folder,), daemon=True).start()
    yield update

  config = toy.make_config(num_train_steps=STEPS, checkpoint_every=3, log_every=50)
  params = toy.train(workdir, loader=toy.Loader(before=before), config=config, progress=progress)
  print(f"fingerprint {tree_fingerprint(params)}")


if __name__ == "__main__":
  main(*sys.argv[1:])
