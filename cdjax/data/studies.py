"""The order of a patient's studies."""

import collections
from collections.abc import Iterable

from cdjax.data.manifest import Row


def number_studies(rows: Iterable[Row]) -> dict[int, int]:
  """The order of each row's study within its patient.

  Args:
    rows: of all splits.

  Returns:
    Row number to 0, 1, …; images of one study share it. A row that names no study is a study of
    its own, after those that do.
  """
  named: dict[str, set[tuple]] = collections.defaultdict(set)
  for row in rows:
    if row.study is not None:
      named[row.patient_id].add(row.study)
  ranks = {patient: {study: i for i, study in enumerate(sorted(studies))}
           for patient, studies in named.items()}
  numbers: dict[int, int] = {}
  unnamed: collections.Counter[str] = collections.Counter()
  for row in rows:
    known = ranks.get(row.patient_id, {})
    if row.study is None:
      numbers[row.number] = len(known) + unnamed[row.patient_id]
      unnamed[row.patient_id] += 1
    else:
      numbers[row.number] = known[row.study]
  return numbers
