"""`--suite full` on held-out radiographs: what `full_phases` measures, without exact answers."""

import jax
import numpy as np

from cdjax.core.rng import stream
from cdjax.core.types import ABSENT, PRESENT, UNKNOWN, Array, FindingsArrays
from cdjax.data.pipeline import to_model_range
from cdjax.data.source import Split
from cdjax.evaluate.answer_quality import answer_fidelity, answer_pathology, finding_groups
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.axioms import counterfactual_axioms
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.bootstrap import Statistic, by_patient, interval
from cdjax.evaluate.identity import identity_statistics
from cdjax.evaluate.image_metrics import from_model, to_model
from cdjax.evaluate.manifold import NEIGHBOURS
from cdjax.evaluate.privacy import (
    QUANTILE,
    compared_rows,
    half_of_patients,
    privacy_metrics,
)
from cdjax.evaluate.subject import Subject
from cdjax.evaluate.verification import (
    equal_error_threshold,
    likeness,
    make_pairs,
    verification_auc,
)

FORMAT = 1   # of a kept result; another number when the same run would give another one


def asked_of(findings: FindingsArrays, chosen: list[int]) -> FindingsArrays:
  """Each of the chosen findings in turn, alone, at unknown place and severity: `[N, K]`.

  An image that shows the finding already is asked for the next one that it does not show.
  """
  shown = np.asarray(findings.status) == PRESENT
  n, k = shown.shape
  status = np.full((n, k), ABSENT, np.int8)
  for row in range(n):
    turn = np.roll(chosen, -row)
    new = turn[~shown[row, turn]]
    status[row, new[0] if new.size else turn[0]] = PRESENT
  zeros = np.zeros((n, k), np.int8)
  return FindingsArrays(status, np.full((n, k), -1.0, np.float32), zeros, zeros)


