"""Splits by patient: nobody is in two of them."""

import collections
import hashlib
from collections.abc import Iterable, Sequence

from cdjax.data.manifest import Row
from cdjax.data.quarantine import Problem


def assign_patients(patients: Iterable[str], *, val_share: float, test_share: float, seed: int
                    ) -> dict[str, str]:
  """Draws a split for each patient.

  Patients are ranked by a hash of seed and id, so that the order of the manifest does not matter
  and a patient added later moves at most one other across each border.

  Args:
    patients: ids.
    val_share: share of the patients for validation; at least one where it is not 0.
    test_share: the same for the test split.
    seed: of the draw.

  Returns:
    Patient to "train", "validation" or "test".

  Raises:
    ValueError: shares below 0 or that leave nothing to train on.
  """
  if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
    raise ValueError(f"val_share={val_share}, test_share={test_share}; expected shares >= 0 that "
                     "leave a part for training")
  ranked = sorted(set(patients), key=lambda patient: hashlib.blake2b(
      f"{seed}/{patient}".encode()).digest())
  free = len(ranked) - 1  # One is always left to train on.
  test = min(max(round(test_share * len(ranked)), test_share > 0), max(free, 0))
  val = min(max(round(val_share * len(ranked)), val_share > 0), max(free - test, 0))
  return {patient: "test" if i < test else "validation" if i < test + val else "train"
          for i, patient in enumerate(ranked)}


def split_rows(rows: Sequence[Row], *, val_share: float, test_share: float, seed: int
               ) -> tuple[dict[str, list[Row]], list[Problem]]:
  """Groups rows by split: the manifest's where it names one, else `assign_patients`.

  A patient whose rows name one split belongs to it with all rows; one whose rows name two is a
  problem, with all rows that name one.
  """
  named: dict[str, dict[str, list[int]]] = collections.defaultdict(
      lambda: collections.defaultdict(list))
  for row in rows:
    if row.split:
      named[row.patient_id][row.split].append(row.number)
  drawn = assign_patients((row.patient_id for row in rows if row.patient_id not in named),
                          val_share=val_share, test_share=test_share, seed=seed)
  result = {"train": [], "validation": [], "test": []}
  problems = []
  for row in rows:
    splits = named.get(row.patient_id, {})
    if len(splits) > 1:
      where = "; ".join(f"{split}: {_few(numbers)}" for split, numbers in splits.items())
      problems.append(Problem(row.number, row.image, "patient in two splits",
                              f"the patient's rows are in several splits ({where}); give all of "
                              "them one split"))
    else:
      result[next(iter(splits), None) or drawn[row.patient_id]].append(row)
  return result, problems


def _few(numbers: Sequence[int], shown: int = 8) -> str:
  """"rows 3, 7, 9 and 12 more"."""
  text = "rows " + ", ".join(map(str, numbers[:shown]))
  return text + f" and {len(numbers) - shown} more" if len(numbers) > shown else text
