"""A program for `test_mesh_programs.py`: answers and optimised noises on several meshes.

`python mesh_programs.py DATAxFSDPxTENSOR ...` prints JSON: for each mesh how far its answers and
its noises' losses are from those of one device, relative to the largest of these, and how they lie.
"""

import functools
import json
import sys

import flax.linen as nn
import jax
import numpy as np

from cdjax.core.config import load_config
from cdjax.core.trees import named_leaves
from cdjax.core.types import FindingsArrays
from cdjax.counterfactual.ahead import (
  make_answer_program,
  make_noise_program,
  rows_sharding,
  task_sharding,
)
from cdjax.counterfactual.causal_model import CausalParams, make_causal_model
from cdjax.counterfactual.noise_objective import NoiseTask
from cdjax.evaluate.trained import abstract_params, put, spread
from cdjax.models.denoiser import LatentStats
from cdjax.sharding.mesh import AXES, make_mesh
from cdjax.train.ahead import latent_shape
from cdjax.train.objectives import autoencoder, diffusion

QUESTIONS = 5    # do not divide
NOISES = 8


def make_params(config, rng) -> CausalParams:
  """Networks that do something: no parameter is at its initial zero."""
  key, (height, width, slots, channels) = jax.random.key(0), latent_shape(config)
  made = {"autoencoder": jax.jit(lambda key: nn.unbox(autoencoder.init_params(
              config, key)["autoencoder"]))(key),
          "denoiser": jax.jit(lambda key: nn.unbox(diffusion.init_params(
              config, latent_shape(config), key)["denoiser"]))(key)}
  moved = jax.tree.map(lambda leaf: np.float32(leaf + 0.05 * rng.normal(size=leaf.shape)), made)
  ones = lambda *shape: np.ones(shape, np.float32)
  return CausalParams(**moved, stats=LatentStats(
      0 * ones(channels), ones(channels), 0 * ones(slots - 1, channels), ones(slots - 1, channels),
      ones(height, width, channels)))


def draw_findings(config, rng, size: int) -> FindingsArrays:
  shape = (size, len(config.data.vocabulary))
  return FindingsArrays(
      rng.integers(0, 2, shape).astype(np.int8), rng.uniform(size=shape).astype(np.float32),
      rng.integers(0, 4, shape).astype(np.int8), rng.integers(0, 8, shape).astype(np.int8))


def make_task(config, rng) -> tuple[np.ndarray, NoiseTask]:
  height, width, slots, channels = latent_shape(config)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  place = (height, width, channels)
  return normal(NOISES, *place), NoiseTask(
      draw_findings(config, rng, NOISES), normal(NOISES, height, width, slots - 1, channels),
      place=rng.integers(0, 2, NOISES).astype(np.int32), centroid=normal(NOISES, *place),
      reach=1 + normal(NOISES) ** 2, healthy=normal(*place), spread=1 + normal(*place) ** 2,
      channel_mean=normal(NOISES, channels), channel_std=1 + normal(NOISES, channels) ** 2,
      references=normal(config.noise.references, *place), allowed=np.float32(8.0))


def main(*meshes: str) -> None:
  config = load_config("configs/quickstart.py:tiny")
  config.diffusion.model.block_out_channels = (16, 64)   # some parameters are worth splitting
  config.counterfactual.invert = "never"
  model, rng = make_causal_model(config), np.random.default_rng(0)
  params, (starts, task) = make_params(config, rng), make_task(config, rng)
  side = config.data.resolution
  question = (jax.random.key(1), np.tanh(rng.normal(size=(QUESTIONS, side, side, 1))).astype(
      np.float32), draw_findings(config, rng, QUESTIONS), draw_findings(config, rng, QUESTIONS))

  def run(sizes):
    mesh = make_mesh(dict(zip(AXES, sizes, strict=True)), jax.devices()[:int(np.prod(sizes))])
    place = lambda leaf, like: put(leaf, like.sharding)
    placed = jax.tree.map(place, params, abstract_params(config, mesh))
    ask = make_answer_program(mesh, model, config.counterfactual)
    whole = spread(mesh, functools.partial(ask, placed))(*question)
    optimise = make_noise_program(mesh, model, counterfactual=config.counterfactual,
                                  noise=config.noise)
    rows = rows_sharding(mesh, NOISES)
    found = optimise(placed, put(starts, rows), jax.tree.map(
        lambda leaf, to: put(leaf, to), task, task_sharding(mesh, NOISES, task)))
    return np.asarray(whole), jax.device_get(found), {
        "split": sum(leaf.sharding.shard_shape(leaf.shape) != leaf.shape
                     for leaf in named_leaves(placed).values()),
        "noises_a_device": rows.shard_shape((NOISES,))[0], "everywhere":
        found.z_T.is_fully_replicated and len(found.z_T.sharding.device_set) == mesh.size}

  images, noises, _ = run((1, 1, 1))
  far = lambda a, b: float(np.abs(a - b).max() / np.abs(b).max())
  result = {"moved": far(noises.z_T, starts), "differ": float(np.std(images))}
  for text in meshes:
    answers, optimised, how = run(tuple(map(int, text.split("x"))))
    result[text] = how | {
        "answers": far(answers, images), "z_T": far(optimised.z_T, noises.z_T),
        "curves": max(far(optimised.curves[name], curve)
                      for name, curve in noises.curves.items())}
  print("result " + json.dumps(result))


if __name__ == "__main__":
  main(*sys.argv[1:])