def full_radiographs(
    subject: Subject,
    probabilities_fn,
    held_out: Split,
    train: Split,
    chosen: list[int],
    *,
    config,
    seed: int,
) -> tuple[dict[str, dict], list[str]]:
  """Measures what `full_phases` does, on held-out patients.

  Half of them are asked questions. The other half is the yardstick of privacy: an image is near to
  its own counterfactual, so that those who are asked would always look like members.

  Args:
    subject: with a `verifier_fn` where there is one.
    probabilities_fn: images `[B, H, W, 1]` in [-1, 1] → `[B, K]`, the run's classifier.
    held_out: images of patients that training never saw.
    train: the training images.
    chosen: findings that are asked for.
    config: the whole configuration.
    seed: of the draws and of the bootstrap.

  Returns:
    `fidelity/*`, `identity/*`, `pathology/*`, `axioms/*`, `privacy/*`, intervals over patients, and
    `privacy/compared`, training images of all; what was left out and why.
    `ceiling/exact/fidelity/*` is of the factual images of those who are asked: real against real.
  """
  c, key = config.evaluate, stream(jax.random.key(seed), "full")
  answering = Answering(subject, c.batch_size, lambda rows: None)
  rows = np.arange(len(held_out))
  x = from_model(to_model_range(held_out.images(rows), held_out.bits))
  findings, patient = held_out.index.findings, held_out.index.patient
  asked = half_of_patients(patient, seed=seed)
  some = np.random.default_rng(seed).permutation(rows[asked])[:c.interventions]
  few = some[:c.composition_10]
  take = lambda tree, rows: jax.tree.map(lambda leaf: np.asarray(leaf)[rows], tree)
  do = asked_of(findings, chosen)
  answers = answering.counterfactual(stream(key, "answers"), x[some], take(findings, some),
                                     take(do, some))
  metrics, left_out = {}, []

  def record(statistics: dict[str, Statistic], whose: Array) -> None:
    for name, statistic in statistics.items():
      expanded, count = by_patient(statistic, whose)
      metrics[name] = interval(expanded, count, resamples=c.bootstrap, seed=seed)

  def mapped(fn, images):
    return np.asarray(map_batches(fn, images, batch_size=c.batch_size))

  embed = threshold = None
  if subject.verifier_fn is not None:
    embed = lambda images: mapped(subject.verifier_fn, to_model(np.asarray(images, np.float32)))
    try:
      pairs = make_pairs(patient, held_out.index.study, seed=seed)
    except ValueError as error:
      left_out.append(f"identity/verifier_auc, /verified: held-out images: {error}")
    else:
      embedding = embed(x)
      record({"identity/verifier_auc": verification_auc(embedding, pairs)}, pairs.patient)
      threshold = equal_error_threshold(
          likeness(embedding[pairs.first], embedding[pairs.second]), pairs.same)
  features = None
  if subject.features_fn is not None:
    features = lambda images: mapped(subject.features_fn, np.asarray(images, np.float32)[..., None])
  if len(np.unique(patient[some])) < 2:
    left_out.append("identity/features, /likeness, /verified: one patient is asked; strangers need "
                    "another")
    features = threshold = None
  record(identity_statistics(x[some], answers, embed=None if threshold is None else embed,
                             threshold=threshold or 0.0, features=features,
                             patient=patient[some]), patient[some])
  record(counterfactual_axioms(
      subject.counterfactual_fn, probabilities_fn, x[few], take(findings, few), take(do, few),
      key=stream(key, "axioms"), batch_size=c.batch_size), patient[few])

  metrics |= answer_pathology(
      mapped(probabilities_fn, to_model(answers)), take(do, some), vocabulary=held_out.vocabulary,
      patient=patient[some], resamples=c.bootstrap, seed=seed)
  if min(len(some), (~asked).sum()) > NEIGHBOURS:
    counts = (np.asarray(train.index.findings.status) == PRESENT).sum(0)
    grouped = lambda findings: finding_groups(findings, held_out.vocabulary, counts)
    real = grouped(take(findings, ~asked))
    for prefix, images, shown in (("", answers, do), ("ceiling/exact/", x[some], findings)):
      found, lines = answer_fidelity(x[~asked], images, real, grouped(take(shown, some)),
                                     features_fn=subject.features_fn, seed=seed)
      metrics |= {f"{prefix}{key}": entry for key, entry in found.items()}
      left_out += [] if prefix else lines
  else:
    left_out.append(f"fidelity/*: {len(some)} images are asked, {(~asked).sum()} are not; expected "
                    f"more than {NEIGHBOURS} each")

  train_rows = compared_rows(len(train), x.shape[-1], least=c.probe_images, seed=seed)
  if len(train_rows) < len(train):
    left_out.append(f"privacy/*: compared with {len(train_rows)} random training images of "
                    f"{len(train)}")
  others = patient[~asked]
  images = {"synthetic": answers, "held_out": x[~asked],
            "train": from_model(to_model_range(train.images(train_rows), train.bits))}
  spaces = {"pixel": lambda images: images} if others.size else {}
  if not others.size:
    left_out.append("privacy/*: one held-out patient; those who are not asked are the yardstick")
  elif subject.encode_fn is not None:
    spaces["latent"] = lambda images: _latents(answering, images, len(held_out.vocabulary))
  if others.size and embed is not None:
    spaces["verifier"] = embed
  if spaces:
    metrics["privacy/compared"] = {"value": len(train_rows), "low": None, "high": None,
                                   "n": len(train)}
  for space, of in spaces.items():
    metrics |= privacy_metrics(
        **{name: np.asarray(of(part)).reshape(len(part), -1) for name, part in images.items()},
        space=space, quantile=max(QUANTILE, 1 / len(others)), resamples=c.bootstrap, seed=seed,
        synthetic_patient=patient[some],
        # Patients are numbered within their split, which no two splits share.
        train_patient=np.array([f"train {p}" for p in train.index.patient[train_rows]]),
        held_out_patient=np.array([f"held out {p}" for p in others]))
  return metrics, left_out


def _latents(answering: Answering, x: np.ndarray, findings: int) -> np.ndarray:
  """Means of everything that the encoder reads, `[N, D]`; findings are not given to it."""
  shape = (len(x), findings)
  zeros = np.zeros(shape, np.int8)
  unknown = FindingsArrays(np.full(shape, UNKNOWN, np.int8), np.full(shape, -1.0, np.float32),
                           zeros, zeros)
  encoded = answering.encode(x, unknown)
  return np.concatenate([np.asarray(encoded[part].mean).reshape(len(x), -1)
                         for part in ("id", "path")], axis=-1)
