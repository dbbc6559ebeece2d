"""Who is in the data set: patients with several studies, and balanced independent studies.

Patient i of a split depends on nothing but (seed, split, i), so splits are disjoint by
construction and more patients only add to the ones that were there.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.rng import stream
from cdjax.core.types import FindingsArrays
from cdjax.data.phantom.acquisition import Acquisition, sample_acquisition
from cdjax.data.phantom.anatomy import Anatomy, sample_anatomy
from cdjax.data.phantom.pathology import Pathology, findings_of, sample_pathology
from cdjax.data.phantom.render import render
from cdjax.data.phantom.reports import write_report
from cdjax.data.phantom.vocabulary import check_vocabulary
from cdjax.findings import arrays_to_findings

BATCH = 64
DTYPES = {8: np.uint8, 16: np.uint16}


def _root(seed: int, split: str) -> jax.Array:
  return stream(jax.random.key(seed), f"phantom/{split}")


@functools.partial(jax.jit, static_argnames=("patients",))
def _counts(
    root: jax.Array, patients: int, max_studies: int, single_study_share: float
) -> jax.Array:
  def one(index):
    key = stream(root, "patient", index)
    single = jax.random.uniform(stream(key, "single")) < single_study_share
    return jnp.where(single, 1, jax.random.randint(stream(key, "studies"), (), 1, max_studies + 1))

  return jax.vmap(one)(jnp.arange(patients))


def studies_per_patient(
    *, patients: int, seed: int, max_studies: int = 4, single_study_share: float = 0.0,
    split: str = "train",
) -> np.ndarray:
  """How many studies each patient has, `[patients]` int: uniform in 1..max_studies.

  Raises:
    ValueError: fewer than one patient or study, or a share outside [0, 1].
  """
  if patients < 1 or max_studies < 1 or not 0 <= single_study_share <= 1:
    raise ValueError(f"patients={patients}, max_studies={max_studies}, single_study_share="
                     f"{single_study_share}; expected >= 1, >= 1 and a share in [0, 1]")
  return np.asarray(_counts(_root(seed, split), patients, max_studies, single_study_share))


def population_size(**kwargs) -> int:
  """Number of records that `phantom_records` yields; arguments of `studies_per_patient`."""
  return int(studies_per_patient(**kwargs).sum())


def _causes(root: jax.Array, patient: jax.Array, study: jax.Array, vocabulary: tuple[str, ...],
            law: tuple) -> tuple[Anatomy, Pathology, Acquisition]:
  """The causes of one study."""
  key = stream(root, "patient", patient)
  anatomy = sample_anatomy(stream(key, "anatomy"))
  key = stream(key, "study", study)
  return (anatomy, sample_pathology(stream(key, "pathology"), vocabulary=vocabulary, **dict(law)),
          sample_acquisition(stream(key, "acquisition")))


@functools.partial(jax.jit, static_argnames=("size", "vocabulary", "law"))
def _studies(root: jax.Array, patient: jax.Array, study: jax.Array, *, size: int,
             vocabulary: tuple[str, ...], law: tuple) -> tuple:
  """Images `[B, S, S]`, findings `[B, K]`, sex and age `[B]` of these studies."""

  def one(patient, study):
    anatomy, pathology, acquisition = _causes(root, patient, study, vocabulary, law)
    image = render(anatomy, pathology, acquisition, size=size, vocabulary=vocabulary)
    return image, findings_of(pathology), anatomy.sex, anatomy.age

  return jax.vmap(one)(patient, study)


def first_studies(
    patients: np.ndarray, *, seed: int, vocabulary: tuple[str, ...], split: str = "train", **law
) -> tuple[Anatomy, Pathology, Acquisition]:
  """The causes of the first study of these patients of a population, with a leading axis `[N]`.

  Args:
    patients: `[N]` int, their numbers.
    seed, vocabulary, split: of the population.
    **law: healthy_share, multiple_share, frequencies and held_out_combinations, as
      `phantom_records` takes them (tuples).
  """
  draw = functools.partial(_causes, vocabulary=vocabulary, law=tuple(sorted(law.items())))
  root = _root(seed, split)
  return jax.jit(jax.vmap(lambda patient: draw(root, patient, 0)))(np.asarray(patients))


def phantom_records(
    *,
    patients: int,
    seed: int,
    resolution: int = 64,
    bits: int = 8,
    vocabulary: Sequence[str],
    max_studies: int = 4,
    single_study_share: float = 0.0,
    healthy_share: float = 0.3,
    multiple_share: float = 0.1,
    frequencies: Sequence[float] = (),
    held_out_combinations: Sequence[str] = (),
    split: str = "train",
    start: int = 0,
) -> Iterator[dict]:
  """Yields the studies of a population, patient after patient.

  Args:
    patients: how many.
    seed: of the population.
    resolution: side of the images in pixels.
    bits: 8 or 16, of a stored pixel.
    vocabulary: K finding names; a record lists the status of each of them.
    max_studies: studies a patient, uniform in 1..max_studies.
    single_study_share: share of patients forced to one study, on top of the above.
    healthy_share: share of studies without finding.
    multiple_share: share of studies with two findings or more.
    frequencies: relative frequency of each finding; () for equal ones.
    held_out_combinations: "finding side zone" strings that are never drawn.
    split: name of the split; other splits have other patients.
    start: how many records to leave out at the beginning; the others stay what they are.

  Yields:
    dicts with image (uint8 or uint16 `[H, W]`), image_id, patient_id, study (int from 0), findings
    (list of `Finding`), report, view, sex ("F" or "M"), age (int) and split.

  Raises:
    ValueError: an impossible value; the message names it.
  """
  vocabulary = check_vocabulary(vocabulary)
  if bits not in DTYPES:
    raise ValueError(f"bits={bits}; expected one of {sorted(DTYPES)}")
  counts = studies_per_patient(patients=patients, seed=seed, max_studies=max_studies,
                               single_study_share=single_study_share, split=split)
  law = (("healthy_share", healthy_share), ("multiple_share", multiple_share),
         ("frequencies", tuple(frequencies)),
         ("held_out_combinations", tuple(held_out_combinations)))
  owners = np.repeat(np.arange(patients), counts)
  studies = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
  root = _root(seed, split)
  top = 2**bits - 1
  for first in range(start - start % BATCH, len(owners), BATCH):
    rows = np.arange(first, first + BATCH)
    rows = np.minimum(rows, len(owners) - 1)   # the last batch is filled up: one compilation
    drawn = _studies(root, owners[rows], studies[rows], size=resolution, vocabulary=vocabulary,
                     law=law)
    images, arrays, sexes, ages = jax.tree.map(np.asarray, drawn)
    pixels = np.round(images * top).astype(DTYPES[bits])
    listed = arrays_to_findings(arrays, vocabulary, unlisted="unknown")
    for b in range(max(start - first, 0), min(BATCH, len(owners) - first)):
      patient, study = int(owners[first + b]), int(studies[first + b])
      rng = np.random.default_rng([seed, *split.encode(), patient, study])
      patient_id = f"{split}-{seed}-{patient:06d}"
      yield {
          "image": pixels[b],
          "image_id": f"{patient_id}-{study}",
          "patient_id": patient_id,
          "study": study,
          "findings": listed[b],
          "report": write_report(listed[b], rng),
          "view": "PA",
          "sex": "F" if sexes[b] else "M",
          "age": int(ages[b]),
          "split": split,
      }


def sample_study(key: jax.Array, **law) -> tuple[Anatomy, Pathology, Acquisition]:
  """One study of a new patient; `law` goes to `sample_pathology`."""
  return (sample_anatomy(stream(key, "anatomy")),
          sample_pathology(stream(key, "pathology"), **law),
          sample_acquisition(stream(key, "acquisition")))


@functools.partial(
    jax.jit, static_argnames=("n", "vocabulary", "size", "healthy_share", "multiple_share"))
def balanced_batch(
    key: jax.Array,
    n: int,
    *,
    vocabulary: tuple[str, ...],
    size: int,
    healthy_share: float = 0.2,
    multiple_share: float = 0.25,
) -> tuple[jax.Array, FindingsArrays]:
  """Independent studies of n different patients, every finding equally often.

  Args:
    key: of the batch.
    n: how many.
    vocabulary: K finding names, a tuple.
    size: side in pixels.
    healthy_share: share without finding.
    multiple_share: share with two or more.

  Returns:
    images `[n, size, size, 1]` float32 in [-1, 1] and their findings `[n, K]`.
  """

  def one(index):
    anatomy, pathology, acquisition = sample_study(
        stream(key, "balanced", index), vocabulary=vocabulary, healthy_share=healthy_share,
        multiple_share=multiple_share)
    image = render(anatomy, pathology, acquisition, size=size, vocabulary=vocabulary)
    return 2.0 * image[..., None] - 1.0, findings_of(pathology)

  # Whole chunks, the last one cut: a remainder would be compiled a second time.
  chunks = -(-n // BATCH)
  rows = jnp.arange(chunks * BATCH).reshape(chunks, BATCH)
  drawn = jax.lax.map(jax.vmap(one), rows)
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], drawn)
