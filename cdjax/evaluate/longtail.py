"""The long-tail benchmark: which remedy makes images of rare findings, and what they are worth.

Cells, each kept on disk as it ends: MEASURE/METHOD-SEED measures the images of one method,
CURVE/STEPS its effectiveness against gradient steps, MEMORY what a gradient takes, and
CLASSIFY/RECIPE-SEED trains a classifier and keeps its probabilities for new patients.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cdjax.core.rng import stream
from cdjax.core.types import PRESENT
from cdjax.data.ensure import ensure_dataset
from cdjax.data.phantom import balanced_batch
from cdjax.data.source import open_split
from cdjax.evaluate.features import classifier_extractor
from cdjax.evaluate.image_metrics import from_model
from cdjax.evaluate.longtail_measures import Judges, measure_finding, new_patients
from cdjax.evaluate.noise_workdir import make_noise_fns, noise_memory, optimise_bank
from cdjax.evaluate.references import LatentSpace, load_space
from cdjax.evaluate.resume import fingerprint_of, resumed, resumed_arrays
from cdjax.evaluate.synthesis import fill_to, make_answer_fn, make_generator
from cdjax.evaluate.trained import Trained, load_trained, make_findings_fn
from cdjax.evaluate.utility import Labelled, join, probabilities, train_classifier
from cdjax.models.classifier import make_classifier
from cdjax.train.shared import share_stage
from cdjax.train.stages import STAGES

# Trainings of the diffusion: name → the keys that make it so, given config.longtail.
VARIANTS: dict[str, Callable[[ConfigDict], dict]] = {
    "plain": lambda c: {},
    "sampling": lambda c: {"diffusion.class_sampling": c.class_sampling},
    "cbdm": lambda c: {"diffusion.cbdm.weight": c.cbdm_weight},
}


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
    pretrain: the synthetic images first, alone, then the real ones.
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
    **{f"with_{name}": Recipe(f"real images, and synthetic ones: {method.meaning}", method=name)
       for name, method in METHODS.items() if name != "mixed_starts"},
    "pretrained": Recipe("synthetic images (noise_mixed) first, then real ones",
                         method="noise_mixed", pretrain=True),
}
TEST_SEED, PATIENT_SEED = 70001, 70002


@dataclasses.dataclass(frozen=True)
class Cell:
  """One result: "measure/noise_mixed-0", and what computes it."""

  name: str
  run: Callable[[], dict]


class Benchmark:
  """The cells of a configuration in a folder; expensive parts are made when they are first used."""

  def __init__(self, config: ConfigDict, workdir: Path):
    self.config, self.workdir = config, Path(workdir)
    self._trained = functools.lru_cache(maxsize=2)(self._load)
    self._held = functools.cache(self._judging)
    # How many seeds and steps there are does not change any one cell.
    values = config.to_dict()
    values["longtail"] = {key: value for key, value in values["longtail"].items()
                          if key not in ("seeds", "curve_steps", "bootstrap")}
    self._print = fingerprint_of(values)

  def cells(self) -> list[Cell]:
    """Every cell; each method's first seed before any method's second."""
    cells = []
    for seed in range(self.config.longtail.seeds):
      cells += [Cell(f"measure/{name}-{seed}", functools.partial(self.measure, name, seed))
                for name in METHODS]
      cells += [Cell(f"classify/{name}-{seed}", functools.partial(self.classify, name, seed))
                for name in RECIPES]
      if seed == 0:
        cells += [Cell(f"curve/{steps}", functools.partial(self.curve, steps))
                  for steps in self.config.longtail.curve_steps]
        cells.append(Cell("memory", self.memory))
    return cells

  def done(self) -> dict:
    """The cells that are there: "measure" and "classify": name → results of its seeds; "curve":
    steps → a list of one; "memory": bytes by steps, {} where it was not measured."""
    found = {"measure": {}, "classify": {}, "curve": {}, "memory": {}}
    for cell in self.cells():
      path = self._path(cell.name)
      if not path.exists() or (kept := json.loads(path.read_text()))["fingerprint"] != self._print:
        continue
      kind, _, name = cell.name.partition("/")
      if kind == "memory":
        found[kind] = kept["result"]
      else:
        name = name if kind == "curve" else name.rpartition("-")[0]
        found[kind].setdefault(name, []).append(kept["result"])
    return found

  @property
  def meaning(self) -> dict[str, str]:
    """Method or recipe → what it is, in words."""
    return {name: entry.meaning for name, entry in (METHODS | RECIPES).items()}

  @property
  def without_synthetic(self) -> tuple[str, ...]:
    """Recipes that see real images only."""
    return tuple(name for name, recipe in RECIPES.items() if not recipe.method)

  def groups(self, counts: dict[str, int]) -> dict[str, str]:
    """Finding → head, medium or tail, by its training images."""
    cfg = self.config.longtail
    return {name: "head" if n > cfg.head else "tail" if n < cfg.tail else "medium"
            for name, n in counts.items()}

  def counts(self) -> dict[str, int]:
    """Training images of each finding; they are the same for every seed."""
    config = self._run_config("plain", 0)
    source = open_split(ensure_dataset(config, self._folder("plain", 0, config)), "train")
    shown = (np.asarray(source.index.findings.status) == PRESENT).sum(0)
    return dict(zip(source.vocabulary, shown.tolist(), strict=True))

  def measure(self, method: str, seed: int) -> dict:
    """The measures of every finding under a method: finding → see `measure_finding`."""
    return self._keep(f"measure/{method}-{seed}", lambda: self._measure(
        method, seed, self.config.data.vocabulary))

  def curve(self, steps: int) -> dict:
    """The same of the tail's findings, with noises from mixed references and so many steps."""
    tail = [name for name, group in self.groups(self.counts()).items() if group == "tail"]
    method = dataclasses.replace(METHODS["noise_mixed"], steps=steps)
    return self._keep(f"curve/{steps}", lambda: self._measure(method, 0, tail))

  def memory(self) -> dict:
    """Bytes that the compiled optimisation takes besides its arguments, by sampler steps."""
    trained, space = self._trained("plain", 0)
    return self._keep("memory", lambda: {
        str(steps): noise_memory(trained, space, sampler_steps=steps) for steps in (4, 32)})

  def classify(self, recipe: str, seed: int) -> dict:
    """Trains a recipe's classifier; probabilities of the test images `[N, K]`, as lists."""
    def compute():
      return {"probability": np.round(self._probabilities(recipe, seed), 6).tolist()}
    return self._keep(f"classify/{recipe}-{seed}", compute)

  def test_set(self) -> tuple[np.ndarray, object]:
    """New patients, every finding equally often: images `[N, S, S]` uint8 and findings `[N, K]`."""
    cfg = self.config
    images, findings = jax.device_get(balanced_batch(
        stream(jax.random.key(TEST_SEED), "longtail/test"), cfg.longtail.test_images,
        vocabulary=tuple(cfg.data.vocabulary), size=cfg.data.resolution))
    return np.rint(255 * from_model(images)).astype(np.uint8), findings

  def _keep(self, name: str, compute: Callable[[], dict]) -> dict:
    return resumed(self._path(name), self._print, compute)

  def _path(self, name: str) -> Path:
    return self.workdir / "cells" / f"{name}.json"

  def _run_config(self, variant: str, seed: int) -> ConfigDict:
    config = self.config.copy_and_resolve_references()
    with config.unlocked():
      config.seed = seed
      config.update_from_flattened_dict(VARIANTS[variant](config.longtail))
    return config

  @property
  def _stages(self) -> list[str]:
    return [name.strip() for name in self.config.stages.split(",")]

  def _folder(self, variant: str, seed: int, config: ConfigDict) -> Path:
    """The workdir of a training; what another one trains alike is a link."""
    folder = self.workdir / "runs" / f"{variant}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ("data", "latents", *self._stages):
      share_stage(folder, self.workdir / "shared", stage, config)
    return folder

  def _load(self, variant: str, seed: int) -> tuple[Trained, LatentSpace]:
    """A trained workdir, trained where it is not."""
    config = self._run_config(variant, seed)
    folder = self._folder(variant, seed, config)
    for stage in self._stages:
      STAGES[stage](config, folder)
    trained = dataclasses.replace(load_trained(folder), config=config)
    return trained, load_space(trained, folder)

  def _judging(self, seed: int) -> tuple[Judges, object]:
    trained, _ = self._trained("plain", seed)
    config = self.config
    model = make_classifier(config.judge.model, len(trained.vocabulary))
    return Judges(make_findings_fn(config, trained.judge, "judge"), classifier_extractor(
        model, trained.judge, size=config.data.resolution)), new_patients(
            config.longtail.images, seed=PATIENT_SEED, vocabulary=trained.vocabulary,
            size=config.data.resolution)

  def _generators(self, method: Method, seed: int, findings):
    """Yields a generator for each finding; the head has no bank."""
    trained, space = self._trained(method.variant, seed)
    config = trained.config.copy_and_resolve_references()
    with config.unlocked():
      config.noise.start = method.start or config.noise.start
      config.noise.steps = config.noise.steps if method.steps is None else method.steps
    trained = dataclasses.replace(trained, config=config)
    groups, fn = self.groups(self.counts()), make_answer_fn(trained)
    fns = make_noise_fns(trained) if method.start else None
    folder = self.workdir / "banks" / (f"{method.variant}-{seed}-{method.start}-"
                                       f"{config.noise.steps}")
    for name in findings:
      bank = None
      if method.start and groups[name] != "head":
        bank = optimise_bank(trained, space, name, folder, num=config.longtail.noises, seed=seed,
                             fns=fns)
      yield name, make_generator(trained, space, name, identities="healthy", seed=seed, bank=bank,
                                 fn=fn)

  def _measure(self, method: str | Method, seed: int, findings) -> dict:
    judges, patients = self._held(seed)
    method = METHODS[method] if isinstance(method, str) else method
    return {name: measure_finding(generator, patients, judges, seed=PATIENT_SEED)
            for name, generator in self._generators(method, seed, findings)}

  def _synthetic(self, method: str, seed: int) -> Labelled:
    """Images that fill every finding up, copies left out."""
    trained, space = self._trained(METHODS[method].variant, seed)
    lacking = dict(zip(trained.vocabulary, fill_to(
        space.counts(), self.config.longtail.fill).tolist(), strict=True))

    if not any(lacking.values()):
      raise ValueError(f"longtail.fill={self.config.longtail.fill}: every finding has as many "
                       "training images; there is nothing to fill up")

    def compute():
      parts = []
      for name, generator in self._generators(
          METHODS[method], seed, [name for name, n in lacking.items() if n]):
        got, batch = 0, 0
        while got < lacking[name] and batch * generator.batch_size < 4 * lacking[name] + 64:
          made, batch = generator.batch(batch), batch + 1
          keep = np.flatnonzero(~made.copied)[:lacking[name] - got]
          got += keep.size
          parts.append((np.rint(255 * made.images[keep]).astype(np.uint8),
                        jax.tree.map(lambda a, keep=keep: np.asarray(a)[keep], made.findings)))
      pixels = np.concatenate([part[0] for part in parts])
      findings = jax.tree.map(lambda *leaves: np.concatenate(leaves), *[p[1] for p in parts])
      return {"pixels": pixels, "status": findings.status, "severity": findings.severity,
              "side": findings.side, "zone": findings.zone}

    kept = resumed_arrays(self.workdir / "sets" / f"{method}-{seed}.npz", self._print, compute)
    pixels = kept.pop("pixels")
    findings = type(space.source.index.findings)(**kept)
    return Labelled(pixels, findings, np.array([f"synthetic-{i}" for i in range(len(pixels))]))

  def _probabilities(self, name: str, seed: int) -> np.ndarray:
    recipe = RECIPES[name]
    _, space = self._trained("plain", seed)
    config = self._run_config("plain", seed)
    with config.unlocked():
      if recipe.sampling:
        config.classifier.class_sampling = config.longtail.class_sampling
      if recipe.balanced:
        config.classifier.class_balanced_loss = config.longtail.class_balanced_loss
    split = space.source
    rows = np.arange(len(split))
    real = Labelled(split.images(rows), split.index.findings, split.index.patient.astype(str))
    folder, start = self.workdir / "classifiers", ""
    if recipe.method:
      synthetic = self._synthetic(recipe.method, seed)
      if recipe.pretrain:
        train_classifier(config, synthetic, folder, f"synthetic-{seed}")
        start = str(folder / f"synthetic-{seed}")
      else:
        real = join(real, synthetic)
    params = train_classifier(config, real, folder, f"{name}-{seed}", start=start)
    return probabilities(config, params, self.test_set()[0])
