"""How good generated images of one finding are: by the judge, by features, by distance, by clock.

New healthy phantom patients lend their identity, so that what a noise or a model has learnt is
asked of people it never saw. Rates stand over the judge's on exact images of the same questions.
"""

import dataclasses
import functools
import time

import jax
import numpy as np

from cdjax.core.rng import stream
from cdjax.core.types import PRESENT, FindingsArrays
from cdjax.data import phantom
from cdjax.data.pipeline import to_model_range
from cdjax.evaluate import judged
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.drawn_findings import no_findings
from cdjax.evaluate.features import Extractor, extract
from cdjax.evaluate.image_metrics import from_model, to_model
from cdjax.evaluate.manifold import NEIGHBOURS, manifold_metrics
from cdjax.evaluate.ms_ssim import diversity
from cdjax.evaluate.noise_workdir import asked_of
from cdjax.evaluate.questions import draw_causes
from cdjax.evaluate.references import draw_asked, take
from cdjax.evaluate.rendering import BATCH, Causes, render_all
from cdjax.evaluate.subject import Subject
from cdjax.evaluate.synthesis import Generator

_PAIRS = 200


@dataclasses.dataclass(frozen=True)
class NewPatients:
  """N healthy patients that nothing was trained on: images `[N, S, S]` in [0, 1], and causes."""

  x: np.ndarray
  causes: Causes
  findings: FindingsArrays


@dataclasses.dataclass(frozen=True)
class Judges:
  """What looks at the images.

  Attributes:
    subject: its judge looks, and its autoencoder shows what it allows at best.
    extractor: the judge's features.
  """

  subject: Subject
  extractor: Extractor


def only_finding(k: int, num: int, num_findings: int) -> FindingsArrays:
  """`[num, K]`: finding number k alone, all else about it open."""
  findings = no_findings(num, num_findings)
  findings.status[:, k] = PRESENT
  return findings


def new_patients(num: int, *, seed: int, vocabulary: tuple[str, ...], size: int) -> NewPatients:
  """Draws healthy patients."""
  key = stream(jax.random.key(seed), "longtail/patients")
  findings = no_findings(num, len(vocabulary))
  draw = functools.partial(draw_causes, key, vocabulary=vocabulary)
  causes = map_batches(draw, np.arange(num), findings, batch_size=BATCH)
  return NewPatients(render_all(causes, vocabulary=vocabulary, size=size), causes, findings)


def exact_images(patients: NewPatients, asked: FindingsArrays, *, seed: int,
                 vocabulary: tuple[str, ...]) -> np.ndarray:
  """The patients with these findings, `[N, S, S]`; what the findings leave open is drawn."""
  key = stream(jax.random.key(seed), "longtail/exact")

  @jax.jit
  def draw(index, asked):
    return jax.vmap(lambda i, f: phantom.pathology_from_findings(
        f, stream(key, "pathology", i), vocabulary=vocabulary))(index, asked)

  pathology = map_batches(draw, np.arange(len(patients.x)), asked, batch_size=BATCH)
  return render_all(patients.causes.replace(pathology=pathology), vocabulary=vocabulary,
                    size=patients.x.shape[-1])


@dataclasses.dataclass(frozen=True)
class Answers:
  """What a generator makes of N patients.

  Attributes:
    asked: findings asked for, `[N, K]`.
    images: `[N, S, S]` in [0, 1].
    path: their standardised `z_path` as the encoder reads them, `[N, h, w, c]`.
    seconds: an image, after the first batch; NaN where there is only one.
  """

  asked: FindingsArrays
  images: np.ndarray
  path: np.ndarray
  seconds: float


def answer(generator: Generator, x: np.ndarray, findings: FindingsArrays, *, seed: int) -> Answers:
  """Asks a generator's finding of patients, from its bank's noises in turn where it has one.

  Args:
    generator: of the finding.
    x: the patients, `[N, S, S, 1]` in [-1, 1].
    findings: their own, `[N, K]`.
    seed: of the answers; what is asked follows from the generator's.
  """
  asked, noise = questions(generator, len(x))
  clock = []

  def ask(key, *question):
    question = question if noise is not None else (*question, None)
    out = jax.device_get(generator.fn(key, *question))
    clock.append(time.perf_counter())
    return out

  size = min(generator.batch_size, len(x))
  key = stream(jax.random.key(seed), f"longtail/answer/{generator.references.k}")
  given = (x, findings, asked, np.zeros(len(x), np.int32)) + (() if noise is None else (noise,))
  images, path = map_batches(ask, *given, batch_size=size, key=key)
  gaps = np.diff(clock)
  return Answers(asked, from_model(images), path,
                 float(np.median(gaps) / size) if gaps.size else float("nan"))


