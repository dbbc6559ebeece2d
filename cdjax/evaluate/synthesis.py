"""Images of a finding from a trained workdir: an augmentation set, with every image's provenance.

A training patient lends the identity, the finding is asked for, and the answer is ordinary
sampling, bit for bit what `counterfactual.answer` gives, or starts from noises of a bank. Every
answer is encoded again and compared with the finding's real training cases: what is nearer to one
of them than new real cases come is a copy, thrown away and counted.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import numpy as np

from cdjax.core.rng import stream
from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual.ahead import jit_on, make_answer_program
from cdjax.counterfactual.noise_bank import NoiseBank
from cdjax.data.pipeline import to_model_range
from cdjax.evaluate.copies import threshold_of
from cdjax.evaluate.distances import nearest
from cdjax.evaluate.image_metrics import from_model
from cdjax.evaluate.noise_workdir import asked_of
from cdjax.evaluate.references import (
    LatentSpace,
    References,
    draw_asked,
    find_references,
    identity_rows,
    take,
)
from cdjax.evaluate.trained import Trained, spread


@flax.struct.dataclass
class Generated:
  """B answers.

  Attributes:
    images: `[B, S, S]` float32 in [0, 1].
    findings: asked, `[B, K]`.
    source: `[B]` row of the training split whose patient it is.
    noise: `[B]` row of the bank, -1 for fresh noise.
    nearest: `[B]` row of the training split: the real case of the finding that it is nearest to.
    distance: `[B]` in `z_path`, in units of the spread.
    copied: `[B]` bool, the distance is below the threshold.
  """

  images: Array
  findings: FindingsArrays
  source: Array
  noise: Array
  nearest: Array
  distance: Array
  copied: Array


@dataclasses.dataclass(frozen=True)
class Generator:
  """Makes batches of one finding; batch i is a function of the seed, the finding and i alone.

  Attributes:
    trained, space: the workdir.
    references: every training image of the finding, and what is asked: mirror images too.
    identities: training rows that may lend their identity.
    threshold: distance below which an answer is a copy.
    threshold_of: whose distances that is from, in words.
    bank: noises to start from, or None.
    seed: of everything.
    batch_size: B.
    fn: `(key, x, findings, asked, view, noise) -> (images, z_path)`, see `make_answer_fn`.
  """

  trained: Trained
  space: LatentSpace
  references: References
  identities: np.ndarray
  threshold: float
  threshold_of: str
  bank: NoiseBank | None
  seed: int
  batch_size: int
  fn: Callable

  def batch(self, index: int) -> Generated:
    """Batch number `index`."""
    size, k = self.batch_size, self.references.k
    generator = np.random.default_rng([self.seed, k, 3, index])
    source = generator.choice(self.identities, size)
    place = index * size + np.arange(size)
    if self.bank is None:
      noise, rows = None, np.full(size, -1)
      asked = take(draw_asked(self.references, place[-1] + 1, len(self.trained.vocabulary),
                              seed=self.seed), place)
    else:
      rows = place % len(self.bank)   # in turn: every noise is used equally often
      noise, asked = self.bank.arrays["z_T"][rows], asked_of(self.bank, rows)
    images, z_path = self.ask(index, source, asked, noise)
    distance, which = self.nearest_real(z_path)
    return Generated(from_model(images), asked, source, rows, self.references.real.rows[which],
                     distance, distance < self.threshold)

  def ask(self, index: int, source: np.ndarray, asked: FindingsArrays, noise: np.ndarray | None
          ) -> tuple[np.ndarray, np.ndarray]:
    """The answers `[B, S, S, 1]` in [-1, 1], and their standardised `z_path` read anew."""
    split = self.space.source
    key = stream(jax.random.key(self.seed), f"generate/{self.references.k}", index)
    return jax.device_get(self.fn(
        key, to_model_range(split.images(source), split.bits), take(split.index.findings, source),
        asked, split.index.view[source], noise))

  def nearest_real(self, z_path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each `[B, h, w, c]` to the nearest real reference, and which of them that is."""
    flat = lambda a: (a / self.space.spread).reshape(len(a), -1)
    return nearest(flat(z_path), flat(self.references.real.path))


