"""A small problem to train in the tests of the engine; also a program, to be killed and resumed.

`python toy.py WORKDIR [SIGNAL STEP]` trains in WORKDIR; with a signal's name and a step it sends
itself that signal while it loads the batch after that step.
"""

import os
import signal
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cdjax.core.config import base_config
from cdjax.sharding.mesh import make_mesh
from cdjax.train.loop import train_stage

WIDTH = 256  # kernels of [64, 256] float32 are 64 KiB: large enough to be sharded
STAGE = "diffusion"


class Network(nn.Module):
  """Two dense layers whose kernels name their axes."""

  @nn.compact
  def __call__(self, x):
    init, named = nn.initializers.lecun_normal(), nn.with_logical_partitioning
    x = nn.gelu(nn.Dense(WIDTH, kernel_init=named(init, ("embed", "mlp")), name="up")(x))
    return nn.Dense(64, kernel_init=named(init, ("mlp", "embed")), name="down")(x)


def init_fn(key: jax.Array):
  return Network().init(key, jnp.zeros((1, 64)))["params"]


def loss_fn(params, frozen, batch, rng, step):
  """Denoising regression: depends on the batch, the random key and the frozen arrays."""
  noise = jax.random.normal(rng, batch["x"].shape)
  prediction = Network().apply({"params": params}, batch["x"] + 0.1 * noise)
  fit = ((prediction - batch["x"] * frozen["scale"]) ** 2).mean()
  size = (prediction ** 2).mean()
  return fit + 1e-3 * size, {"fit": fit, "size": size}


def frozen() -> dict[str, np.ndarray]:
  return {"scale": np.linspace(0.5, 1.5, 64, dtype=np.float32)}


class Loader:
  """Batch i is a function of i, each process has its rows; `before` is called with i first."""

  def __init__(self, batch_size: int = 16, before=lambda index: None):
    self.index, self.batch_size, self.before = 0, batch_size, before

  def __iter__(self):
    return self

  def __next__(self):
    self.before(self.index)
    rng = np.random.default_rng([7, self.index])
    self.index += 1
    batch = rng.normal(size=(self.batch_size, 64)).astype(np.float32)
    rows = self.batch_size // jax.process_count()
    return {"x": batch[jax.process_index() * rows:][:rows]}

  def get_state(self):
    return {"index": self.index}

  def set_state(self, state):
    self.index = state["index"]


def make_config(**changes) -> ConfigDict:
  config = base_config()
  stage = config[STAGE]
  stage.update(dict(num_train_steps=12, warmup_steps=3, learning_rate=1e-2, log_every=3,
                    eval_every=0, checkpoint_every=5, batch_size=16))
  stage.update(changes)
  return config


def train(workdir, *, loader=None, mesh=None, config=None, **kwargs):
  config = config or make_config()
  return train_stage(**(dict(
      name=STAGE, config=config, stage_config=config[STAGE], workdir=workdir, init_fn=init_fn,
      loss_fn=loss_fn, frozen=frozen(), loader=loader or Loader(),
      mesh=mesh or make_mesh(config.mesh)) | kwargs))


def checkpoint_steps(workdir) -> list[int]:
  folder = Path(workdir) / STAGE / "checkpoints"
  return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def assert_equal(a, b) -> None:
  """Equal bit for bit, names and all."""
  a, b = jax.device_get(a), jax.device_get(b)
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def main(workdir: str, signame: str = "", step: str = "0") -> None:
  def before(index: int) -> None:
    if signame and index == int(step):
      if signame == "SIGKILL":  # the checkpoint of an earlier step must be there to go on from
        committed = Path(workdir) / STAGE / "checkpoints" / "5"
        while not committed.exists():
          pass
      os.kill(os.getpid(), getattr(signal, signame))

  train(workdir, loader=Loader(before=before))


if __name__ == "__main__":
  main(*sys.argv[1:])
