"""Which findings a question's patient has and which are asked for; NumPy, before any rendering.

Five kinds of question:

* `replace`: the target alone is asked of a patient who does not have it (70 % of the patients have
  another finding, or two): the `counterfactual/*` keys.
* `remove`: no finding is asked of a patient who has the target: `healthy/*`.
* `severity`: the patient has the target alone; the same finding at the same side and zone is asked
  with a severity drawn independently of the factual one: `severity/*`.
* `multi`: the target and another finding are asked together of a patient with neither: `multi/*`.
* `unseen`: as `replace`, with the combinations finding × side × zone that training never shows:
  `unseen/*`. All other questions leave those combinations out.

Every finding of the vocabulary (in `unseen`: every combination kept out) is the target equally
often, and the share of patients with a finding is met within each target.
"""

from collections.abc import Sequence

import numpy as np

from cdjax.core.types import ABSENT, PRESENT, FindingsArrays
from cdjax.data.phantom.pathology import MIN_SEVERITY
from cdjax.data.phantom.vocabulary import PHANTOM_FINDINGS, place_of

KINDS = ("replace", "remove", "severity", "multi", "unseen")
SICK_SHARE = 0.7
SEVERAL_OF_SICK = 1 / 7   # 10 % of all studies have two findings or more, 70 % have any


def no_findings(n: int, num_findings: int) -> FindingsArrays:
  """`[n, K]` findings that are all known to be absent."""
  shape = (n, num_findings)
  return FindingsArrays(
      status=np.full(shape, ABSENT, np.int8), severity=np.full(shape, -1.0, np.float32),
      side=np.zeros(shape, np.int8), zone=np.zeros(shape, np.int8))


def _places(vocabulary: Sequence[str], held_out: Sequence[str]) -> list[list[tuple[int, int]]]:
  """The (side, zone) bit masks that each finding may be asked with, those held out left out."""
  never = {place_of(text) for text in held_out}
  return [[place for place in PHANTOM_FINDINGS[name].places if (name, *place) not in never]
          for name in vocabulary]


def _add(arrays: FindingsArrays, row: int, finding: int, generator: np.random.Generator,
         places: Sequence[tuple[int, int]]) -> None:
  """Writes a finding with a drawn severity and place into row `row` of `arrays`."""
  side, zone = places[generator.integers(len(places))]
  arrays.status[row, finding] = PRESENT
  arrays.severity[row, finding] = generator.uniform(MIN_SEVERITY, 1.0)
  arrays.side[row, finding], arrays.zone[row, finding] = side, zone


def _is_sick(index: int, targets: int) -> bool:
  """Whether question `index` is on a patient with a finding: 70 % of every target's questions."""
  rank, offset = index // targets, index % targets / targets
  return int((rank + 1) * SICK_SHARE + offset) > int(rank * SICK_SHARE + offset)


def draw_findings(
    kind: str,
    n: int,
    generator: np.random.Generator,
    *,
    vocabulary: Sequence[str],
    held_out: Sequence[str] = (),
) -> tuple[FindingsArrays, FindingsArrays, np.ndarray]:
  """Draws the factual and the asked findings of n questions.

  Args:
    kind: one of `KINDS`.
    n: how many.
    generator: of every draw.
    vocabulary: K finding names.
    held_out: "finding side zone" strings that training never shows.

  Returns:
    `(findings [n, K], do_findings [n, K], target [n] int32)`, NumPy.

  Raises:
    ValueError: unknown kind; `unseen` without combinations; `multi` with one finding.
  """
  if kind not in KINDS:
    raise ValueError(f"kind={kind!r}; expected one of {sorted(KINDS)}")
  if kind == "unseen" and not held_out:
    raise ValueError("kind='unseen' needs held_out_combinations; none was kept out of training")
  size = len(vocabulary)
  if kind == "multi" and size < 2:
    raise ValueError(f"kind='multi' with vocabulary={tuple(vocabulary)}; expected two or more")
  places = _places(vocabulary, held_out)
  kept_out = [place_of(text) for text in held_out if text.split()[0] in vocabulary]
  findings, do_findings = no_findings(n, size), no_findings(n, size)
  target = np.zeros(n, np.int32)
  targets = len(kept_out) if kind == "unseen" else size
  for row in range(n):
    if kind == "unseen":
      name, side, zone = kept_out[row % targets]
      target[row] = vocabulary.index(name)
      asked = {target[row]: [(side, zone)]}
    else:
      target[row] = row % size
      asked = {target[row]: places[target[row]]}
    others = [k for k in range(size) if k != target[row]]
    if kind == "multi":
      second = others.pop(generator.integers(len(others)))
      asked[second] = places[second]
    several = 1 + (generator.random() < SEVERAL_OF_SICK)
    if kind == "severity":
      _add(findings, row, target[row], generator, places[target[row]])
      place = (findings.side[row, target[row]], findings.zone[row, target[row]])
      asked = {target[row]: [place]}
    elif kind == "remove":
      had = [target[row], *generator.permutation(others)[: several - 1]]
      for k in had:
        _add(findings, row, k, generator, places[k])
      asked = {}
    elif _is_sick(row, targets):
      for k in generator.permutation(others)[:several]:
        _add(findings, row, k, generator, places[k])
    for k, where in asked.items():
      _add(do_findings, row, k, generator, where)
  return findings, do_findings, target


def ask_of(
    findings: FindingsArrays,
    generator: np.random.Generator,
    *,
    vocabulary: Sequence[str],
    held_out: Sequence[str] = (),
) -> tuple[FindingsArrays, np.ndarray]:
  """`replace` questions for given patients: each gets the target asked least so far.

  Args:
    findings: factual findings `[n, K]`.
    generator: of severity, side and zone.
    vocabulary: K finding names.
    held_out: combinations that are not asked.

  Returns:
    `(do_findings [n, K], target [n] int32)`; a target that the patient has is taken only where the
    patient has every finding.
  """
  places = _places(vocabulary, held_out)
  present = np.asarray(findings.present)
  n, size = present.shape
  do_findings, target, asked = no_findings(n, size), np.zeros(n, np.int32), np.zeros(size)
  for row in range(n):
    open_to = ~present[row] if not present[row].all() else np.ones(size, bool)
    k = target[row] = np.where(open_to, asked, np.inf).argmin()
    asked[k] += 1
    _add(do_findings, row, k, generator, places[k])
  return do_findings, target
