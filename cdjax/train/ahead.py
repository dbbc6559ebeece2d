"""The training step of a stage, lowered from shapes alone: no data, no parameters, no device.

What `cdjax compile` compiles for TPUs that are not there is the very step that `train.loop` runs.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from cdjax.core.types import FindingsArrays, PyTree
from cdjax.models.denoiser import LatentStats
from cdjax.sharding.mesh import replicated
from cdjax.sharding.partition import batch_sharding
from cdjax.train.objectives import autoencoder, classifier, diffusion, verifier
from cdjax.train.optimizer import make_optimizer, make_schedule
from cdjax.train.stages import frozen_words, read_phrases
from cdjax.train.state import TrainState, abstract_state
from cdjax.train.step import make_train_step

STAGES = ("autoencoder", "diffusion", "classifier", "judge", "verifier")


def latent_shape(config: ConfigDict) -> tuple[int, int, int, int]:
  """`(h, w, n, c)` of the latents that the configured autoencoder makes."""
  model = config.autoencoder.model
  side = config.data.resolution // (model.patch * 2 ** (len(model.block_out_channels) - 1))
  return side, side, model.slots, model.slot_channels


def denoised_channels(config: ConfigDict) -> int:
  """Channels of what the diffusion denoises: c, or n·c where its target is everything."""
  _, _, slots, channels = latent_shape(config)
  return channels * (slots if config.diffusion.target == "everything" else 1)


def abstract_findings(config: ConfigDict, size: int, sharding: NamedSharding) -> FindingsArrays:
  """Shapes of the findings of `size` examples."""
  shape = (size, len(config.data.vocabulary))
  of = lambda dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
  return FindingsArrays(of(jnp.int8), of(jnp.float32), of(jnp.int8), of(jnp.int8))


def abstract_batch(config: ConfigDict, stage: str, size: int, sharding: NamedSharding) -> PyTree:
  """Shapes of a batch of `size` examples as the stage's loader gives them."""
  of = lambda shape, dtype=jnp.float32: jax.ShapeDtypeStruct((size, *shape), dtype,
                                                             sharding=sharding)
  image = of((config.data.resolution, config.data.resolution, 1))
  findings = abstract_findings(config, size, sharding)
  batch = {"findings": findings, "index": of((), jnp.int32), "patient": of((), jnp.int32),
           "view": of((), jnp.int32)}
  mates = {"mate_findings": findings, "mate_index": of((), jnp.int32),
           "mate_view": of((), jnp.int32), "is_true_mate": of((), jnp.bool_)}
  if stage in ("autoencoder", "verifier"):
    return batch | mates | {"image": image, "mate_image": image}
  if stage == "classifier":
    return batch | {"image": image}
  if stage == "judge":
    return {"image": image, "findings": findings}
  height, width, slots, channels = latent_shape(config)
  path = of((height, width, denoised_channels(config)))
  identity = of((height, width, slots - 1, channels))
  return batch | mates | {
      **{f"{name}_{part}": path for name in ("path", "mirror") for part in ("mean", "logvar")},
      "id_mean": identity, "id_logvar": identity}


def abstract_stats(config: ConfigDict, mesh: Mesh) -> LatentStats:
  """Shapes of the statistics that standardise latents; on every device."""
  height, width, slots, channels = latent_shape(config)
  of = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=replicated(mesh))
  path, identity = of(denoised_channels(config)), of(slots - 1, channels)
  return LatentStats(path_mean=path, path_std=path, id_mean=identity, id_std=identity,
                     path_information=of(height, width, denoised_channels(config)))


def abstract_text(config: ConfigDict, mesh: Mesh) -> PyTree:
  """Shapes of the words that a text encoder makes of the findings; None without one."""
  return _shapes(read_phrases(config)[0], mesh)


def _shapes(tree: PyTree, mesh: Mesh) -> PyTree:
  """Of arrays that every device holds."""
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(
      np.shape(leaf), leaf.dtype, sharding=replicated(mesh)), tree)


def abstract_key(mesh: Mesh) -> jax.ShapeDtypeStruct:
  """The shape of a random key."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=replicated(mesh))


def objective(config: ConfigDict, stage: str, mesh: Mesh) -> tuple[Callable, Callable, PyTree]:
  """`init_fn`, `loss_fn` and the shapes of the frozen arrays, as `train.loop` takes them."""
  if stage == "autoencoder":
    reader = {}
    if config.autoencoder.loss.perceptual:
      shapes = jax.eval_shape(lambda key: classifier.init_params(config, "classifier", key),
                              jax.random.key(0))
      reader = _shapes(nn.unbox(shapes), mesh)
    return (lambda key: autoencoder.init_params(config, key), autoencoder.make_loss_fn(config),
            reader)
  if stage == "verifier":
    return lambda key: verifier.init_params(config, key), verifier.make_loss_fn(config), {}
  if stage in ("classifier", "judge"):
    return (lambda key: classifier.init_params(config, stage, key),
            classifier.make_loss_fn(config, stage), {})
  text, encoder = read_phrases(config)
  frozen, tower = frozen_words(config, text, encoder)
  return (lambda key: diffusion.init_params(config, latent_shape(config), key, text, tower),
          diffusion.make_loss_fn(config, tower),
          _shapes(frozen, mesh) | {"stats": abstract_stats(config, mesh)})


def abstract_stage(config: ConfigDict, stage: str, mesh: Mesh) -> TrainState:
  """The training state of a stage: shapes that carry their shardings.

  Raises:
    ValueError: no such stage.
  """
  if stage not in STAGES:
    raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")
  init_fn, _, _ = objective(config, stage, mesh)
  return abstract_state(init_fn, make_optimizer(config[stage]), mesh)[0]


def lower_train_step(config: ConfigDict, stage: str, mesh: Mesh, *,
                     batch_size: int) -> jax.stages.Lowered:
  """A stage's step, ready to be compiled for the devices of `mesh`.

  Args:
    config: the configuration.
    stage: one of `STAGES`.
    mesh: may be of devices that do not exist here.
    batch_size: examples over all devices.

  Raises:
    ValueError: no such stage, or a batch that does not divide over the mesh.
  """
  cfg = config[stage]
  parts = mesh.shape["data"] * mesh.shape["fsdp"] * cfg.accumulation
  if batch_size % parts:
    raise ValueError(f"{stage}: a batch of {batch_size} over {parts // cfg.accumulation} devices "
                     f"of the axes data and fsdp in {cfg.accumulation} micro-batches; expected a "
                     f"multiple of {parts}")
  abstract = abstract_stage(config, stage, mesh)
  _, loss_fn, frozen = objective(config, stage, mesh)
  sharding = batch_sharding(mesh, batch_size)
  step = make_train_step(
      loss_fn, make_optimizer(cfg), schedule=make_schedule(cfg), ema_decay=cfg.ema_decay,
      accumulation=cfg.accumulation, mesh=mesh,
      state_sharding=jax.tree.map(lambda leaf: leaf.sharding, abstract),
      batch_sharding=sharding)
  return step.lower(abstract, frozen, abstract_batch(config, stage, batch_size, sharding),
                    abstract_key(mesh))
