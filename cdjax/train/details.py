"""Which details of findings the training data ever named: a model knows nothing of the others."""

from collections.abc import Mapping, Sequence

import numpy as np

from cdjax.core.types import PRESENT, FindingsArrays

# detail -> the value that says "unknown"
_UNSAID = {"side": 0, "zone": 0, "severity": -1.0}
DETAILS_FILE = "details.json"


def known_details(findings: FindingsArrays, vocabulary: Sequence[str]) -> dict[str, list[str]]:
  """For side, zone and severity the findings of which some image says it.

  Args:
    findings: of the training images, `[N, K]`.
    vocabulary: K names.
  """
  present = np.asarray(findings.status) == PRESENT
  said = {name: present & (np.asarray(getattr(findings, name)) > unsaid)
          for name, unsaid in _UNSAID.items()}
  return {name: [vocabulary[k] for k in np.flatnonzero(mask.any(0))] for name, mask in said.items()}


def leave_open(findings: FindingsArrays, known: Mapping[str, Sequence[str]],
               vocabulary: Sequence[str]) -> tuple[FindingsArrays, list[str]]:
  """Forgets what the training data never say.

  Args:
    findings: `[N, K]`.
    known: from `known_details`.
    vocabulary: K names.

  Returns:
    The findings, and what was forgotten, as "side of pleural_effusion".
  """
  fields, forgotten = {}, []
  present = np.asarray(findings.status) == PRESENT
  for name, unsaid in _UNSAID.items():
    value = np.array(getattr(findings, name))
    foreign = np.array([finding not in known[name] for finding in vocabulary])
    lost = (present & (value > unsaid) & foreign).any(0)
    forgotten += [f"{name} of {vocabulary[k]}" for k in np.flatnonzero(lost)]
    value[:, foreign] = unsaid
    fields[name] = value
  return findings.replace(**fields), forgotten
