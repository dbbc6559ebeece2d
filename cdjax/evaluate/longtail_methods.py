"""What the long-tail benchmark compares: ways to make images, ways to train a classifier."""

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

# Trainings of the diffusion: name → the keys that make it so, given config.longtail.
VARIANTS: dict[str, Callable[[ConfigDict], dict]] = {
    "plain": lambda c: {},
    "sampling": lambda c: {"diffusion.class_sampling": c.class_sampling},
    "cbdm": lambda c: {"diffusion.cbdm.weight": c.cbdm_weight},
}
_FINE_TUNING = 1 / 3   # of the learning rate, after training on synthetic images


@dataclasses.dataclass(frozen=True)
class Method:
  """How images are made.

  Attributes:
    meaning: in words.
    variant: of the training, see `VARIANTS`.
    start: of the optimised noises, "" for none.
    steps: gradient steps; None: config.noise.steps.
  """

  meaning: str
  variant: str
  start: str = ""
  steps: int | None = None


METHODS = {
    "nothing": Method("no remedy", "plain"),
    "class_sampling": Method("images of rare findings drawn more often in training", "sampling"),
    "cbdm": Method("class-balancing diffusion", "cbdm"),
    "noise_random": Method("noises optimised from random starts", "plain", "random"),
    "noise_mixed": Method("noises optimised from mixed references", "plain", "mixed"),
    "mixed_starts": Method("mixed references, not optimised", "plain", "mixed", 0),
    "sampling_noise_mixed": Method("class-aware sampling, and noises optimised from mixed "
                                   "references", "sampling", "mixed"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a classifier is trained.

  Attributes:
    meaning: in words.
    sampling, balanced: switches of the classifier.
    method: whose synthetic images it sees, "" for none.
    pretrain: first on the synthetic images with real healthy and head ones, then on real ones.
  """

  meaning: str
  sampling: bool = False
  balanced: bool = False
  method: str = ""
  pretrain: bool = False


RECIPES = {
    "real": Recipe("real images alone"),
    "resampled": Recipe("real images, rare findings drawn more often", sampling=True),
    "balanced_loss": Recipe("real images, class-balanced loss", balanced=True),
    "resampled_balanced": Recipe("both of these", sampling=True, balanced=True),
    **{f"with_{name}": Recipe(f"real images, and synthetic ones: {METHODS[name].meaning}",
                              method=name)
       for name in ("nothing", "noise_mixed", "sampling_noise_mixed")},
    **{f"with_{name}_resampled_balanced": Recipe(
        f"real and synthetic images ({method.meaning}), resampled, class-balanced loss",
        sampling=True, balanced=True, method=name)
       for name, method in METHODS.items() if name != "mixed_starts"},
    "pretrained": Recipe(
        "first synthetic images (noise_mixed) with real healthy and head ones, then real ones at a "
        "third of the learning rate; resampled, class-balanced loss", sampling=True, balanced=True,
        method="noise_mixed", pretrain=True),
}
# Recipes that see real images only.
WITHOUT_SYNTHETIC = tuple(name for name, recipe in RECIPES.items() if not recipe.method)


def method_config(config: ConfigDict, method: Method, seed: int) -> ConfigDict:
  """The configuration that a method's images are made with, from training to answer."""
  config = _with(config, VARIANTS[method.variant](config.longtail) | {"seed": seed})
  if method.start:
    config.noise.start = method.start
    config.noise.steps = config.noise.steps if method.steps is None else method.steps
  return config


def recipe_config(config: ConfigDict, recipe: Recipe, seed: int) -> ConfigDict:
  """The configuration that a recipe's classifier learns real images with."""
  changes = {"seed": seed}
  if recipe.sampling:
    changes["classifier.class_sampling"] = config.longtail.class_sampling
  if recipe.balanced:
    changes["classifier.class_balanced_loss"] = config.longtail.class_balanced_loss
  if recipe.pretrain:
    changes["classifier.learning_rate"] = _FINE_TUNING * config.classifier.learning_rate
  return _with(config, changes)


def _with(config: ConfigDict, changes: dict) -> ConfigDict:
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config
