"""Measures a subject on new phantom patients: phase by phase, resumable, with the time left.

New patients come from `stream(key(seed), "evaluate")`, a name that no training stream has. The
judge is asked about finished images and is used for nothing else.
"""

import dataclasses
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cdjax.core import rng
from cdjax.core.types import Array
from cdjax.evaluate import full_phases, phases
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.phases import Run, TrainStudies
from cdjax.evaluate.rendering import Causes
from cdjax.evaluate.resume import fingerprint_of, resumed, write_json
from cdjax.evaluate.subject import Subject

# (phase's name, work done, work in all), in rows of a counterfactual.
Progress = Callable[[str, float, float], None]


@dataclasses.dataclass(frozen=True)
class Phase:
  """A phase, what it needs and how much work it is.

  Attributes:
    run: `Run -> keys`.
    needs: fields of `Subject` without which the phase cannot run.
    keys: what is left out then.
    work: `config -> rows`, roughly.
  """

  run: Callable[[Run], dict]
  needs: tuple[str, ...]
  keys: str
  work: Callable[[ConfigDict], float]


PHASES: dict[str, Phase] = {
    "autoencoder": Phase(
        phases.autoencoder, (), "autoencoder/*, swap/psnr", lambda c: 2 * c.interventions),
    "counterfactual": Phase(
        phases.counterfactual, (), "counterfactual/*", lambda c: 2 * c.interventions),
    "healthy": Phase(phases.healthy, (), "healthy/*", lambda c: c.interventions),
    "severity": Phase(phases.severity, (), "severity/*", lambda c: 2 * c.interventions),
    "multi": Phase(phases.multi, ("judge_fn",), "multi/finding", lambda c: c.interventions),
    "unseen": Phase(phases.unseen, ("judge_fn",), "unseen/finding", lambda c: c.interventions),
    "diversity": Phase(phases.diversity, (), "diversity/ratio",
                       lambda c: c.diversity_questions * c.diversity_answers),
    "composition": Phase(phases.composition, ("null_fn",), "composition/*",
                         lambda c: 2 * c.composition + 9 * c.composition_10),
    "reversibility": Phase(
        phases.reversibility, (), "reversibility/l1", lambda c: c.composition),
    "leakage": Phase(phases.leakage, ("encode_fn",), "leakage/*", lambda c: 2 * c.probe_images),
    "reidentification": Phase(phases.reidentification, ("encode_fn",),
                              "leakage/patient_from_pathology", lambda c: 600),
    "interactions": Phase(phases.interactions, ("encode_fn",), "interactions/*",
                          lambda c: 600 + c.interventions),
    "single_study": Phase(phases.single_study, (), "single_study/*", lambda c: c.interventions),
}
# More of them, with `--suite full`.
FULL_PHASES: dict[str, Phase] = {
    "fidelity": Phase(full_phases.fidelity, (), "fidelity/*", lambda c: 0.2 * c.interventions),
    "pathology": Phase(full_phases.pathology, ("judge_fn",), "pathology/*",
                       lambda c: 0.1 * c.interventions),
    "identity": Phase(full_phases.identity, ("verifier_fn",), "identity/*",
                      lambda c: 0.2 * c.interventions),
    "axioms": Phase(full_phases.counterfactual, ("judge_fn",), "axioms/*",
                    lambda c: 20 * c.composition_10),
    "privacy": Phase(full_phases.privacy, (), "privacy/*", lambda c: c.interventions),
}
# Keys of one function only, inside phases that run without it.
_KEYS_OF = {
    "reconstruct_fn": "autoencoder/*",
    "swap_fn": "swap/psnr",
    "attention_fn": "interactions/attention/*",
    "encoded_fn": "ceiling/autoencoder/*",
    "judge_fn": "counterfactual/finding, /side, /zone, /factual_left, /unasked, healthy/judged, "
                "severity/spearman, /mae",
}


def _left_out(subject: Subject, config: ConfigDict, single_study: Causes | None,
              known: dict[str, Phase]) -> dict[str, str]:
  """Phase's name → why it does not run."""
  asked = tuple(config.evaluate.phases) or tuple(known)
  if unknown := [name for name in asked if name not in PHASES | FULL_PHASES]:
    raise ValueError(f"config.evaluate.phases names {unknown[0]!r}; expected some of "
                     f"{', '.join(PHASES | FULL_PHASES)}")
  out = {name: f"{phase.keys}: not among config.evaluate.phases"
         for name, phase in known.items() if name not in asked}
  for name, phase in known.items():
    missing = [field for field in phase.needs if getattr(subject, field) is None]
    if missing:
      out[name] = f"{phase.keys}: the subject has no {', '.join(missing)}"
  if single_study is None:
    out["single_study"] = "single_study/*: no training patients with one study were given"
  if not config.data.phantom.held_out_combinations:
    out["unseen"] = "unseen/*: data.phantom.held_out_combinations is empty"
  if len(config.data.vocabulary) < 2:
    out["multi"] = "multi/*: the vocabulary has one finding"
  return out


