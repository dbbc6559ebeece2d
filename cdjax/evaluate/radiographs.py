"""Real radiographs of held-out patients: what can be measured where no exact answer exists.

Reconstruction; how good the classifier is; how far an answer moves the classifier towards the asked
finding, against its movement for the findings that nobody asked for; and what stays as it was
outside the lungs. The classifier is the run's own: it has seen the training images and nothing
else, so its movement says that the model and the classifier agree, not that a radiologist would;
with `autoencoder.loss.perceptual` they were trained to.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.images import ssim_map
from cdjax.core.rng import stream
from cdjax.core.types import ABSENT, PRESENT, FindingsArrays
from cdjax.data.ensure import ensure_dataset
from cdjax.data.pipeline import to_model_range
from cdjax.data.source import Split, open_split
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.bootstrap import Statistic, by_patient, divide, interval, mean
from cdjax.evaluate.full_radiographs import FORMAT, full_radiographs
from cdjax.evaluate.image_metrics import from_model, psnr_statistic, rmse, ssim
from cdjax.evaluate.long_tail import classification_metrics, tiers
from cdjax.evaluate.resume import fingerprint_of, resumed, write_json
from cdjax.evaluate.trained import Trained, make_findings_fn, make_subject
from cdjax.evaluate.workdir import with_identity
from cdjax.train.stages import stage_fingerprint

# Rows and columns of the image that hold the lungs of almost everybody.
LUNG_BOX = ((0.08, 0.88), (0.06, 0.94))
MIN_POSITIVES = 50   # training images with the finding, for the classifier to be worth asking


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """Images of patients that training never saw: x `[N, S, S]` in [0, 1], findings `[N, K]`."""

  x: np.ndarray
  findings: FindingsArrays
  patient: np.ndarray
  split: str


def load_held_out(folder: Path) -> HeldOut:
  """The test split, or, where there is none, the validation split."""
  from cdjax.data.staging import read_info
  name = "test" if "test" in read_info(folder)["splits"] else "validation"
  split = open_split(folder, name)
  rows = np.arange(len(split))
  x = from_model(to_model_range(split.images(rows), split.bits))
  return HeldOut(x, split.index.findings, split.index.patient, name)


def ssim_outside_lungs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Mean of the SSIM map outside `LUNG_BOX`, `[N]`; images `[N, S, S]` in [0, 1]."""
  values = np.asarray(ssim_map(jnp.asarray(a)[..., None], jnp.asarray(b)[..., None]))[..., 0]
  size = values.shape[1]
  (top, bottom), (left, right) = ((round(size * p) for p in side) for side in LUNG_BOX)
  outside = np.ones((size, size), bool)
  outside[top:bottom, left:right] = False
  return values[:, outside].mean(-1)


def only(findings: FindingsArrays, k: int | None) -> FindingsArrays:
  """`[N, K]`: finding number k and no other, at unknown place and severity; None: healthy."""
  shape = np.asarray(findings.status).shape
  status = np.full(shape, ABSENT, np.int8)
  if k is not None:
    status[:, k] = PRESENT
  zeros = np.zeros(shape, np.int8)
  return FindingsArrays(status, np.full(shape, -1.0, np.float32), zeros, zeros)


