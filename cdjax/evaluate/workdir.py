"""Evaluates a trained workdir on new phantom patients, and draws examples of its answers."""

import dataclasses
import functools
import json
from pathlib import Path

import flax.struct
import jax
import numpy as np
from ml_collections import ConfigDict

from cdjax.core.rng import stream
from cdjax.core.types import Array, FindingsArrays
from cdjax.data import phantom
from cdjax.data.ensure import ensure_dataset
from cdjax.data.pipeline import to_model_range
from cdjax.data.source import open_split
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.features import classifier_extractor
from cdjax.evaluate.image_metrics import to_model
from cdjax.evaluate.phases import TrainStudies
from cdjax.evaluate.privacy import compared_rows
from cdjax.evaluate.questions import head, make_questions
from cdjax.evaluate.rendering import Causes
from cdjax.evaluate.resume import fingerprint_of
from cdjax.evaluate.runner import Progress, evaluate_phantom
from cdjax.evaluate.subject import Subject
from cdjax.evaluate.trained import Trained, make_subject
from cdjax.models.classifier import make_classifier
from cdjax.models.verifier import make_verifier
from cdjax.train.stages import run_verifier, stage_fingerprint


@flax.struct.dataclass
class Showcase:
  """Examples, one row each; images `[N, S, S]` in [0, 1].

  Attributes:
    factual, healthy, counterfactual, another, exact: the image, the pseudo-healthy one, two answers
      to the question, and the true answer.
    findings, do_findings: `[N, K]`.
  """

  factual: Array
  healthy: Array
  counterfactual: Array
  another: Array
  exact: Array
  findings: FindingsArrays
  do_findings: FindingsArrays


def evaluate_workdir(trained: Trained, workdir: Path, *, seed: int,
                     progress: Progress | None = None, suite: str = "quick") -> dict:
  """Measures every key of METRICS on new patients; see `evaluate_phantom`.

  Args:
    trained: from `load_trained`; its configuration says how much is measured.
    workdir: of the run; gets `metrics-seedS.json`.
    seed: of the new patients.
    progress: told of the work done.
    suite: "full" adds fidelity, pathology, identity, axioms and privacy, and trains the verifier
      where it is not there.

  Raises:
    ValueError: the run's data are no phantom, so that there are no exact answers; or `seed` is the
      population's or the judge's.
  """
  config = trained.config
  if config.data.source != "phantom":
    raise ValueError("exact counterfactuals exist for the phantom only; this run was trained on "
                     f"data.source={config.data.source!r}")
  if seed in (config.data.phantom.seed, config.judge.seed):
    raise ValueError(f"--seed {seed} drew the training data; give another one")
  source = open_split(ensure_dataset(config, workdir), "train")

  def studies(rows):
    return TrainStudies(image=to_model_range(source.images(rows), source.bits),
                        findings=jax.tree.map(lambda a: a[rows], source.index.findings),
                        patient=source.index.patient[rows])

  subject, verifier, compared = make_subject(trained), "", None
  if suite == "full":
    subject = with_identity(subject, trained, workdir)
    verifier = stage_fingerprint(workdir, "verifier")
    compared = studies(compared_rows(len(source), source.resolution,
                                     least=config.evaluate.probe_images, seed=seed))
  return evaluate_phantom(
      subject, config=config, seed=seed,
      train_studies=studies(np.arange(min(len(source), config.evaluate.probe_images))),
      single_study=single_studies(config), workdir=workdir,
      fingerprint=fingerprint_of(trained.fingerprint, json.dumps(
          config.counterfactual.to_dict(), sort_keys=True)),
      progress=progress, suite=suite, verifier=verifier, compared=compared, train_total=len(source),
      train_counts=source.index.findings.present.sum(0))


def with_identity(subject: Subject, trained: Trained, workdir: Path) -> Subject:
  """Adds the verifier, trained where it is not there yet, and the classifier's features."""
  config = trained.config
  params = run_verifier(config, Path(workdir))["verifier"]
  model = make_verifier(config.verifier.model)
  embed = jax.jit(lambda params, x: model.apply({"params": params}, x))
  features = None
  if trained.classifier is not None:
    features = classifier_extractor(
        make_classifier(config.classifier.model, len(trained.vocabulary)), trained.classifier,
        size=config.data.resolution).fn
  return dataclasses.replace(subject, verifier_fn=functools.partial(embed, params),
                             features_fn=features)


def single_studies(config: ConfigDict) -> Causes | None:
  """The studies of training patients who have only one, as many as are questioned; or None."""
  law = {key: tuple(v) if isinstance(v, list | tuple) else v
         for key, v in config.data.phantom.items() if key != "findings_from"}
  counted = {key: law.pop(key) for key in ("patients", "max_studies", "single_study_share")}
  counts = phantom.studies_per_patient(seed=law["seed"], **counted)
  alone = np.flatnonzero(counts == 1)[:config.evaluate.interventions]
  if not len(alone):
    return None
  return Causes(*phantom.first_studies(alone, vocabulary=tuple(config.data.vocabulary), **law))


def make_effects(trained: Trained, *, seed: int, num: int = 64) -> np.ndarray | None:
  """Where each slot acts: the mean change of the image where it alone is another patient's.

  Returns:
    `[n, S, S]`, images in [0, 1]; None where the model has no slots.
  """
  subject, config = make_subject(trained), trained.config
  if subject.effect_fn is None:
    return None
  key = stream(jax.random.key(seed), "effects")
  q = make_questions(stream(key, "questions"), num, kind="remove", vocabulary=trained.vocabulary,
                     size=config.data.resolution)   # all of them are sick
  other = jax.tree.map(lambda leaf: np.roll(leaf, 1, 0), (q.x, q.findings))
  maps = map_batches(subject.effect_fn, to_model(q.x), q.findings, to_model(other[0]), other[1],
                     batch_size=min(config.evaluate.batch_size, num), key=key)
  return np.asarray(maps).mean(0)


def make_showcase(trained: Trained, *, seed: int, num: int = 12) -> Showcase:
  """Answers to `num` questions about new patients; targets and sick patients are balanced."""
  config, subject = trained.config, make_subject(trained)
  key = stream(jax.random.key(seed), "showcase")
  questions = head(make_questions(stream(key, "questions"), num, kind="replace",
                                  vocabulary=trained.vocabulary, size=config.data.resolution), num)
  answering = Answering(subject, config.evaluate.batch_size, lambda rows: None)
  answers = answering.answers(stream(key, "answers"), questions, 2)
  absent = jax.tree.map(np.zeros_like, questions.do_findings)
  absent = absent.replace(severity=np.full_like(absent.severity, -1.0))
  healthy = answering.counterfactual(
      stream(key, "answers", 0), questions.x, questions.findings, absent)
  return Showcase(
      factual=questions.x, healthy=healthy, counterfactual=answers[:, 0], another=answers[:, 1],
      exact=questions.exact, findings=questions.findings, do_findings=questions.do_findings)
