"""The training images of a finding in the encoder's own space: what rare ones are generated after.

The space is `z_path`'s posterior means, standardised as the diffusion sees them. A class is a
finding *and* a side: the mean over both sides is a place where nothing is. Distances are in units
of an element's spread: its deviation within a class and its posterior's together, so that elements
that say nothing about the image do not count. Centroids, spreads and references are of training
images only; held-out images give the distance that a new case has.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from cdjax.core.types import ABSENT, PRESENT, FindingsArrays
from cdjax.data.ensure import ensure_dataset
from cdjax.data.source import Split, open_split
from cdjax.evaluate.distances import nearest
from cdjax.evaluate.drawn_findings import no_findings
from cdjax.evaluate.trained import Trained
from cdjax.train.stages import encode_split


@dataclasses.dataclass(frozen=True)
class LatentSpace:
  """Every training image's pathology.

  Attributes:
    source: the training split, N records.
    path: standardised posterior means of `z_path`, `[N, h, w, c]` float32.
    spread: of each element within a class and its posterior, `[h, w, c]`.
    held_out: standardised posterior means of the validation split, `[H, h, w, c]`.
    held_out_findings: its findings, `[H, K]`.
    folder: of the training split's latents.
  """

  source: Split
  path: np.ndarray
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
  """Training images of one finding.

  Attributes:
    k: which finding of the vocabulary.
    rows: `[R]` int, of the training split.
    ids: their image ids.
    path: `[R, h, w, c]`, standardised.
    side, zone, severity: `[R]`, as labelled; 0, 0 and -1 where unknown.
  """

  k: int
  rows: np.ndarray
  ids: list[str]
  path: np.ndarray
  side: np.ndarray
  zone: np.ndarray
  severity: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  @property
  def sides(self) -> tuple[int, ...]:
    """Bit masks of the sides that occur, 0 where none is known."""
    return tuple(int(side) for side in np.unique(self.side))


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
  return LatentSpace(source, path, spread.astype(np.float32), read("validation")[0],
                     held_out.index.findings, latents)


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


def find_references(space: LatentSpace, finding: str, *, most: int | None, seed: int) -> References:
  """The training images that show a finding, `most` of them drawn where there are more.

  Args:
    space: the training images.
    finding: canonical name.
    most: None takes all.
    seed: of the draw.

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
  every, labels = space.source.image_ids(), space.source.index.findings
  of = lambda name: np.asarray(getattr(labels, name))[rows, k]
  return References(k, rows, [every[row] for row in rows], space.path[rows], of("side"), of("zone"),
                    of("severity"))


def centroids(references: References) -> dict[int, np.ndarray]:
  """Mean of each side's references, side's bit mask → `[h, w, c]`."""
  return {side: references.path[references.side == side].mean(0) for side in references.sides}


def draw_asked(references: References, num: int, num_findings: int, *, seed: int
               ) -> FindingsArrays:
  """Findings to ask for, `[num, K]`: this one alone, with the references' sides, zones, severities.

  Sides come in turn, so that each is asked equally often; zone and severity are drawn independently
  of each other and of the side, so that few references give more than their own combinations.
  """
  k, generator = references.k, np.random.default_rng([seed, references.k, 1])
  asked = no_findings(num, num_findings)
  asked.status[:, k] = PRESENT
  asked.side[:, k] = np.resize(references.sides, num)
  asked.zone[:, k] = generator.choice(references.zone, num)
  asked.severity[:, k] = generator.choice(references.severity, num)
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


def copy_threshold(held_out: np.ndarray, shows: np.ndarray, references: np.ndarray, *,
                   quantile: float) -> tuple[float, str]:
  """The distance to a finding's references below which a generated case counts as a copy.

  It is the `quantile` of the distances of held-out real cases to their nearest reference: of those
  that show the finding where there are at least 1 / quantile of them, else of all, which come less
  close, so that rather more is thrown away.

  Args:
    held_out: `[H, ...]`, in units in which distances mean something.
    shows: `[H]` bool, whether they show the finding.
    references: `[R, ...]`, in the same.
    quantile: above 0 and below 1.

  Returns:
    The distance, and of whom it is, for the record.

  Raises:
    ValueError: a quantile outside (0, 1), or fewer than 1 / quantile held-out cases.
  """
  if not 0 < quantile < 1:
    raise ValueError(f"copy_quantile={quantile}; expected above 0 and below 1")
  needed = int(np.ceil(1 / quantile - 1e-9))
  rows, whose = np.flatnonzero(shows), "held-out cases of the finding"
  if rows.size < needed:
    rows, whose = np.arange(len(held_out)), "held-out cases of any finding"
  if rows.size < needed:
    raise ValueError(f"{rows.size} held-out cases have no quantile {quantile}; expected at least "
                     f"{needed}, or a larger noise.copy_quantile")
  flat = lambda a: a.reshape(len(a), -1)
  distance, _ = nearest(flat(held_out[rows]), flat(references))
  return float(np.quantile(distance, quantile)), f"{rows.size} {whose}"


def threshold_of(space: LatentSpace, references: References, *, quantile: float
                 ) -> tuple[float, str]:
  """`copy_threshold` of these references, from the validation split's cases with a finding."""
  status = np.asarray(space.held_out_findings.status)
  sick = (status == PRESENT).any(1)
  return copy_threshold(space.held_out[sick] / space.spread, status[sick, references.k] == PRESENT,
                        references.path / space.spread, quantile=quantile)


def take(findings: FindingsArrays, rows: np.ndarray) -> FindingsArrays:
  """Some rows of `[N, K]`."""
  return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], findings)