def evaluate_radiographs(trained: Trained, workdir: Path, *, seed: int,
                         suite: str = "quick") -> dict:
  """Measures a run on its data set's held-out patients.

  Keys: `autoencoder/psnr`, `/ssim`; `classifier/METRIC/NAME`, and `/macro`, `/head`, `/medium`,
  `/tail`, for every metric of `classification.METRICS`; and, for every finding with at least
  `MIN_POSITIVES` training images, `counterfactual/NAME/asked`: the mean change of the classifier's
  probability of the asked finding in images without it; `/others`: that of the other such findings;
  `/ssim_outside_lungs`; and `healthy/NAME/removed`: the change of its probability when it is taken
  away from images that show it. `suite` "full" adds what `full_radiographs` measures, and trains
  the verifier where it is not there. What was measured is kept in `evaluate-seedS`, finding by
  finding, so that an interrupted measurement goes on where it was.

  Returns:
    Flat keys -> `{"value", "low", "high", "n"}`, intervals over patients.
  """
  config = trained.config
  folder = ensure_dataset(config, workdir)
  train: Split = open_split(folder, "train")
  held_out = load_held_out(folder)
  positives = (np.asarray(train.index.findings.status) == PRESENT).sum(0)
  chosen = [k for k in range(len(trained.vocabulary)) if positives[k] >= MIN_POSITIVES]
  answering = Answering(make_subject(trained), config.evaluate.batch_size, lambda rows: None)
  key = stream(jax.random.key(seed), "radiographs")
  classify = make_findings_fn(config, trained.classifier, "classifier")
  probabilities = lambda x: np.asarray(map_batches(
      lambda x: classify(x)["finding"], (2 * x - 1)[..., None],
      batch_size=config.evaluate.batch_size))
  status = np.asarray(held_out.findings.status)
  factual = functools.cache(lambda: probabilities(held_out.x))

  def measured(statistics: dict[str, Statistic], rows: np.ndarray | None = None) -> dict:
    patient = held_out.patient if rows is None else held_out.patient[rows]
    expanded = {name: by_patient(statistic, patient) for name, statistic in statistics.items()}
    return {name: interval(statistic, count, resamples=config.evaluate.bootstrap, seed=seed)
            for name, (statistic, count) in expanded.items()}

  def autoencoder() -> dict:
    rebuilt = from_model(map_batches(
        answering.subject.reconstruct_fn, (2 * held_out.x - 1)[..., None], held_out.findings,
        batch_size=config.evaluate.batch_size, key=stream(key, "rebuild")))
    return measured({"autoencoder/psnr": psnr_statistic(rmse(held_out.x, rebuilt)),
                     "autoencoder/ssim": mean(ssim(held_out.x, rebuilt))})

  def classifier() -> dict:
    found = classification_metrics(
        factual(), status, patient=held_out.patient, findings=trained.vocabulary,
        tier=tiers(positives), resamples=config.evaluate.bootstrap, seed=seed)
    return {f"classifier/{name}": entry for name, entry in found.items()
            if np.isfinite(entry["value"])}

  def moved(rows: np.ndarray, do: FindingsArrays, name: str) -> tuple[np.ndarray, np.ndarray]:
    take = lambda tree: jax.tree.map(lambda a: np.asarray(a)[rows], tree)
    answers = answering.counterfactual(stream(key, name), held_out.x[rows],
                                       take(held_out.findings), take(do))
    return answers, probabilities(answers) - factual()[rows]

  def of_finding(k: int) -> dict:
    out, name, others = {}, trained.vocabulary[k], [j for j in chosen if j != k]
    without = np.flatnonzero(status[:, k] == ABSENT)
    if without.size:
      answers, change = moved(without, only(held_out.findings, k), f"ask/{name}")
      statistics = {"asked": mean(change[:, k])}
      if others:
        # Findings that the question also takes away move down for a good reason: left out.
        statistics["others"] = _rows_mean(np.where(
            status[without][:, others] == PRESENT, np.nan, change[:, others]))
      statistics["ssim_outside_lungs"] = mean(ssim_outside_lungs(held_out.x[without], answers))
      out |= measured({f"counterfactual/{name}/{end}": statistic
                       for end, statistic in statistics.items()}, without)
    there = np.flatnonzero(status[:, k] == PRESENT)
    if there.size:
      answers, change = moved(there, only(held_out.findings, None), f"remove/{name}")
      out |= measured({
          f"healthy/{name}/removed": mean(change[:, k]),
          f"healthy/{name}/ssim_outside_lungs": mean(
              ssim_outside_lungs(held_out.x[there], answers))}, there)
    return out

  depends = fingerprint_of(trained.fingerprint, config.counterfactual.to_dict(),
                           config.evaluate.to_dict(), train.info["fingerprint"], held_out.split,
                           chosen, seed)

  def kept(name: str, compute: Callable[[], dict], *more: str | int) -> dict:
    path = Path(workdir) / f"evaluate-seed{seed}" / f"radiographs-{name}.json"
    return resumed(path, fingerprint_of(depends, *more), compute)

  metrics = kept("autoencoder", autoencoder) | kept("classifier", classifier)
  for k in chosen:
    metrics |= kept(trained.vocabulary[k], functools.partial(of_finding, k))
  left_out = [f"classifier/*/{name}: no held-out image with it, or none without it"
              for name in trained.vocabulary if f"classifier/auroc/{name}" not in metrics]
  if suite == "full":
    subject = answering.subject
    try:
      subject = with_identity(subject, trained, workdir)
    except ValueError as error:   # no patient has two studies
      left_out.append(f"identity/verifier_auc, /verified: {error}")

    def full() -> dict:
      found, lines = full_radiographs(
          subject, lambda x: classify(x)["finding"], open_split(folder, held_out.split), train,
          chosen or list(range(len(trained.vocabulary))), config=config, seed=seed)
      return {"metrics": found, "left_out": lines}

    verifier = "" if subject.verifier_fn is None else stage_fingerprint(workdir, "verifier")
    found = kept("full", full, verifier, FORMAT)
    metrics |= found["metrics"]
    left_out += found["left_out"]
  metrics |= {"seed": seed, "split": held_out.split, "machine": jax.devices()[0].device_kind,
              "left_out": left_out}
  write_json(Path(workdir) / f"metrics-seed{seed}.json", metrics)
  return metrics


def _rows_mean(values: np.ndarray) -> Statistic:
  """Mean of all the numbers of `[N, J]` that are not NaN, with a weight for each row."""
  known = np.isfinite(values)
  filled = np.where(known, values, 0.0).sum(-1)
  return lambda weights: divide(weights @ filled, weights @ known.sum(-1).astype(np.float64))
