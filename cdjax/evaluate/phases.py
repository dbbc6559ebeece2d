"""The phases of an evaluation: each is a function of the run that returns some of the keys.

A phase is computed on its own, so that it can be kept and resumed on its own; what two phases need
(the questions, the answers to them) is drawn once in a process and is the same again in another.
"""

import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import numpy as np
from ml_collections import ConfigDict

from cdjax.core import rng
from cdjax.core.types import UNKNOWN, Array, FindingsArrays
from cdjax.evaluate import axioms, comparisons
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.baselines import nearest_with_findings, pca_errors
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.bootstrap import balanced_accuracy, interval, mean
from cdjax.evaluate.comparisons import Statistics
from cdjax.evaluate.image_metrics import from_model, psnr_statistic, rmse, ssim, to_model
from cdjax.evaluate.interactions import (
    Studies,
    attention_by_finding,
    part_measures,
    split_parts,
)
from cdjax.evaluate.leakage import leakage_statistics
from cdjax.evaluate.population import hidden_draws, new_studies, swapped
from cdjax.evaluate.questions import Questions, head, make_questions, questions_on
from cdjax.evaluate.reidentification import patient_from_pathology
from cdjax.evaluate.rendering import Causes

PCA_COMPONENTS = 256
REIDENTIFIED_PATIENTS = 300


