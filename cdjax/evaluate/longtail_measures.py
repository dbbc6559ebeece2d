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
  """What looks at the images: the judge, and its features."""

  judge_fn: object
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


def measure_finding(generator: Generator, patients: NewPatients, judges: Judges, *, seed: int
                    ) -> dict[str, float | None]:
  """Measures one finding of one method.

  Args:
    generator: of the finding, with or without a bank.
    patients: N of them.
    judges: what looks.
    seed: of the questions and of the exact images.

  Returns:
    `effectiveness`, `side`: judge's rates over its rates on exact images with the same questions
    (`ceiling/…`; side None where the finding has no two sides); `coverage`, `density` of images of
    new patients with the finding anywhere, in the judge's features; `ms_ssim` between the answers
    and `exact/ms_ssim`; `copies`; `seconds`, `evaluations` an image; with a bank `direct`, the
    effectiveness for the training patients that the noises were optimised with.
  """
  trained, k, n = generator.trained, generator.references.k, len(patients.x)
  vocabulary = trained.vocabulary
  asked, noise = _questions(generator, n, seed)
  target = np.full(n, k)
  shown, seconds, z_path = _answer(generator, to_model(patients.x), patients.findings, asked, noise,
                                   seed)
  exact = exact_images(patients, asked, seed=seed, vocabulary=vocabulary)
  real = exact_images(patients, only_finding(k, n, len(vocabulary)), seed=seed + 1,
                      vocabulary=vocabulary)
  of = lambda images: judged.judge(judges.judge_fn, images, batch_size=BATCH)
  seen, ceiling = of(shown), of(exact)
  rate = lambda j: float(judged.asked_seen(j, asked).mean())
  side = lambda j: judged.place_right(j, asked, target, "side", vocabulary=vocabulary)
  over = lambda a, b: None if b is None or not np.isfinite(b) or b == 0 else float(a / b)
  result = {"n": n, "ceiling/effectiveness": rate(ceiling),
            "effectiveness": over(rate(seen), rate(ceiling)), "ceiling/side": None, "side": None}
  sides, sides_exact = side(seen), side(ceiling)
  if np.isfinite(sides).all():
    result |= {"ceiling/side": float(sides_exact.mean()),
               "side": over(sides.mean(), sides_exact.mean())}
  if n > NEIGHBOURS:
    features = [extract(judges.extractor, images, batch_size=BATCH) for images in (real, shown)]
    found = manifold_metrics(*features)
    result |= {name: found[name] for name in ("coverage", "density")}
  distance, _ = generator.nearest_real(z_path)
  cfg = trained.config.counterfactual
  result |= {
      "ms_ssim": diversity(shown, pairs=_PAIRS, seed=seed)["mean"],
      "exact/ms_ssim": diversity(real, pairs=_PAIRS, seed=seed)["mean"],
      "copies": float((distance < generator.threshold).mean()),
      "seconds": seconds, "evaluations": evaluations_a_step(cfg) * cfg.num_steps}
  if generator.bank is not None:
    source, split = generator.bank.arrays["identity"][:n], generator.space.source
    rows = np.resize(source, n)
    images, _, _ = _answer(
        generator, to_model_range(split.images(rows), split.bits),
        take(split.index.findings, rows), asked, noise, seed)
    result["direct"] = over(rate(of(images)), rate(ceiling))
    result["noise/evaluations"] = (evaluations_a_step(cfg) * trained.config.noise.sampler_steps
                                   * (trained.config.noise.steps + 1))
  return result


def evaluations_a_step(cfg) -> int:
  """Evaluations of the denoiser in a sampler's step: each guidance costs one more."""
  guided = cfg.guidance_findings != cfg.guidance_identity or len(cfg.guidance_by_finding) > 0
  return 1 + bool(guided) + (cfg.guidance_identity != 1)


def _questions(generator: Generator, n: int, seed: int) -> tuple[FindingsArrays, np.ndarray | None]:
  """What is asked of n patients, and the noises where there is a bank."""
  if generator.bank is None:
    return draw_asked(generator.references, n, len(generator.trained.vocabulary), seed=seed), None
  rows = np.arange(n) % len(generator.bank)
  return asked_of(generator.bank, rows), generator.bank.arrays["z_T"][rows]


def _answer(generator: Generator, x: np.ndarray, findings: FindingsArrays, asked: FindingsArrays,
            noise: np.ndarray | None, seed: int) -> tuple[np.ndarray, float, np.ndarray]:
  """Images `[N, S, S]`, seconds an image after the first batch, and `z_path`."""
  size, clock = min(generator.batch_size, len(x)), []
  view = np.zeros(len(x), np.int32)

  def ask(key, *question):
    question = question if noise is not None else (*question, None)
    out = jax.device_get(generator.fn(key, *question))
    clock.append(time.perf_counter())
    return out

  key = stream(jax.random.key(seed), f"longtail/answer/{generator.references.k}")
  given = (x, findings, asked, view) + (() if noise is None else (noise,))
  images, z_path = map_batches(ask, *given, batch_size=size, key=key)
  gaps = np.diff(clock)
  return from_model(images), float(np.median(gaps) / size) if gaps.size else float("nan"), z_path
