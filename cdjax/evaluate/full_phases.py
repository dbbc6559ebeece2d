"""The phases of `--suite full` on the phantom, as `evaluate.phases`: fidelity, identity, pathology,
axioms and privacy.
"""

import jax
import numpy as np

from cdjax.core import rng
from cdjax.core.types import UNKNOWN, Array, FindingsArrays
from cdjax.evaluate.answer_quality import answer_fidelity, answer_pathology, finding_groups
from cdjax.evaluate.axioms import counterfactual_axioms
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.identity import identity_statistics
from cdjax.evaluate.image_metrics import from_model, to_model
from cdjax.evaluate.phases import REIDENTIFIED_PATIENTS, Run
from cdjax.evaluate.population import new_studies
from cdjax.evaluate.privacy import QUANTILE, privacy_metrics
from cdjax.evaluate.questions import head, make_questions
from cdjax.evaluate.verification import (
    equal_error_threshold,
    likeness,
    make_pairs,
    verification_auc,
)

HELD_OUT = 1000   # new patients that copies are judged by


def _embed(run: Run):
  """The verifier on images `[N, S, S]` in [0, 1]."""
  return lambda x: np.asarray(map_batches(
      run.answering.subject.verifier_fn, to_model(np.asarray(x, np.float32)),
      batch_size=run.config.evaluate.batch_size, on_batch=lambda rows: None))


def identity(run: Run) -> dict[str, dict]:
  """`identity/*`: the answers to `replace`, beside exact ones, and the verifier's own ROC.

  The verifier learnt from training patients; its ROC and its threshold are of new ones, in two
  studies each.
  """
  n = min(REIDENTIFIED_PATIENTS, run.config.evaluate.probe_images)
  x, _ = new_studies(rng.stream(run.key, "verified"), n, studies=2, healthy_share=0.3, **run.law)
  pairs = make_pairs(np.repeat(np.arange(n), 2), np.tile([0, 1], n), seed=run.seed)
  embed = _embed(run)
  embedding = embed(x.reshape(2 * n, *x.shape[2:]))
  # A patient's two pairs share a weight.
  statistic = verification_auc(embedding, pairs)
  out = run.intervals(
      {"identity/verifier_auc": lambda weights: statistic(np.tile(weights, (1, 2)))}, n)
  threshold = equal_error_threshold(
      likeness(embedding[pairs.first], embedding[pairs.second]), pairs.same)
  q, features = run.questions("replace"), run.answering.subject.features_fn
  seen = None if features is None else lambda x: np.asarray(map_batches(
      features, np.asarray(x, np.float32)[..., None], batch_size=run.config.evaluate.batch_size))
  for prefix, answers in (("", run.answers("replace")), ("ceiling/exact/", q.exact)):
    found = identity_statistics(q.x, answers, embed=embed, threshold=threshold, features=seen)
    out |= run.intervals({f"{prefix}{key}": value for key, value in found.items()}, len(q))
  return out


def fidelity(run: Run) -> dict[str, dict]:
  """`fidelity/*`: the answers to `replace` against real images of other patients, who show what
  the same law asks for; the exact answers (`ceiling/exact/*`) are real against real at the same N.
  A finding of fewer than `answer_quality.LEAST` images has no key.
  """
  q = run.questions("replace")
  others = make_questions(rng.stream(run.key, "fidelity"), len(q), **run.law)
  groups = [finding_groups(do, run.law["vocabulary"], run.train_counts)
            for do in (others.do_findings, q.do_findings)]
  out = {}
  for prefix, answers in (("", run.answers("replace")), ("ceiling/exact/", q.exact)):
    found, _ = answer_fidelity(others.exact, answers, *groups, seed=run.seed,
                               features_fn=run.answering.subject.features_fn)
    out |= {f"{prefix}{key}": entry for key, entry in found.items()}
  return out


def pathology(run: Run) -> dict[str, dict]:
  """`pathology/*`: what the judge sees in the answers to `replace` against what was asked."""
  q = run.questions("replace")
  out = {}
  for prefix, answers in (("", run.answers("replace")), ("ceiling/exact/", q.exact)):
    found = answer_pathology(
        run.judge(answers)["finding"], q.do_findings, vocabulary=run.law["vocabulary"],
        patient=np.arange(len(q)), resamples=run.config.evaluate.bootstrap, seed=run.seed)
    out |= {f"{prefix}{key}": entry for key, entry in found.items()}
  return out


def counterfactual(run: Run) -> dict[str, dict]:
  """`axioms/*`, on as many questions as composition; the judge says what is seen."""
  c, subject = run.config.evaluate, run.answering.subject
  q = head(run.questions("replace"), min(c.composition, c.composition_10))
  nulls = None
  if subject.null_fn is not None:   # the phase `composition` has asked for them already
    nulls = {times: images[:len(q)] for times, images in run.nulls().items()}
  statistics = counterfactual_axioms(
      subject.counterfactual_fn, lambda x: subject.judge_fn(x)["finding"], q.x, q.findings,
      q.do_findings, key=rng.stream(run.key, "axioms"), batch_size=c.batch_size, nulls=nulls)
  return run.intervals(statistics, len(q))


def privacy(run: Run) -> dict[str, dict]:
  """`privacy/*`: answers against the training images, in pixels, latents and the verifier's eyes.

  The yardstick is new patients, as near to the training images as chance brings them.
  """
  n = min(HELD_OUT, run.config.evaluate.probe_images)
  law = run.config.data.phantom
  held_out, findings = new_studies(rng.stream(run.key, "privacy"), n, studies=1,
                                   healthy_share=law.healthy_share, **run.law)
  q, answers = run.questions("replace"), run.answers("replace")
  images = {
      "synthetic": (answers, q.do_findings),
      "train": (from_model(run.compared.image), run.compared.findings),
      "held_out": (held_out[:, 0], jax.tree.map(lambda leaf: leaf[:, 0], findings))}
  spaces = {"pixel": lambda x, findings: x}
  subject = run.answering.subject
  if subject.encode_fn is not None:
    spaces["latent"] = lambda x, findings: _latents(run, x, findings)
  if subject.verifier_fn is not None:
    spaces["verifier"] = lambda x, findings: _embed(run)(x)
  out = {}
  for space, of in spaces.items():
    rows = {name: np.asarray(of(*given)).reshape(len(given[0]), -1)
            for name, given in images.items()}
    out |= privacy_metrics(
        **rows, space=space, quantile=max(QUANTILE, 1 / n), resamples=run.config.evaluate.bootstrap,
        seed=run.seed, train_patient=np.array([f"train {p}" for p in run.compared.patient]),
        held_out_patient=np.array([f"new {p}" for p in range(n)]))
  return out


def _latents(run: Run, x: Array, findings: FindingsArrays) -> np.ndarray:
  """Means of everything that the encoder reads, `[N, D]`; findings are not given to it."""
  unknown = findings.replace(status=np.full_like(findings.status, UNKNOWN))
  encoded = run.answering.encode(x, unknown)
  return np.concatenate([np.asarray(encoded[part].mean).reshape(len(x), -1)
                         for part in ("id", "path")], axis=-1)
