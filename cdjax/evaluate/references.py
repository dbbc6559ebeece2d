"""The training images of a finding in the encoder's own space: what rare ones are generated after.

The space is `z_path`'s posterior means, standardised as the diffusion sees them. Distances are in
units of an element's spread: its deviation within a class and its posterior's together, so that
elements that say nothing about the image do not count. Spreads and references are of training
images only; held-out images give the distance that a new case has (`copies`).
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from cdjax.core.types import ABSENT, PRESENT, FindingsArrays
from cdjax.data.ensure import ensure_dataset
from cdjax.data.source import Split, open_split
from cdjax.evaluate.drawn_findings import no_findings
from cdjax.evaluate.trained import Trained
from cdjax.models.mirrored import can_mirror, mirror_findings
from cdjax.train.stages import encode_split

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LatentSpace:
  """Every training image's pathology.

  Attributes:
    source: the training split, N records.
    path: standardised posterior means of `z_path`, `[N, h, w, c]` float32.
    mirrored: rows `[R]` → the same of these images with the lesion on its other side,
      `[R, h, w, c]`, see `models.mirrored`.
    healthy: mean of `path` over the images without finding, `[h, w, c]`.
    spread: of each element within a class and its posterior, `[h, w, c]`.
    held_out: standardised posterior means of the validation split, `[H, h, w, c]`.
    held_out_findings: its findings, `[H, K]`.
    folder: of the training split's latents.
  """

  source: Split
  path: np.ndarray
  mirrored: Callable[[np.ndarray], np.ndarray]
  healthy: np.ndarray
  spread: np.ndarray
  held_out: np.ndarray
  held_out_findings: FindingsArrays
  folder: Path

  @property
  def status(self) -> np.ndarray:
    """`[N, K]`."""
    return np.asarray(self.source.index.findings.status)

  def counts(self) -> np.ndarray:
    """Training images that show each finding, `[K]`."""
    return (self.status == PRESENT).sum(0)


@dataclasses.dataclass(frozen=True)
class References:
  """Training images of one finding, as they are and with the lesion on its other side.

  Attributes:
    k: which finding of the vocabulary.
    rows: `[R]` int, of the training split; a row occurs again where it is mirrored.
    ids: their image ids.
    path: `[R, h, w, c]`, standardised.
    side, zone, severity: `[R]`, as labelled; 0, 0 and -1 where unknown.
    mirrored: `[R]` bool.
  """

  k: int
  rows: np.ndarray
  ids: list[str]
  path: np.ndarray
  side: np.ndarray
  zone: np.ndarray
  severity: np.ndarray
  mirrored: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  def where(self, keep: np.ndarray) -> "References":
    """Those that are True in `keep` `[R]`."""
    ids = [name for name, kept in zip(self.ids, keep, strict=True) if kept]
    return References(self.k, self.rows[keep], ids, self.path[keep], self.side[keep],
                      self.zone[keep], self.severity[keep], self.mirrored[keep])

  @functools.cached_property
  def real(self) -> "References":
    """The images as they are."""
    return self.where(~self.mirrored)


def load_space(trained: Trained, workdir: Path) -> LatentSpace:
  """Reads the latents of training and validation images; encodes them where that was not done.

  Raises:
    ValueError: the model has no pathology slot.
  """
  if trained.model.whole:
    raise ValueError("diffusion.target='everything' has no pathology slot: noises and references "
                     "of a finding need diffusion.target='pathology'")
  folder = ensure_dataset(trained.config, workdir)
  source, held_out = open_split(folder, "train"), open_split(folder, "validation")
  stats = trained.params.stats

  def read(split):
    latents = encode_split(trained.config, workdir, split)
    path = (np.load(latents / "path_mean.npy") - stats.path_mean) / stats.path_std
    return path.astype(np.float32), latents

  path, latents = read("train")
  noise = (np.exp(np.load(latents / "path_logvar.npy")) / stats.path_std**2).mean(0)
  spread = np.sqrt(within_class_variance(path, source.index.findings) + noise)
  healthy = np.asarray(source.index.findings.healthy)
  if not healthy.any():
    log.warning("%s: no training image is without finding; the mean of all stands for a healthy "
                "one", source.path)

  def mirrored(rows):
    turned = np.load(latents / "mirror_mean.npy", mmap_mode="r")[rows]
    return ((turned - stats.path_mean) / stats.path_std).astype(np.float32)

  of_healthy = path[healthy if healthy.any() else slice(None)].mean(0)
  return LatentSpace(source, path, mirrored, of_healthy, spread.astype(np.float32),
                     read("validation")[0], held_out.index.findings, latents)


def within_class_variance(path: np.ndarray, findings: FindingsArrays) -> np.ndarray:
  """Pooled variance about the mean of each finding and side, over images with one finding.

  Pooled, since the few images of a rare class cannot say how much it varies.

  Args:
    path: `[N, h, w, c]`.
    findings: `[N, K]`.

  Returns:
    `[h, w, c]`; ones where no class has two such images.
  """
  present = np.asarray(findings.status) == PRESENT
  alone = np.flatnonzero(present.sum(1) == 1)
  k = present[alone].argmax(1)
  label = 4 * k + np.asarray(findings.side)[alone, k]
  squares, freedom = np.zeros(path.shape[1:]), 0
  for value in np.unique(label):
    members = path[alone[label == value]].astype(np.float64)
    squares += ((members - members.mean(0)) ** 2).sum(0)
    freedom += len(members) - 1
  return squares / freedom if freedom else np.ones(path.shape[1:])


def find_references(space: LatentSpace, finding: str, *, most: int | None, seed: int,
                    mirror: bool = False) -> References:
  """The training images that show a finding, `most` of them drawn where there are more.

  Args:
    space: the training images.
    finding: canonical name.
    most: None takes all.
    seed: of the draw.
    mirror: behind them, those whose lesions all have a side once more, mirrored.

  Raises:
    ValueError: a finding that the model does not know, or that no training image shows.
  """
  vocabulary = space.source.vocabulary
  if finding not in vocabulary:
    raise ValueError(f"finding {finding!r}; the model knows {', '.join(vocabulary)}")
  k = vocabulary.index(finding)
  rows = np.flatnonzero(space.status[:, k] == PRESENT)
  if not rows.size:
    raise ValueError(f"no training image of {space.source.path} shows {finding!r}; there is "
                     "nothing to lead a noise by")
  if most is not None and rows.size > most:
    rows = np.sort(np.random.default_rng([seed, k]).choice(rows, most, replace=False))
  findings, path = take(space.source.index.findings, rows), space.path[rows]
  turned = np.flatnonzero(can_mirror(findings)) if mirror else np.zeros(0, int)
  both = lambda here, there: np.concatenate([here, there[turned]])
  if turned.size:
    path = np.concatenate([path, space.mirrored(rows[turned])])
  other, every = mirror_findings(findings), space.source.image_ids()
  of = lambda name: both(getattr(findings, name)[:, k], np.asarray(getattr(other, name))[:, k])
  rows = both(rows, rows)
  return References(k, rows, [every[row] for row in rows], path, of("side"), of("zone"),
                    of("severity"), np.arange(len(rows)) >= len(rows) - turned.size)


def draw_asked(references: References, num: int, num_findings: int, *, seed: int
               ) -> FindingsArrays:
  """Findings to ask for, `[num, K]`: this one alone, with the references' places and severities.

  Sides come in turn, so that each is asked equally often; the zone is that of a reference on this
  side, since nobody could say what the finding looks like where it never was. The severity is drawn
  independently of both.
  """
  k, generator = references.k, np.random.default_rng([seed, references.k, 1])
  asked = no_findings(num, num_findings)
  asked.status[:, k] = PRESENT
  asked.side[:, k] = np.resize(np.unique(references.side), num)
  pick = lambda values, draw: values[int(draw * len(values))]
  for i, draws in enumerate(generator.random((num, 2))):   # what is asked first stays so
    asked.zone[i, k] = pick(references.zone[references.side == asked.side[i, k]], draws[0])
    asked.severity[i, k] = pick(references.severity, draws[1])
  return asked


def identity_rows(space: LatentSpace, k: int, kind: str) -> np.ndarray:
  """Training images that can lend their identity to an image of finding number k.

  Args:
    space: the training images.
    k: the finding.
    kind: "healthy": those without any finding; "real": all that are known not to show this one.

  Raises:
    ValueError: unknown kind, or there is none.
  """
  if kind not in ("real", "healthy"):
    raise ValueError(f"identities={kind!r}; expected 'real' or 'healthy'")
  healthy = np.asarray(space.source.index.findings.healthy)
  rows = np.flatnonzero(healthy if kind == "healthy" else space.status[:, k] == ABSENT)
  if not rows.size:
    other = "; try 'real'" if kind == "healthy" else ""
    raise ValueError(f"no training image of {space.source.path} can lend its identity "
                     f"(identities={kind!r}){other}")
  return rows


def take(findings: FindingsArrays, rows: np.ndarray) -> FindingsArrays:
  """Some rows of `[N, K]`."""
  return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], findings)
