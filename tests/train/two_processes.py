"""One of two processes of four devices each; `test_processes.py` starts both.

`python two_processes.py WORKDIR [SIGNAL STEP PROCESS]`: trains the toy on a mesh of both. The
process with that number sends itself that signal while it loads the batch after that step, or fails
there ("error"). Prints the fingerprint of the parameters.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import toy
from jax.experimental import multihost_utils

from cdjax.core.trees import tree_fingerprint
from cdjax.sharding.hosts import initialize_distributed, leave_when_others_are_lost
from cdjax.sharding.mesh import make_mesh
from cdjax.train.stop import Stopped


def main(workdir: str, signame: str = "", step: str = "0", process: str = "0") -> int:
  initialize_distributed()

  def before(index: int) -> None:
    if signame and index == int(step) and jax.process_index() == int(process):
      if signame == "SIGKILL":
        committed = Path(workdir) / toy.STAGE / "checkpoints" / "5"
        while not committed.exists():
          pass
      if signame == "error":
        raise ValueError(f"row {index} cannot be read")
      os.kill(os.getpid(), getattr(signal, signame))

  try:
    with leave_when_others_are_lost(Stopped):
      params = toy.train(workdir, loader=toy.Loader(before=before),
                         mesh=make_mesh({"data": 2, "fsdp": 2, "tensor": 2}))
  except Stopped as stop:
    print(stop)
    return stop.exit_code
  whole = jax.tree.map(np.asarray, multihost_utils.process_allgather(params, tiled=True))
  print(f"fingerprint {tree_fingerprint(whole)}")
  return 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
