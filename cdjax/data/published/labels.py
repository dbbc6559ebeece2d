"""Labels as data sets write them (1, 0, -1, nothing; or names) to findings."""

import functools
from collections.abc import Iterable, Mapping, Sequence

from cdjax.data.quarantine import Unusable
from cdjax.findings import Finding, canonical_name

CHEXPERT = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
            "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
            "Pleural Other", "Fracture", "Support Devices")
NO_FINDING = "No Finding"
DEVICES = "Support Devices"   # may be there in a healthy patient
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_STATUS = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}


@functools.cache
def finding(spelling: str, status: str = "present") -> Finding:
  """A finding in a data set's own spelling."""
  return Finding(canonical_name(spelling), status=status)


@functools.cache
def known(spelling: str) -> bool:
  """Whether the ontology has a finding of this name."""
  try:
    canonical_name(spelling)
  except ValueError:
    return False
  return True


def status_of(cell: str | float | None, column: str) -> str | None:
  """"present", "absent", "uncertain", or None for an empty cell.

  Raises:
    Unusable: the cell is none of 1, 0, -1 and nothing.
  """
  if cell is None or cell == "":
    return None
  try:
    return _STATUS[float(cell)]
  except (KeyError, TypeError, ValueError):
    raise Unusable("bad label", f"{column} is {cell!r}; expected 1, 0, -1 or nothing") from None


def from_columns(cells: Mapping[str, str | float | None], names: Sequence[str], *,
                 healthy: str = NO_FINDING, aliases: Mapping[str, str] | None = None
                 ) -> list[Finding] | None:
  """Findings of a row that has a column for each label.

  Args:
    cells: column to 1 (present), 0 (absent), -1 (uncertain) or nothing (not mentioned).
    names: the columns of findings.
    healthy: the column that says that nothing was found.
    aliases: column to the spelling that the ontology knows, where it does not know the column's.

  Returns:
    What the row says; with a "No Finding" also that the rest is absent, but not devices. None where
    every cell is empty: nobody labelled the image.

  Raises:
    Unusable: a cell of another value, or "No Finding" beside a finding.
  """
  statuses = {name: status_of(cells[name], name) for name in names}
  is_healthy = status_of(cells[healthy], healthy) == "present"
  present = [name for name, status in statuses.items() if status == "present" and name != DEVICES]
  if is_healthy and present:
    raise Unusable("contradicting findings", f"{healthy} beside {', '.join(present)}")
  if is_healthy:
    statuses = {name: status or ("absent" if name != DEVICES else None)
                for name, status in statuses.items()}
  spelling = {name: (aliases or {}).get(name, name) for name in names}
  result = [finding(spelling[name], status) for name, status in statuses.items() if status]
  return result or None


def from_names(labels: Iterable[str], *, aliases: Mapping[str, str], healthy: str,
               silent: frozenset[str] = frozenset()) -> list[Finding] | None:
  """Findings of an image whose labels are a list of names, whatever their order.

  A label that the ontology does not know is passed over where another one is known. Alone it would
  leave an image without findings, which counts as healthy, so that image is left out.

  Args:
    labels: what the data set lists.
    aliases: label to the spelling that the ontology knows.
    healthy: the label that says that nothing was found.
    silent: labels that say nothing about findings.

  Returns:
    The findings; [] healthy; None where the labels say nothing.

  Raises:
    Unusable: no label is known.
  """
  said = list(dict.fromkeys(label for label in map(str.strip, labels)
                            if label and label not in silent))
  found = list(dict.fromkeys(aliases.get(label, label) for label in said if label != healthy
                             and known(aliases.get(label, label))))
  if found:
    return [finding(label) for label in found]
  if foreign := [label for label in said if label != healthy]:
    raise Unusable("no known finding", f"only {', '.join(foreign)}, which the ontology does not "
                                       "have; without them the image would count as healthy")
  return [] if said else None
