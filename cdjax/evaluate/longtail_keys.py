"""What a cell of the long-tail benchmark depends on: it is computed again when that changes.

Keys that have their default are left out, so that a key that is newer than a cell does not throw it
away; a default that changes its value has to be set in the configuration to be seen here.
"""

import functools
from typing import Any

from ml_collections import ConfigDict

from cdjax.core.config import base_config
from cdjax.core.provenance import flatten, to_plain
from cdjax.evaluate.longtail_methods import METHODS, Method, Recipe, method_config, recipe_config
from cdjax.train.record import FREE_DATA_KEYS, FREE_STAGE_KEYS

_FREE = FREE_DATA_KEYS | FREE_STAGE_KEYS
_MODEL = ("data", "autoencoder", "diffusion", "text")
# What decides a stage's result besides the data and the seed.
_STAGES = {"data": (), "autoencoder": ("autoencoder",), "latents": ("autoencoder",),
           "diffusion": ("autoencoder", "diffusion", "text"),
           "classifier": ("classifier", "autoencoder.model.max_shift"),
           "judge": ("judge", "autoencoder.model.max_shift")}


@functools.cache
def _defaults() -> dict[str, Any]:
  return flatten(to_plain(base_config()))


def changed(config: ConfigDict, *names: str) -> dict[str, Any]:
  """The values that differ from the defaults and can change a result, flattened.

  Args:
    config: the whole configuration.
    *names: sections ("data") or keys ("noise.batch_size") that count.
  """
  if "autoencoder" in names and config.autoencoder.loss.perceptual:
    names += ("classifier",)   # whose features count
  inside = lambda key: any(f"{key}.".startswith(f"{name}.") for name in names)
  return {key: value for key, value in flatten(to_plain(config)).items()
          if inside(key) and key.rpartition(".")[2] not in _FREE
          and (key not in _defaults() or _defaults()[key] != value)}


def data_key(config: ConfigDict) -> dict:
  """Of what is known of the training images."""
  return changed(config, "data")


def stage_key(config: ConfigDict, stage: str) -> dict:
  """Of a trained stage, "data" or "latents": runs with the same key share its folder."""
  key = changed(config, "data", *_STAGES[stage])
  if stage == "judge":   # its images are its own
    key = {name: value for name, value in key.items() if not name.startswith("data.phantom.")}
  seeded = stage not in ("data", "judge")
  return key | {"seed": config.seed if seeded else 0, "stage": stage}


def _making(config: ConfigDict, method: Method, seed: int) -> dict:
  """Of all that makes a method's images."""
  config = method_config(config, method, seed)
  noise = ("noise", "longtail.noises", "longtail.head") if method.start else (
      "noise.batch_size", "noise.mirror")
  return changed(config, *_MODEL, "counterfactual", *noise) | {
      "seed": seed, "bank": bool(method.start)}


def measure_key(config: ConfigDict, method: Method, seed: int) -> dict:
  """Of the measures of a method."""
  return _making(config, method, seed) | changed(config, "judge", "longtail.images")


def curve_key(config: ConfigDict, method: Method, seed: int) -> dict:
  """Of the measures of a method on the tail."""
  return measure_key(config, method, seed) | changed(config, "longtail.tail")


def head_key(config: ConfigDict, methods: tuple[Method, Method], seed: int) -> dict:
  """Of the comparison of two methods' images of the head."""
  return changed(config, "longtail.images", "longtail.head") | {
      "methods": [_making(config, method, seed) for method in methods]}


def memory_key(config: ConfigDict) -> dict:
  """Of the memory that a gradient takes; its start and sampler steps are the benchmark's own."""
  key = changed(config, *_MODEL, "counterfactual", "noise")
  return {name: value for name, value in key.items()
          if name not in ("noise.start", "noise.sampler_steps")}


def test_key(config: ConfigDict) -> dict:
  """Of the test images of the classifiers."""
  return changed(config, "data.vocabulary", "data.resolution", "longtail.test_images")


def classify_key(config: ConfigDict, recipe: Recipe, seed: int) -> dict:
  """Of a classifier's probabilities: data and classifier, and what made its synthetic images."""
  key = changed(recipe_config(config, recipe, seed), "data", "classifier") | test_key(config) | {
      "seed": seed}
  if recipe.method:
    key |= {"synthetic": set_key(config, METHODS[recipe.method], seed),
            "pretrain": recipe.pretrain}
  if recipe.pretrain:
    key |= changed(config, "longtail.head")
  return key


def set_key(config: ConfigDict, method: Method, seed: int) -> dict:
  """Of the synthetic images that fill every finding up."""
  return _making(config, method, seed) | changed(config, "longtail.fill")
