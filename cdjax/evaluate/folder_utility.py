"""Utility of a folder of synthetic images: labels from both manifests, real patients split."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cdjax.data.folder import ImageFolder, read_pixels
from cdjax.data.manifest import Row
from cdjax.data.quarantine import Unusable
from cdjax.data.splits import split_rows
from cdjax.data.write import complete_findings
from cdjax.evaluate.folder_groups import present_findings
from cdjax.evaluate.utility import Labelled, utility
from cdjax.findings import findings_to_arrays

TEST_SHARE = 0.3


def split_for_utility(real: ImageFolder, synthetic: ImageFolder, *, seed: int
                      ) -> tuple[dict[str, list[Row]], list[str], list[str]]:
  """Which rows train and which test, before any image is read; see `folder_utility`.

  Returns:
    rows of "real", "synthetic" and "test"; the vocabulary; what was left out and why.

  Raises:
    ValueError: as of `folder_utility`.
  """
  if real.rows is None or synthetic.rows is None:
    raise ValueError("utility needs the findings of every image: give --real-manifest and "
                     "--synthetic-manifest")
  splits, problems = split_rows(real.rows, val_share=0.0, test_share=TEST_SHARE, seed=seed)
  test = splits["validation"] + splits["test"]
  tested = {row.patient_id for row in test}
  made = [row for row in synthetic.rows if row.patient_id not in tested]
  if not made:
    raise ValueError("every synthetic image is of a patient of the test; none is left to train on")
  rows = {"real": splits["train"], "synthetic": made, "test": test}
  vocabulary = sorted(set().union(*present_findings(splits["train"])))
  if not vocabulary:
    raise ValueError("no real training image shows a finding; there is nothing to learn")
  for name, part in rows.items():
    if all(row.findings is None for row in part):
      raise ValueError(f"utility/{name}: no labelled image is left to use; {len(part)} images "
                       "without labels")
  left_out = [f"utility: {problem.image}: {problem.reason}" for problem in problems]
  if len(made) < len(synthetic.rows):
    left_out.append(f"utility/synthetic: {len(synthetic.rows) - len(made)} images of patients of "
                    "the test")
  return rows, vocabulary, left_out


def folder_utility(
    config: ConfigDict,
    real: ImageFolder,
    synthetic: ImageFolder,
    workdir: Path,
    *,
    fit: str,
    seed: int,
    on_images: Callable[[int], None] = lambda count: None,
    **options,
) -> tuple[dict[str, dict], list[str]]:
  """Trains and measures every regime of `utility.REGIMES`.

  Real patients are split where the manifest names a split (validation counts as test), else 30 %
  of them, drawn by `seed`, are the test. Synthetic images that name a test patient, e.g. because
  they were made from one, are left out. The vocabulary is what the real training images show.

  Args:
    config: of the classifier; `data.resolution` is the side that images are read at.
    real, synthetic: with manifests.
    workdir: of the classifiers, see `utility`.
    fit: how images become square.
    seed: of the split and of the bootstrap.
    on_images: told of images that are read.
    **options: of `train_stage`.

  Returns:
    The measures; what was left out and why.

  Raises:
    ValueError: no manifest, nothing labelled to train or to test on, or synthetic images of test
      patients only.
  """
  rows, vocabulary, left_out = split_for_utility(real, synthetic, seed=seed)
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.data.vocabulary = tuple(vocabulary)
  loaded = {}
  for name, folder in (("real", real), ("synthetic", synthetic), ("test", real)):
    loaded[name], lines = load_labelled(folder, rows[name], vocabulary, on_images=on_images,
                                        resolution=config.data.resolution, fit=fit)
    left_out += [f"utility/{name}: {line}" for line in lines]
  return utility(config, loaded["real"], loaded["synthetic"], loaded["test"], workdir, seed=seed,
                 **options), left_out


def load_labelled(folder: ImageFolder, rows: Sequence[Row], vocabulary: Sequence[str], *,
                  resolution: int, fit: str, on_images: Callable[[int], None]
                  ) -> tuple[Labelled, list[str]]:
  """Images that can be read and whose labels are known and free of contradiction.

  A finding that a labelled image does not list is absent; one outside the vocabulary is forgotten.

  Returns:
    the images; a line for each that is left out.

  Raises:
    ValueError: none is left.
  """
  pixels, findings, patient, left_out, unlabelled = [], [], [], [], 0
  for row in rows:
    on_images(1)
    if row.findings is None:
      unlabelled += 1
      continue
    known = [finding for finding in row.findings if finding.name in vocabulary]
    try:
      complete = complete_findings(known, vocabulary, "absent")
      findings_to_arrays([complete], vocabulary)
      pixels.append(read_pixels(folder.root, row.image, resolution=resolution, fit=fit))
    except (Unusable, OSError, ValueError) as error:
      left_out.append(f"{row.image}: {error}")
      continue
    findings.append(complete)
    patient.append(row.patient_id)
  if unlabelled:
    left_out.append(f"{unlabelled} images without labels")
  if not pixels:
    raise ValueError(f"{folder.root}: no labelled image is left to use; " + "; ".join(left_out[:3]))
  return Labelled(np.stack(pixels), findings_to_arrays(findings, vocabulary),
                  np.array(patient)), left_out