@flax.struct.dataclass
class TrainStudies:
  """Studies that the subject was trained on: PCA is fitted and probes are trained on them.

  Attributes:
    image: `[N, S, S, 1]` float32 in [-1, 1].
    findings: `[N, K]`.
    patient: `[N]` int.
  """

  image: Array
  findings: FindingsArrays
  patient: Array


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything a phase may need.

  Attributes:
    answering: asks the subject.
    config: the whole configuration.
    key: of this evaluation, from its seed.
    seed: the seed, for the bootstrap.
    train: training studies.
    compared: training studies that privacy looks for copies among.
    train_counts: `[K]`, all training images that show each finding.
    single_study: causes of training patients with one study only, or None.
    on_work: told of finished rows, in rows of a counterfactual.
    kept: questions and answers of each kind that were already needed.
  """

  answering: Answering
  config: ConfigDict
  key: Array
  seed: int
  train: TrainStudies
  compared: TrainStudies
  train_counts: np.ndarray
  single_study: Causes | None
  on_work: Callable[[float], None]
  kept: dict = dataclasses.field(default_factory=dict)

  @property
  def law(self) -> dict:
    """What decides which questions can be asked."""
    data = self.config.data
    return {"vocabulary": tuple(data.vocabulary), "size": data.resolution,
            "held_out": tuple(data.phantom.held_out_combinations)}

  @property
  def judge(self) -> Callable | None:
    """Images `[N, S, S]` in [0, 1] → judgement; None where the subject has no judge."""
    return self.answering.judge if self.answering.subject.judge_fn else None

  def questions(self, kind: str) -> Questions:
    """The questions of one kind; new patients for each kind."""
    if kind not in self.kept:
      self.kept[kind] = make_questions(
          rng.stream(self.key, kind), self.config.evaluate.interventions, kind=kind, **self.law)
    return self.kept[kind]

  def answers(self, kind: str) -> np.ndarray:
    """One answer to each of these questions, `[N, S, S]` in [0, 1]."""
    name = f"{kind}/answers"
    if name not in self.kept:
      q = self.questions(kind)
      self.kept[name] = self.answering.counterfactual(
          rng.stream(self.key, name), q.x, q.findings, q.do_findings)
    return self.kept[name]

  def nulls(self) -> dict[int, np.ndarray]:
    """The factual images of `replace` after 1 and after 10 null interventions."""
    if "nulls" not in self.kept:
      c = self.config.evaluate
      q = head(self.questions("replace"), c.composition)
      self.kept["nulls"] = axioms.null_chain(
          self.answering, rng.stream(self.key, "composition"), q,
          repeated=min(c.composition_10, len(q)))
    return self.kept["nulls"]

  def intervals(self, statistics: Statistics, n: int) -> dict[str, dict]:
    """Value and bootstrap interval of each statistic over n patients."""
    return {key: interval(statistic, n, resamples=self.config.evaluate.bootstrap, seed=self.seed)
            for key, statistic in statistics.items()}


def autoencoder(run: Run) -> dict[str, dict]:
  """`autoencoder/*`, `baseline/pca256/psnr`, `swap/psnr` on the factual images."""
  q = run.questions("replace")
  statistics = {
      "baseline/pca256/psnr": psnr_statistic(
          pca_errors(from_model(run.train.image), q.x, components=PCA_COMPONENTS))}
  subject = run.answering.subject
  if subject.reconstruct_fn is not None:
    rebuilt = run.answering.reconstruction(rng.stream(run.key, "reconstruction"), q)
    statistics["autoencoder/psnr"] = psnr_statistic(rmse(rebuilt, q.x))
    statistics["autoencoder/ssim"] = mean(ssim(rebuilt, q.x))
  sick = np.flatnonzero(q.findings.any_present)
  if subject.swap_fn is not None and len(sick) > 1:
    # The next sick patient lends the pathology: never the patient itself, never a healthy one.
    other = sick[np.searchsorted(sick, np.arange(len(q)), side="right") % len(sick)]
    exact = swapped(q, other, vocabulary=run.law["vocabulary"])
    ours = run.answering.swap(rng.stream(run.key, "swap"), q, other)
    statistics["swap/psnr"] = psnr_statistic(rmse(ours, exact))
    statistics["baseline/copy/swap/psnr"] = psnr_statistic(rmse(q.x, exact))
  return run.intervals(statistics, len(q))


def counterfactual(run: Run) -> dict[str, dict]:
  """`counterfactual/*`, `sharpness/inside` and their baselines and ceilings."""
  q = run.questions("replace")
  encoded = run.answering.encoded(rng.stream(run.key, "replace/encoded"), q)
  nearest = nearest_with_findings(
      from_model(run.train.image), run.train.findings, q.x, q.do_findings)
  statistics = comparisons.replace_statistics(
      q, run.answers("replace"), encoded=encoded, nearest=nearest, judge=run.judge,
      vocabulary=run.law["vocabulary"])
  return run.intervals(statistics, len(q))


def healthy(run: Run) -> dict[str, dict]:
  """`healthy/*`."""
  q = run.questions("remove")
  return run.intervals(
      comparisons.healthy_statistics(q, run.answers("remove"), judge=run.judge), len(q))


def severity(run: Run) -> dict[str, dict]:
  """`severity/*`."""
  q = run.questions("severity")
  encoded = run.answering.encoded(rng.stream(run.key, "severity/encoded"), q)
  return run.intervals(comparisons.severity_statistics(
      q, run.answers("severity"), encoded=encoded, judge=run.judge), len(q))


def multi(run: Run) -> dict[str, dict]:
  """`multi/finding`."""
  q = run.questions("multi")
  return run.intervals(comparisons.asked_statistics(
      q, run.answers("multi"), judge=run.judge, key="multi/finding"), len(q))


def unseen(run: Run) -> dict[str, dict]:
  """`unseen/finding`."""
  q = run.questions("unseen")
  return run.intervals(comparisons.asked_statistics(
      q, run.answers("unseen"), judge=run.judge, key="unseen/finding"), len(q))


def diversity(run: Run) -> dict[str, dict]:
  """`diversity/ratio`."""
  c = run.config.evaluate
  q = head(run.questions("replace"), c.diversity_questions)
  answers = run.answering.answers(rng.stream(run.key, "diversity"), q, c.diversity_answers)
  draws = hidden_draws(rng.stream(run.key, "draws"), q, c.diversity_answers,
                       vocabulary=run.law["vocabulary"])
  return run.intervals(comparisons.diversity_statistics(q, answers, draws), len(q))


def composition(run: Run) -> dict[str, dict]:
  """`composition/*`."""
  c = run.config.evaluate
  q = head(run.questions("replace"), c.composition)
  chain = run.nulls()
  repeated = len(chain[10])
  statistics = axioms.composition(run.answering, rng.stream(run.key, "composition"), q, chain)
  last = {"composition/l1_10": statistics.pop("composition/l1_10")}
  return run.intervals(statistics, len(q)) | run.intervals(last, repeated)


def reversibility(run: Run) -> dict[str, dict]:
  """`reversibility/l1`, on as many questions as composition."""
  q = head(run.questions("replace"), run.config.evaluate.composition)
  statistics = axioms.reversibility(run.answering, rng.stream(run.key, "reversibility"), q,
                                    run.answers("replace")[:len(q)])
  return run.intervals(statistics, len(q))


def _noise(run: Run, part: str) -> float:
  """That a part of the latent ("pathology" or another) is used with: 0 its means, 1 draws."""
  if part == "pathology":
    return run.config.diffusion.target_noise
  return float(run.config.autoencoder.model.sample_latents)


def leakage(run: Run) -> dict[str, dict]:
  """`leakage/*` of findings.

  The encoder is not told the findings here: with them the pathology of a healthy image would be
  the null, and the probe on the full latent would read who is healthy from that alone.
  """
  c = run.config.evaluate
  train = jax.tree.map(lambda leaf: np.asarray(leaf)[:c.probe_images], run.train)
  x, findings = new_studies(rng.stream(run.key, "leakage"), max(c.probe_images // 3, 2), studies=1,
                            healthy_share=0.3, **run.law)
  x, findings = x[:, 0], jax.tree.map(lambda leaf: leaf[:, 0], findings)

  def encode(x, findings):
    unknown = findings.replace(status=np.full_like(findings.status, UNKNOWN))
    return run.answering.encode(x, unknown)

  statistics = leakage_statistics(
      rng.stream(run.key, "probe"), encode(from_model(train.image), train.findings),
      np.asarray(train.findings.present), train.patient, encode(x, findings),
      np.asarray(findings.present), sampled=_noise(run, "identity") > 0, max_steps=c.probe_steps,
      on_epoch=lambda: run.on_work(10))
  return run.intervals(statistics, len(x))


def reidentification(run: Run) -> dict[str, dict]:
  """`leakage/patient_from_pathology`, among 300 new patients sick in both of two studies."""
  n = min(REIDENTIFIED_PATIENTS, run.config.evaluate.probe_images)
  x, findings = new_studies(rng.stream(run.key, "reidentification"), n, studies=2,
                            healthy_share=0.0, **run.law)
  first, second = (
      run.answering.encode(x[:, i], jax.tree.map(lambda leaf, i=i: leaf[:, i], findings))["path"]
      for i in range(2))
  found = patient_from_pathology(first, second, noise=_noise(run, "pathology"), seed=run.seed)
  return run.intervals({"leakage/patient_from_pathology": mean(found)}, n)


def interactions(run: Run) -> dict[str, dict]:
  """`interactions/*`: what every part of the latent holds and does; see `evaluate.interactions`."""
  c, names = run.config.evaluate, run.law["vocabulary"]
  unknown = lambda f: f.replace(status=np.full_like(f.status, UNKNOWN))

  def studies(x, findings):
    encoded = run.answering.encode(x, unknown(findings))
    return Studies(split_parts(encoded), np.asarray(findings.present))

  n = min(REIDENTIFIED_PATIENTS, c.probe_images)
  x, findings = new_studies(rng.stream(run.key, "interactions"), n, studies=2, healthy_share=0.0,
                            **run.law)
  first, second = (studies(x[:, i], jax.tree.map(lambda leaf, i=i: leaf[:, i], findings))
                   for i in range(2))
  train = jax.tree.map(lambda leaf: np.asarray(leaf)[:min(c.probe_images, 2000)], run.train)
  measures = part_measures(studies(from_model(train.image), train.findings), first, second,
                           noise={part: _noise(run, part) for part in first.parts},
                           seed=run.seed)
  out = {}
  for part, values in measures.items():
    statistics = {f"interactions/probe/{part}/{name}": balanced_accuracy(
        values["read"][:, k:k + 1], first.present[:, k:k + 1]) for k, name in enumerate(names)}
    statistics |= {f"interactions/{key}/{part}": mean(values[key])
                   for key in ("patient", "nats", "nats_of_study")}
    out |= run.intervals(statistics, n)
  subject, q = run.answering.subject, run.questions("replace")
  if subject.attention_fn is not None:
    attention = map_batches(subject.attention_fn, to_model(q.x), q.findings,
                            batch_size=c.batch_size, on_batch=run.on_work)
    size, grid = q.x.shape[-1], attention.shape[1]
    places = q.old_mask.reshape(len(q), grid, size // grid, grid, size // grid).any((2, 4))
    for name, seen in attention_by_finding(attention, places, q.findings, names).items():
      out |= run.intervals({f"interactions/attention/{name}/{slot}": mean(seen[:, i])
                            for i, slot in enumerate(list(measures)[:seen.shape[1]])}, len(seen))
  return out


def single_study(run: Run) -> dict[str, dict]:
  """`single_study/*`: the counterfactual keys on training patients who have one study only."""
  q = questions_on(rng.stream(run.key, "single_study"), run.single_study, **run.law)
  answers = run.answering.counterfactual(
      rng.stream(run.key, "single_study/answers"), q.x, q.findings, q.do_findings)
  statistics = comparisons.image_statistics(q, answers)
  if run.judge:
    statistics |= comparisons.judged_statistics(
        q, run.judge(answers), run.judge(q.exact), vocabulary=run.law["vocabulary"])
  return run.intervals({f"single_study/{k}": s for k, s in statistics.items()}, len(q))
