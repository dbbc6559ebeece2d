"""A method's generators: its banks of noises, and how near to a real case a copy is.

Hardly any case of a rare finding is held out, but the phantom gives as many new ones as wanted:
their distances to the finding's training images say how near a case comes that copies nothing.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cdjax.core.trees import tree_fingerprint
from cdjax.counterfactual.noise_bank import NoiseBank, bank_path
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.image_metrics import to_model
from cdjax.evaluate.longtail_measures import (
    NewPatients,
    exact_images,
    new_patients,
    only_finding,
)
from cdjax.evaluate.longtail_runs import Ready, exclusive
from cdjax.evaluate.noise_workdir import NoiseFns, make_noise_fns, optimise_bank
from cdjax.evaluate.rendering import BATCH
from cdjax.evaluate.resume import fingerprint_of, resumed
from cdjax.evaluate.subject import Subject
from cdjax.evaluate.synthesis import Generator, make_answer_fn, make_generator
from cdjax.evaluate.trained import make_subject

_COPY_SEED, _COPY_CASES, _COPY_QUANTILE = 70003, 300, 0.01


def make_generators(ready: Ready, findings: Iterable[str], *, start: str, without_bank: set[str],
                    noises: int, workdir: Path) -> Iterator[tuple[str, Generator, float | None]]:
  """Gets ready to generate one finding after the other.

  Args:
    ready: of `Runs.load`; its seed is that of everything here.
    findings: canonical names.
    start: of the noises, "" for none.
    without_bank: findings that are generated as if there were no noises.
    noises: in a bank, up to whole batches.
    workdir: of the benchmark; gets banks/ and thresholds/.

  Yields:
    The finding, its generator, and the seconds that a noise took, None where none was optimised.
  """
  trained, space = ready.trained, ready.space
  config = trained.config
  subject = make_subject(trained)
  ordinary, from_bank, fns = make_answer_fn(trained), None, None
  # A bank goes on with the settings that it was begun with, and no others; a longer one would be
  # used otherwise.
  digest = fingerprint_of(trained.generator, config.noise.to_dict(),
                          config.counterfactual.to_dict(), noises)
  folder = workdir / "banks" / f"{start}-{config.noise.steps}-{digest}"
  for name in findings:
    bank, seconds = None, None
    if start and name not in without_bank:
      fns = fns or make_noise_fns(trained)
      from_bank = from_bank or make_answer_fn(trained, num_steps=config.noise.sampler_steps)
      with exclusive(workdir / "locks" / f"{folder.name}-{name}"):
        bank, seconds = _optimise(ready, name, folder, noises, fns)
    generator = make_generator(trained, space, name, identities="healthy", seed=config.seed,
                               bank=bank, fn=from_bank if bank is not None else ordinary)
    digest = fingerprint_of(ready.autoencoder, tree_fingerprint(trained.params.stats),
                            generator.references.real.ids, _COPY_CASES, _COPY_QUANTILE)
    found = resumed(workdir / "thresholds" / f"{config.seed}-{name}.json", digest,
                    lambda generator=generator: {"distance": phantom_threshold(subject, generator)})
    yield name, dataclasses.replace(
        generator, threshold=found["distance"],
        threshold_of=f"{_COPY_CASES} new cases of the finding"), seconds


def phantom_threshold(subject: Subject, generator: Generator) -> float:
  """The distance to a finding's references below which a case is a copy.

  Args:
    subject: its encoder reads new cases.
    generator: of the finding.
  """
  trained, k = generator.trained, generator.references.k
  patients = _copy_patients(trained.vocabulary, trained.config.data.resolution)
  asked = only_finding(k, len(patients.x), len(trained.vocabulary))
  images = exact_images(patients, asked, seed=_COPY_SEED, vocabulary=trained.vocabulary)
  path = map_batches(subject.encode_fn, to_model(images), asked, batch_size=BATCH)["path"].mean
  stats = trained.params.stats
  distance, _ = generator.nearest_real((path - stats.path_mean) / stats.path_std)
  return float(np.quantile(distance, _COPY_QUANTILE))


@functools.lru_cache(maxsize=1)
def _copy_patients(vocabulary: tuple[str, ...], size: int) -> NewPatients:
  return new_patients(_COPY_CASES, seed=_COPY_SEED, vocabulary=vocabulary, size=size)


def _optimise(ready: Ready, finding: str, folder: Path, noises: int, fns: NoiseFns
              ) -> tuple[NoiseBank, float | None]:
  """The bank, and the seconds that one of its noises took, None where all were there."""
  clock = [time.perf_counter()]
  # Told first of the noises that are there: that is no batch.
  there = bank_path(folder, finding).exists()
  bank = optimise_bank(ready.trained, ready.space, finding, folder, num=noises,
                       seed=ready.trained.config.seed, fns=fns,
                       on_noises=lambda count: clock.append(time.perf_counter()))
  batches = [b - a for a, b in itertools.pairwise(clock)][1 if there else 0:]
  # The first batch compiles and inverts, and tells the time only where there is no other.
  size = ready.trained.config.noise.batch_size
  return bank, float(np.median(batches[1:] or batches)) / size if batches else None