def _plain(value: float, n: int) -> dict:
  return {"value": value, "low": None, "high": None, "n": n}


def evaluate_phantom(
    subject: Subject,
    *,
    config: ConfigDict,
    seed: int,
    train_studies: TrainStudies,
    single_study: Causes | None = None,
    workdir: Path | None = None,
    fingerprint: str = "",
    progress: Progress | None = None,
    suite: str = "quick",
    verifier: str = "",
    compared: TrainStudies | None = None,
    train_counts: Array | None = None,
    train_total: int | None = None,
) -> dict:
  """Measures every key of METRICS that the subject allows.

  Args:
    subject: the functions that are measured.
    config: the whole configuration; `config.evaluate` has the sizes.
    seed: of the new patients; another seed than any training used.
    train_studies: of the subject's own training data.
    single_study: causes of training patients with one study only, for `single_study/*`.
    workdir: gets `metrics-seedS.json`, and `evaluate-seedS/PHASE.json` as each phase ends; phases
      found there with the same fingerprint, configuration and seed are not computed again.
    fingerprint: of the trained parameters.
    progress: told of the work done, see `Progress`.
    suite: "full" adds fidelity, pathology, identity, axioms and privacy.
    verifier: fingerprint of the verifier, which only those depend on.
    compared: training studies that privacy looks for copies among; None: `train_studies`.
    train_counts: `[K]` of all training images, for head, medium and tail; None: of `compared`.
    train_total: how many training images there are in all; None: as many as `compared`.

  Returns:
    Flat keys → `{"value", "low", "high", "n"}`, with `machine`, `seed` and `left_out` (what was
    left out and why) beside them. NaN is None, as in the file.
  """
  workdir = None if workdir is None else Path(workdir)
  known = PHASES | (FULL_PHASES if suite == "full" else {})
  left_out = _left_out(subject, config, single_study, known)
  chosen = {name: phase for name, phase in known.items() if name not in left_out}
  compared = train_studies if compared is None else compared
  if train_counts is None:
    train_counts = np.asarray(compared.findings.present).sum(0)
  sizes = config.evaluate.to_dict()
  del sizes["phases"]   # a phase is the same in whatever company
  print_of = fingerprint_of(fingerprint, seed, sizes, config.data.to_dict(),
                            len(train_studies.patient))
  total = sum(phase.work(config.evaluate) for phase in chosen.values())
  before = 0.0                      # work of the phases that are done
  state = {"name": "", "done": 0.0, "work": 1.0}

  def on_work(rows: float) -> None:
    state["done"] = min(state["done"] + rows, state["work"])
    if progress is not None:
      progress(state["name"], before + state["done"], total)

  run = Run(
      answering=Answering(subject, config.evaluate.batch_size, on_work), config=config,
      key=rng.stream(jax.random.key(seed), "evaluate"), seed=seed, train=train_studies,
      compared=compared, train_counts=np.asarray(train_counts), single_study=single_study,
      on_work=on_work)

  def compute(name: str) -> dict:
    began = time.perf_counter()
    keys = chosen[name].run(run)
    return {"keys": keys, "seconds": time.perf_counter() - began}

  metrics, seconds = {}, {}
  for name, phase in chosen.items():
    state.update(name=name, done=0.0, work=phase.work(config.evaluate))
    on_work(0.0)
    path = None if workdir is None else workdir / f"evaluate-seed{seed}" / f"{name}.json"
    depends = fingerprint_of(print_of, verifier, len(compared.patient)) \
        if name in FULL_PHASES else print_of
    result = resumed(path, depends, lambda name=name: compute(name))
    metrics |= result["keys"]
    seconds[f"seconds/{name}"] = _plain(result["seconds"], 1)
    before += state["work"]
    state["done"] = 0.0
  if progress is not None:
    progress("done", total, total)
  seconds["seconds/total"] = _plain(sum(s["value"] for s in seconds.values()), 1)
  stated = list(left_out.values()) + [
      f"{keys}: the subject has no {field}" for field, keys in _KEYS_OF.items()
      if getattr(subject, field) is None]
  if suite == "full" and train_total is not None and train_total > len(compared.patient):
    stated.append(f"privacy/*: compared with {len(compared.patient)} random training images of "
                  f"{train_total}")
  metrics = dict(sorted(metrics.items())) | seconds | {
      "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, jax on "
                 f"{jax.devices()[0].device_kind}",
      "seed": seed,
      "left_out": stated,
  }
  if workdir is not None:
    write_json(workdir / f"metrics-seed{seed}.json", metrics)
  return metrics
