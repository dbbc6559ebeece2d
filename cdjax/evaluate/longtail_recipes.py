"""What the long-tail benchmark's classifiers are trained on, what they are tested on, and how."""

import base64
from collections.abc import Collection, Iterable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cdjax.core.rng import stream
from cdjax.core.types import PRESENT, FindingsArrays
from cdjax.data.phantom import balanced_batch
from cdjax.data.source import Split
from cdjax.evaluate.image_metrics import from_model
from cdjax.evaluate.longtail_methods import Recipe, recipe_config
from cdjax.evaluate.references import take
from cdjax.evaluate.resume import fingerprint_of
from cdjax.evaluate.synthesis import Generator
from cdjax.evaluate.utility import Labelled, join, probabilities, train_classifier
from cdjax.train.stages import stage_fingerprint

_TEST_SEED, _TEST_SEVERAL = 70001, 0.1   # and the share of test patients with several findings
_MOST_TRIES = 4   # times as many images as wanted are made, and some, before it is given up


def pack(array: np.ndarray) -> dict:
  """An array as JSON can hold it; see `unpack`."""
  array = np.ascontiguousarray(array)
  return {"dtype": array.dtype.str, "shape": list(array.shape),
          "base64": base64.b64encode(array.tobytes()).decode()}


def unpack(packed: dict) -> np.ndarray:
  """The array that `pack` was given."""
  flat = np.frombuffer(base64.b64decode(packed["base64"]), packed["dtype"])
  return flat.reshape(packed["shape"])


def make_test_set(config: ConfigDict) -> tuple[np.ndarray, FindingsArrays]:
  """New patients, every finding equally often, some with several.

  Returns:
    Images `[N, S, S]` uint8, and their findings `[N, K]`.
  """
  images, findings = jax.device_get(balanced_batch(
      stream(jax.random.key(_TEST_SEED), "longtail/test"), config.longtail.test_images,
      vocabulary=tuple(config.data.vocabulary), size=config.data.resolution,
      multiple_share=_TEST_SEVERAL))
  return np.rint(255 * from_model(images)).astype(np.uint8), findings


def real_images(split: Split) -> Labelled:
  """Every training image."""
  return Labelled(split.images(np.arange(len(split))), split.index.findings,
                  split.index.patient.astype(str))


def fill_up(generator: Generator, finding: str, lacking: int) -> dict[str, np.ndarray]:
  """Makes the images that a finding lacks; copies are thrown away.

  Args:
    generator: of the finding.
    finding: its name, for the error.
    lacking: how many.

  Returns:
    `pixels` `[N, S, S]` uint8; `status`, `severity`, `side`, `zone` `[N, K]`; `tried`, `copies`:
    how many were made until there were enough, and thrown away; `threshold`.

  Raises:
    ValueError: too many are copies.
  """
  size, parts, tried, copies, got = generator.batch_size, [], 0, 0, 0
  while got < lacking:
    if tried >= _MOST_TRIES * lacking + 64:
      raise ValueError(f"{finding}: {copies} of {tried} images are copies of a training image "
                       f"(nearer than {generator.threshold:.3g}, from {generator.threshold_of}); "
                       f"{got} of the {lacking} wanted are left")
    made = generator.batch(tried // size)
    keep = np.flatnonzero(~made.copied)[:lacking - got]
    tried, copies, got = tried + size, copies + int(made.copied.sum()), got + keep.size
    parts.append((np.rint(255 * made.images[keep]).astype(np.uint8), take(made.findings, keep)))
  findings = jax.tree.map(lambda *leaves: np.concatenate(leaves), *[part[1] for part in parts])
  return {"pixels": np.concatenate([part[0] for part in parts]), "status": findings.status,
          "severity": findings.severity, "side": findings.side, "zone": findings.zone,
          "tried": np.array(tried), "copies": np.array(copies),
          "threshold": np.array(generator.threshold)}


def as_labelled(sets: Collection[dict[str, np.ndarray]]) -> Labelled:
  """The images of several `fill_up`s together."""
  joined = {name: np.concatenate([part[name] for part in sets])
            for name in ("pixels", "status", "severity", "side", "zone")}
  pixels = joined.pop("pixels")
  return Labelled(pixels, FindingsArrays(**joined),
                  np.array([f"synthetic-{i}" for i in range(len(pixels))]))


def before_real(synthetic: Labelled, real: Labelled, head: Iterable[int], *, fill: int, seed: int
                ) -> Labelled:
  """What a classifier sees before it sees the real images: every finding, and healthy patients.

  Args:
    synthetic: images that fill up all findings but the head's.
    real: of them, healthy ones and the head's are taken.
    head: numbers of the head's findings.
    fill: images of each of them; healthy ones are as frequent as among the real ones.
    seed: of what is drawn.
  """
  generator, healthy = np.random.default_rng([seed, 4]), np.asarray(real.findings.healthy)
  shows = np.asarray(real.findings.status) == PRESENT
  rows = [_draw(generator, shows[:, k], fill) for k in head]
  sick = len(synthetic) + sum(map(len, rows))
  share = min(healthy.mean(), 0.5)   # never more healthy ones than others
  rows.append(_draw(generator, healthy, round(sick * share / (1 - share))))
  chosen = np.unique(np.concatenate(rows))
  return join(synthetic, Labelled(real.pixels[chosen], take(real.findings, chosen),
                                  real.patient[chosen]))


def _draw(generator: np.random.Generator, where: np.ndarray, num: int) -> np.ndarray:
  rows = np.flatnonzero(where)
  return generator.choice(rows, min(num, rows.size), replace=False)


def train_recipe(config: ConfigDict, recipe: Recipe, seed: int, real: Labelled,
                 synthetic: Labelled | None, head: Iterable[int], test: np.ndarray, folder: Path
                 ) -> tuple[np.ndarray, str]:
  """Trains a recipe's classifier and asks it about the test images.

  Args:
    config: of the benchmark.
    recipe: how.
    seed: of the training.
    real: training images.
    synthetic: None where the recipe has none.
    head: numbers of the head's findings.
    test: `[N, S, S]` uint8.
    folder: of all classifiers; each has a folder in it, named by all that decides it.

  Returns:
    Probabilities `[N, K]`, and the classifier's fingerprint.
  """
  tuned, start = recipe_config(config, recipe, seed), ""
  images = real if synthetic is None else join(real, synthetic)

  def place(config, images, start):
    settings = config.classifier.to_dict(), config.data.to_dict(), config.seed
    return folder / fingerprint_of(settings, images.fingerprint, start)

  if recipe.pretrain:
    first = tuned.copy_and_resolve_references()
    first.classifier.learning_rate = config.classifier.learning_rate
    before = before_real(synthetic, real, head, fill=config.longtail.fill, seed=seed)
    start = place(first, before, "")
    train_classifier(first, before, start, "before")
    start, images = str((start / "before").resolve()), real
  here = place(tuned, images, Path(start).parent.name if start else "")
  params = train_classifier(tuned, images, here, "classifier", start=start)
  return probabilities(tuned, params, test), stage_fingerprint(here, "classifier")