def make_answer_fn(trained: Trained, *, num_steps: int | None = None) -> Callable:
  """`fn(key, x, findings, asked, view, noise) -> (images, z_path)`.

  Without noise (None) it is ordinary sampling. Compiled once for a batch size, with and without
  noises; the questions are spread over the devices. Images are in [-1, 1], `z_path` is what the
  encoder reads from them, standardised.

  Args:
    trained: the workdir.
    num_steps: of the sampler; None: `counterfactual.num_steps`. Noises of a bank mean what they
      were optimised for with the steps of that optimisation only.
  """
  model, mesh = trained.model, trained.mesh
  cfg = trained.config.counterfactual.copy_and_resolve_references()
  with cfg.unlocked():
    cfg.num_steps = num_steps or cfg.num_steps
  ask = make_answer_program(mesh, model, cfg)

  def encode(params, images):
    return (model.encode(params, images).pathology.mean - params.stats.path_mean
            ) / params.stats.path_std

  read = jit_on(mesh, encode)

  def fn(params, *question):
    images = ask(params, *question)
    return images, read(params, images)

  return spread(mesh, functools.partial(fn, trained.placed))


def make_generator(trained: Trained, space: LatentSpace, finding: str, *, identities: str,
                   seed: int, bank: NoiseBank | None = None, fn: Callable | None = None
                   ) -> Generator:
  """Gets ready to generate a finding.

  Args:
    trained, space: the workdir.
    finding: canonical name.
    identities: "healthy" or "real", see `references.identity_rows`.
    seed: of everything.
    bank: noises to start from.
    fn: of `make_answer_fn`, where several findings share it; with a bank, of its `sampler_steps`.

  Raises:
    ValueError: the bank is of another finding; a finding or identities that are not there.
  """
  if bank is not None and bank.finding != finding:
    raise ValueError(f"the noise bank is of {bank.finding!r}; expected one of {finding!r}")
  noise = trained.config.noise
  references = find_references(space, finding, most=None, seed=seed, mirror=noise.mirror)
  threshold, whose = threshold_of(space, references.real, quantile=noise.copy_quantile)
  fn = fn or make_answer_fn(trained, num_steps=bank.sampler_steps if bank else None)
  return Generator(
      trained, space, references, identity_rows(space, references.k, identities), threshold, whose,
      bank, seed, noise.batch_size, fn)


def tail_balanced(counts: np.ndarray, num: int) -> np.ndarray:
  """How many images each finding gets so that the rarest are filled up first.

  The findings end as equal as `num` images can make them: all that get any end within one image of
  each other, and no more frequent finding gets any.

  Args:
    counts: `[K]` training images of each; findings of none get none.
    num: images in all.

  Returns:
    `[K]` int that sum to `num`.

  Raises:
    ValueError: no finding has an image.
  """
  counts = np.asarray(counts, np.int64)
  if not (counts > 0).any():
    raise ValueError("no finding has a training image; there is nothing to balance")
  filled = np.where(counts > 0, counts, np.iinfo(np.int64).max // 2)
  order = np.argsort(filled, kind="stable")
  given = np.zeros_like(counts)
  for members in range(1, int((counts > 0).sum()) + 1):
    chosen = order[:members]
    total = filled[chosen].sum() + num
    above = filled[order[members]] if members < len(order) else np.inf
    if -(-total // members) <= above or members == (counts > 0).sum():
      level, rest = divmod(int(total), members)
      given[chosen] = level - filled[chosen]
      given[chosen[:rest]] += 1
      break
  return given


def fill_to(counts: np.ndarray, level: int) -> np.ndarray:
  """How many images each finding lacks to have `level`, `[K]`; findings of none get none."""
  counts = np.asarray(counts)
  return np.where(counts > 0, np.maximum(level - counts, 0), 0)