def measure_finding(generator: Generator, patients: NewPatients, judges: Judges, *, seed: int
                    ) -> dict[str, float | None]:
  """Measures one finding of one method.

  Args:
    generator: of the finding, with or without a bank.
    patients: N of them.
    judges: what looks.
    seed: of the answers and of the exact images.

  Returns:
    `effectiveness`, `side`: judge's rates over its rates on exact images with the same questions
    (`ceiling/…`; side None where the finding has no two sides); `side_seen`: the same of the images
    in which the finding is seen; `ceiling/autoencoder/…`: these of the patients' own identity with
    the exact image's pathology; `coverage`, `density` of images of new patients with the finding
    anywhere, in the judge's features; `ms_ssim` between the answers and `exact/ms_ssim`; `copies`,
    the share below `threshold`; `seconds`, `evaluations` an image; with a bank `noise/evaluations`
    a noise, `direct`, the effectiveness for the training patients that the noises were optimised
    with, and `reuse`, effectiveness over it. None where it is not defined.
  """
  trained, k, n = generator.trained, generator.references.k, len(patients.x)
  vocabulary = trained.vocabulary
  answers = answer(generator, to_model(patients.x), patients.findings, seed=seed)
  asked, shown = answers.asked, answers.images
  exact = exact_images(patients, asked, seed=seed, vocabulary=vocabulary)
  real = exact_images(patients, only_finding(k, n, len(vocabulary)), seed=seed + 1,
                      vocabulary=vocabulary)
  encoded = from_model(map_batches(
      judges.subject.encoded_fn, to_model(patients.x), patients.findings, to_model(exact), asked,
      batch_size=BATCH, key=stream(jax.random.key(seed), f"longtail/encoded/{k}")))
  rates = functools.partial(_rates, judges, asked=asked, k=k, vocabulary=vocabulary)
  seen, ceiling, best = rates(shown), rates(exact), rates(encoded)
  result = {"n": n, "ceiling/effectiveness": ceiling["effectiveness"],
            "ceiling/side": ceiling["side"]}
  result |= {name: _over(value, ceiling[name]) for name, value in seen.items()}
  result |= {f"ceiling/autoencoder/{name}": _over(best[name], ceiling[name])
             for name in ("effectiveness", "side")}
  if n > NEIGHBOURS:
    features = [extract(judges.extractor, images, batch_size=BATCH) for images in (real, shown)]
    found = manifold_metrics(*features)
    result |= {name: found[name] for name in ("coverage", "density")}
  distance, _ = generator.nearest_real(answers.path)
  cfg, noise = trained.config.counterfactual, trained.config.noise
  one = evaluations_a_step(cfg)
  bank = generator.bank
  result |= {
      "ms_ssim": diversity(shown, pairs=_PAIRS, seed=seed)["mean"],
      "exact/ms_ssim": diversity(real, pairs=_PAIRS, seed=seed)["mean"],
      "copies": float((distance < generator.threshold).mean()), "threshold": generator.threshold,
      "seconds": answers.seconds,
      "evaluations": one * (cfg.num_steps if bank is None else noise.sampler_steps)}
  if bank is not None:
    split = generator.space.source
    rows = np.resize(bank.arrays["identity"][:n], n)
    direct = answer(generator, to_model_range(split.images(rows), split.bits),
                    take(split.index.findings, rows), seed=seed)
    result["direct"] = _over(rates(direct.images)["effectiveness"], ceiling["effectiveness"])
    result["reuse"] = _over(result["effectiveness"], result["direct"])
    result["noise/evaluations"] = one * noise.sampler_steps * (noise.steps + 1)
  return result


def _rates(judges: Judges, images: np.ndarray, *, asked: FindingsArrays, k: int,
           vocabulary: tuple[str, ...]) -> dict[str, float | None]:
  """How often the judge sees the finding, its side, and its side where it sees the finding."""
  seen = judged.judge(judges.subject.judge_fn, images, batch_size=BATCH)
  there = judged.asked_seen(seen, asked)
  right = judged.place_right(seen, asked, np.full(len(images), k), "side", vocabulary=vocabulary)
  sided = np.isfinite(right).all()
  return {"effectiveness": float(there.mean()),
          "side": float(right.mean()) if sided else None,
          "side_seen": float(right[there > 0].mean()) if sided and there.any() else None}


def _over(a: float | None, b: float | None) -> float | None:
  """`a / b`, None where either is not known or b is 0."""
  return None if a is None or not b else a / b


def evaluations_a_step(cfg) -> int:
  """Evaluations of the denoiser in a sampler's step: each guidance costs one more."""
  guided = cfg.guidance_findings != cfg.guidance_identity or len(cfg.guidance_by_finding) > 0
  return 1 + bool(guided) + (cfg.guidance_identity != 1)


def questions(generator: Generator, n: int) -> tuple[FindingsArrays, np.ndarray | None]:
  """What is asked of n patients, `[n, K]`, and the noises `[n, h, w, c]` where there is a bank.

  The questions are the same with a bank of n noises and without one.
  """
  bank = generator.bank
  if bank is None:
    return draw_asked(generator.references, n, len(generator.trained.vocabulary),
                      seed=generator.seed), None
  rows = np.arange(n) % len(bank)
  return asked_of(bank, rows), bank.arrays["z_T"][rows]
