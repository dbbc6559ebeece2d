"""The long-tail benchmark: which remedy makes images of rare findings, and what they are worth.

Cells, each kept on disk as it ends: MEASURE/METHOD-SEED measures the images of one method,
HEAD-SEED compares what a method with noises and one without make of the head, CLASSIFY/RECIPE-SEED
trains a classifier and keeps its probabilities for new patients, CURVE/STEPS is effectiveness
against gradient steps, and MEMORY what a gradient takes.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cdjax.core.types import PRESENT
from cdjax.evaluate import longtail_keys as keys
from cdjax.evaluate.features import classifier_extractor
from cdjax.evaluate.image_metrics import to_model
from cdjax.evaluate.longtail_generators import make_generators
from cdjax.evaluate.longtail_measures import (
    Judges,
    NewPatients,
    answer,
    measure_finding,
    new_patients,
)
from cdjax.evaluate.longtail_methods import METHODS, RECIPES, Method
from cdjax.evaluate.longtail_recipes import (
    as_labelled,
    fill_up,
    make_test_set,
    pack,
    real_images,
    train_recipe,
    unpack,
)
from cdjax.evaluate.longtail_runs import Ready, Runs, exclusive
from cdjax.evaluate.noise_workdir import noise_memory
from cdjax.evaluate.resume import fingerprint_of, resumed, resumed_arrays
from cdjax.evaluate.synthesis import fill_to
from cdjax.evaluate.trained import make_subject
from cdjax.evaluate.utility import Labelled
from cdjax.models.classifier import make_classifier

HEAD_METHODS = ("nothing", "noise_mixed")   # that are compared on the head
_PATIENT_SEED = 70002
_SAMPLER_STEPS = (4, 32)   # that the memory of a gradient is measured at


@dataclasses.dataclass(frozen=True)
class Cell:
  """One result.

  Attributes:
    kind: "measure", "head", "classify", "curve" or "memory".
    entry: method, recipe or gradient steps; "" where there is one.
    seed: of the training.
    key: what the result depends on.
    compute: makes it.
  """

  kind: str
  entry: str
  seed: int
  key: dict
  compute: Callable[[], dict]

  @property
  def name(self) -> str:
    """E.g. "measure/noise_mixed-0"."""
    return {"memory": "memory", "head": f"head-{self.seed}", "curve": f"curve/{self.entry}"}.get(
        self.kind, f"{self.kind}/{self.entry}-{self.seed}")


class Benchmark:
  """The cells of a configuration in a folder; expensive parts are made when they are first used."""

  def __init__(self, config: ConfigDict, workdir: Path):
    self.config, self.workdir = config, Path(workdir)
    self.runs = Runs(config, self.workdir)

  def cells(self) -> list[Cell]:
    """Every cell; each method's first seed before any method's second."""
    config, cells = self.config, []
    make = lambda kind, entry, seed, key, fn, *args: cells.append(
        Cell(kind, entry, seed, key, functools.partial(fn, *args)))
    for seed in range(config.longtail.seeds):
      for name, method in METHODS.items():
        make("measure", name, seed, keys.measure_key(config, method, seed), self._measure, method,
             seed)
      pair = tuple(METHODS[name] for name in HEAD_METHODS)
      make("head", "", seed, keys.head_key(config, pair, seed), self._compare_head, seed)
      for name, recipe in RECIPES.items():
        make("classify", name, seed, keys.classify_key(config, recipe, seed), self._classify, name,
             seed)
      if seed == 0:
        for steps in config.longtail.curve_steps:
          method = dataclasses.replace(METHODS["noise_mixed"], steps=steps)
          make("curve", str(steps), seed, keys.curve_key(config, method, seed), self._measure,
               method, seed, "tail")
        make("memory", "", seed, keys.memory_key(config), self._memory)
    return cells

  def run(self, cell: Cell) -> dict:
    """A cell's result, computed where it is not kept; one process at a time computes it."""
    return self._keep(cell.name, cell.key, cell.compute)

  def done(self) -> dict:
    """The results of the cells that are there.

    Returns:
      "measure", "curve": method or steps → seed → finding → measures; "classify": recipe → seed →
      probabilities `[N, K]`; "head": seed → see `_compare_head`; "memory": bytes by steps, {} where
      it was not measured.
    """
    found = {"measure": {}, "head": {}, "classify": {}, "curve": {}, "memory": {}}
    for cell in self.cells():
      path = self._path(cell.name)
      if not path.exists():
        continue
      kept = json.loads(path.read_text())
      if kept["fingerprint"] != fingerprint_of(cell.key):
        continue
      result = kept["result"]
      if cell.kind == "memory":
        found["memory"] = result["bytes"]
      elif cell.kind == "head":
        found["head"][cell.seed] = result
      else:
        value = (unpack(result["probability"]) if cell.kind == "classify" else result["findings"])
        found[cell.kind].setdefault(cell.entry, {})[cell.seed] = value
    return found

  @property
  def meaning(self) -> dict[str, str]:
    """Method or recipe → what it is, in words."""
    return {name: entry.meaning for name, entry in (METHODS | RECIPES).items()}

  def groups(self, counts: dict[str, int]) -> dict[str, str]:
    """Finding → head, medium or tail, by its training images."""
    cfg = self.config.longtail
    return {name: "head" if n > cfg.head else "tail" if n < cfg.tail else "medium"
            for name, n in counts.items()}

  def counts(self) -> dict[str, int]:
    """Training images of each finding; they are the same for every seed."""
    def compute():
      shown = (np.asarray(self.runs.source.index.findings.status) == PRESENT).sum(0)
      return dict(zip(self.runs.source.vocabulary, shown.tolist(), strict=True))
    return self._keep("counts", keys.data_key(self.config), compute)

  def test_status(self) -> np.ndarray:
    """What the classifiers' test images show, `[N, K]`."""
    return unpack(self._keep("test", keys.test_key(self.config), lambda: {
        "status": pack(make_test_set(self.config)[1].status)})["status"])

  def _keep(self, name: str, key: dict, compute: Callable[[], dict]) -> dict:
    with exclusive(self.workdir / "locks" / name.replace("/", "-")):
      return resumed(self._path(name), fingerprint_of(key), compute)

  def _path(self, name: str) -> Path:
    return self.workdir / "cells" / f"{name}.json"

  def _members(self, group: str) -> list[str]:
    """A group's findings."""
    return [name for name, of in self.groups(self.counts()).items() if of == group]

  @functools.cached_property
  def _patients(self) -> NewPatients:
    data = self.config.data
    return new_patients(self.config.longtail.images, seed=_PATIENT_SEED, size=data.resolution,
                        vocabulary=tuple(data.vocabulary))

  def _judging(self, ready: Ready) -> tuple[Judges, str]:
    """What looks at images, and the judge's fingerprint."""
    config, (params, fingerprint) = self.config, self.runs.judge
    model = make_classifier(config.judge.model, len(config.data.vocabulary))
    extractor = classifier_extractor(model, params, size=config.data.resolution)
    return Judges(make_subject(dataclasses.replace(ready.trained, judge=params)),
                  extractor), fingerprint

  def _generators(self, ready: Ready, method: Method, findings: Iterable[str]):
    """See `make_generators`; the head has no bank."""
    return make_generators(ready, findings, start=method.start,
                           without_bank=set(self._members("head")),
                           noises=self.config.longtail.noises, workdir=self.workdir)

  def _measure(self, method: Method, seed: int, group: str = "") -> dict:
    """The measures of a group's findings, or of all: finding → see `measure_finding`."""
    ready = self.runs.load(method, seed)
    judges, judge = self._judging(ready)
    found = {}
    for name, generator, seconds in self._generators(
        ready, method, self._members(group) if group else self.config.data.vocabulary):
      found[name] = measure_finding(generator, self._patients, judges, seed=_PATIENT_SEED)
      if generator.bank is not None:
        found[name]["noise/seconds"] = seconds
    return {"made_with": {"generator": ready.trained.generator, "judge": judge},
            "findings": found}

  def _compare_head(self, seed: int) -> dict:
    """Digests of the head's images under `HEAD_METHODS`, and whether they are equal bit by bit.

    Returns:
      "sha256": method → finding → digest; "equal", None where no finding is of the head.
    """
    digests, made_with = {}, {}
    for name in HEAD_METHODS:
      ready = self.runs.load(METHODS[name], seed)
      made_with[name] = ready.trained.generator
      digests[name] = {}
      for finding, generator, _ in self._generators(ready, METHODS[name], self._members("head")):
        images = answer(generator, to_model(self._patients.x), self._patients.findings,
                        seed=_PATIENT_SEED).images
        digests[name][finding] = hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
    first, second = digests.values()
    return {"made_with": {"generator": made_with}, "sha256": digests,
            "equal": first == second if first else None}

  def _memory(self) -> dict:
    """Bytes that the compiled optimisation takes besides its arguments, by sampler steps."""
    ready = self.runs.load(METHODS["noise_mixed"], 0)
    return {"made_with": {"generator": ready.trained.generator},
            "bytes": {str(steps): noise_memory(ready.trained, ready.space, sampler_steps=steps)
                      for steps in _SAMPLER_STEPS}}

  def _classify(self, name: str, seed: int) -> dict:
    """Trains a recipe's classifier: probabilities of the test images, packed float16 `[N, K]`."""
    recipe, real = RECIPES[name], real_images(self.runs.source)
    synthetic, record, made_with, head = None, {}, {}, []
    if recipe.method:
      synthetic, record, made_with["generator"] = self._synthetic(recipe.method, seed)
    if recipe.pretrain:
      head = [self.config.data.vocabulary.index(finding) for finding in self._members("head")]
    probability, made_with["classifier"] = train_recipe(
        self.config, recipe, seed, real, synthetic, head, make_test_set(self.config)[0],
        self.workdir / "classifiers")
    return {"made_with": made_with, "synthetic": record,
            "probability": pack(probability.astype(np.float16))}

  def _synthetic(self, method: str, seed: int) -> tuple[Labelled, dict, str]:
    """Images that fill every finding up, copies left out; finding → how many were made and thrown
    away; the generator's fingerprint."""
    fill, counts = self.config.longtail.fill, self.counts()
    lacking = dict(zip(counts, fill_to(list(counts.values()), fill).tolist(), strict=True))
    wanted = [name for name, n in lacking.items() if n]
    if not wanted:
      raise ValueError(f"longtail.fill={fill}: every finding has as many training images; there is "
                       "nothing to fill up")
    ready = self.runs.load(METHODS[method], seed)
    key = fingerprint_of(keys.set_key(self.config, METHODS[method], seed), ready.trained.generator,
                         lacking)
    sets = {}
    for name, generator, _ in self._generators(ready, METHODS[method], wanted):
      place = f"{method}-{seed}/{name}"
      with exclusive(self.workdir / "locks" / f"set-{place.replace('/', '-')}"):
        sets[name] = resumed_arrays(
            self.workdir / "sets" / f"{place}.npz", key,
            lambda name=name, generator=generator: fill_up(generator, name, lacking[name]))
    record = {name: {"kept": lacking[name], "tried": int(made["tried"]),
                     "copies": int(made["copies"]), "threshold": float(made["threshold"])}
              for name, made in sets.items()}
    return as_labelled(sets.values()), record, ready.trained.generator
