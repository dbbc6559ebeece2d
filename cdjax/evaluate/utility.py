"""Are synthetic images worth training on? The same classifier on real ones, on synthetic ones, …

Real images of patients that no classifier saw decide. By head, medium and tail of the findings, as
synthetic images are made for the tail; after CheXGenBench (Dutta et al., arXiv:2505.10496).
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cdjax.core.types import PRESENT, FindingsArrays, PyTree
from cdjax.data.arrays import ArrayBatches
from cdjax.data.pipeline import to_model_range
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.long_tail import classification_metrics, tiers
from cdjax.evaluate.resume import fingerprint_of
from cdjax.models.classifier import make_classifier
from cdjax.sharding.mesh import make_mesh
from cdjax.train.loop import train_stage
from cdjax.train.objectives import classifier
from cdjax.train.stages import balanced_loss, class_sampling

# What each classifier sees; "synthetic_then_real" goes on from the one trained on synthetic images.
REGIMES = ("real", "synthetic", "both", "synthetic_then_real")
METRICS = ("auroc", "average_precision", "balanced_accuracy")


@dataclasses.dataclass(frozen=True)
class Labelled:
  """N images with their labels.

  Attributes:
    pixels: `[N, S, S]` uint8.
    findings: `[N, K]`.
    patient: `[N]` str, whose image it is.
  """

  pixels: np.ndarray
  findings: FindingsArrays
  patient: np.ndarray

  def __len__(self) -> int:
    return len(self.pixels)

  @property
  def fingerprint(self) -> str:
    """Of the pixels and all that the labels say."""
    return fingerprint_of(*map(hash_of, jax.tree.leaves((self.pixels, self.findings))))


def hash_of(array: np.ndarray) -> str:
  """A digest of an array's bytes."""
  import hashlib
  return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def join(a: Labelled, b: Labelled) -> Labelled:
  """The images of both."""
  return Labelled(np.concatenate([a.pixels, b.pixels]),
                  jax.tree.map(lambda x, y: np.concatenate([x, y]), a.findings, b.findings),
                  np.concatenate([a.patient, b.patient]))


def train_classifier(config: ConfigDict, images: Labelled, workdir: Path, name: str, *,
                     start: str = "", **options) -> PyTree:
  """Trains `config.classifier` on some images, in `workdir/name`; goes on where it was.

  Args:
    config: uses `classifier`, `data.vocabulary`, `data.resolution`, `mesh`, `seed`.
    images: to train on.
    workdir: parent of the stage's folder.
    name: of the stage.
    start: folder of a trained stage to start from, "" for none.
    **options: of `train_stage`.

  Returns:
    The averaged parameters of the network.
  """
  stage = config.classifier.copy_and_resolve_references()
  with stage.unlocked():
    stage.init_from, stage.eval_every = start, 0
  loader = ArrayBatches(
      lambda: {"image": to_model_range(images.pixels, 8), "findings": images.findings},
      batch_size=stage.batch_size, seed=config.seed,
      weights=class_sampling(stage, images.findings.status))
  return train_stage(
      name=name, config=config, stage_config=stage, workdir=workdir, mesh=make_mesh(config.mesh),
      init_fn=lambda key: classifier.init_params(config, "classifier", key),
      loss_fn=classifier.make_loss_fn(config, "classifier"), loader=loader,
      frozen=balanced_loss(stage, images.findings.status),
      data_fingerprint=images.fingerprint, **options)["classifier"]


def utility(
    config: ConfigDict,
    real: Labelled,
    synthetic: Labelled,
    test: Labelled,
    workdir: Path,
    *,
    resamples: int = 1000,
    seed: int = 0,
    **options,
) -> dict[str, dict]:
  """Balanced accuracy and average precision of each regime on held-out real images.

  Every classifier has the same number of steps, so that more images are not more training;
  "synthetic_then_real" has them twice.

  Args:
    config: see `train_classifier`; `data.vocabulary` names the K findings.
    real: training images; their counts decide the tiers.
    synthetic: training images; a patient is whose identity an image has.
    test: real, of other patients.
    workdir: gets a folder PRINT/REGIME a classifier, PRINT of all that decides what it learns, so
      that other images, another seed or another configuration train another one.
    resamples, seed: of the bootstrap over patients.
    **options: of `train_stage`.

  Returns:
    `utility/REGIME/METRIC/FINDING`, and `/macro`, `/head`, `/medium`, `/tail` → `{"value", "low",
    "high", "n"}`. The average precision's macro is the mAP.

  Raises:
    ValueError: a patient is in training, real or synthetic, and in test.
  """
  shared = np.intersect1d(np.concatenate([real.patient, synthetic.patient]), test.patient)
  if shared.size:
    raise ValueError(f"{shared.size} patients are in training and in test: {shared[:5].tolist()}")
  findings = tuple(config.data.vocabulary)
  tier = tiers((np.asarray(real.findings.status) == PRESENT).sum(0))
  data = {"real": real, "synthetic": synthetic, "both": join(real, synthetic),
          "synthetic_then_real": real}
  result, places = {}, {}
  settings = [config.classifier.to_dict(), config.data.to_dict(), config.seed]
  for regime in REGIMES:
    start = ""
    if regime == "synthetic_then_real":
      start = str((places["synthetic"] / "synthetic").resolve())
    places[regime] = workdir / fingerprint_of(settings, regime, data[regime].fingerprint, start)
    params = train_classifier(config, data[regime], places[regime], regime, start=start, **options)
    measured = classification_metrics(
        probabilities(config, params, test.pixels), test.findings.status, patient=test.patient,
        findings=findings, tier=tier, resamples=resamples, seed=seed)
    result |= {f"utility/{regime}/{key}": value for key, value in measured.items()
               if key.split("/")[0] in METRICS}
  return result


def probabilities(config: ConfigDict, params: PyTree, pixels: np.ndarray) -> np.ndarray:
  """Of each finding in images `[N, S, S]` uint8: `[N, K]`."""
  model = make_classifier(config.classifier.model, len(config.data.vocabulary))
  run = jax.jit(lambda params, x: jax.nn.sigmoid(model.apply({"params": params}, x).status))
  return map_batches(lambda x: run(params, to_model_range(x, 8)), pixels, batch_size=64)
