"""Text to findings: `severity side zone finding; …`, the syntax of prompts and manifests.

Grammar. Items are separated by `;`, `|`, a new line or a full stop, and by `,` where that is
unambiguous. Each item names one finding in any known spelling; the words around it may come in any
order: a status ("no", "without", "possible"), a change ("new", "stable", "resolved"), a severity
word or "severity 0.72", a size ("12 mm", "1.2 cm"), a side, one or more zones. "healthy", "normal"
and "no finding" stand alone and mean that nothing is found. This is not a reader of free-text
reports; that is `cdjax.findings.extract`.
"""

import itertools
import re
from collections.abc import Mapping

from cdjax.findings.ontology import Tokens, get_ontology, suggestion, tokenize
from cdjax.findings.types import Finding

_SEPARATORS = re.compile(r"[;|\n]|\.(?=\s|$)")
_STRANGE = re.compile(r"[^\w\s.,()'/+-]")


def parse_findings(text: str) -> list[Finding]:
  """Reads findings; the inverse of `render_findings`.

  Args:
    text: e.g. "large left lower pleural effusion; no cardiomegaly", "Effusion|COVID-19", "healthy".

  Returns:
    The findings in their order, with exact repetitions dropped. An empty list means that nothing
    was found: every finding is absent. (Missing labels are not "healthy": empty text is an error.)

  Raises:
    ValueError: an unknown word (with the nearest known ones and the list of all), an item without
      a finding or with two, two severities, a contradiction, or empty text.
  """
  if not text.strip():
    raise ValueError("empty findings; write 'healthy' where nothing is found")
  ontology = get_ontology()
  findings: list[Finding] = []
  healthy = False
  for item in (part for piece in _SEPARATORS.split(text) for part in _split_commas(piece)):
    if strange := _STRANGE.search(item):
      raise ValueError(f"{item.strip()!r}: cannot read {strange.group()!r}; write words, numbers "
                       "and ';' between findings")
    tokens = tokenize(item)
    if tokens in ontology.healthy:
      healthy = True
    elif tokens:
      finding = _parse_item(item.strip(), tokens)
      if finding not in findings:
        findings.append(finding)
  if not findings and not healthy:
    raise ValueError(f"{text!r} holds no finding; write 'healthy' where nothing is found")
  contradicting = [f.name for f in findings if healthy and f.status != "absent"
                   and not ontology.findings[f.name].with_healthy]
  if contradicting:
    raise ValueError(f"{text!r}: healthy, yet with {', '.join(contradicting)}")
  return findings


def _split_commas(piece: str) -> list[str]:
  """Splits at commas where every part stands for itself; else a comma is a space.

  Raises:
    ValueError: it is open whether a "no" holds for what follows the comma.
  """
  ontology = get_ontology()
  parts = [part for part in piece.split(",") if part.strip()]
  tokens = [tokenize(part) for part in parts]
  if len(parts) < 2 or not all(_names(t)[0] or t in ontology.healthy for t in tokens):
    return [piece]
  words = [[] if t in ontology.healthy else [word for word in t if word in ontology.status]
           for t in tokens]
  for before, after in itertools.pairwise(words):
    if before and not after:
      raise ValueError(f"{piece.strip()!r}: it is open whether {before[0]!r} holds after the "
                       "comma; separate findings by ';' and repeat the word where it holds")
  return parts


def _names(tokens: Tokens) -> tuple[list[str], list[str]]:
  """The findings named in `tokens` (longest spelling first) and the words left over."""
  ontology = get_ontology()
  names, rest = _match(tokens, ontology.phrases)
  if len(names) > 1:  # "Right hilum nodule": what can be a place is one beside a finding.
    names, rest = _match(tokens, {phrase: name for phrase, name in ontology.phrases.items()
                                  if phrase not in ontology.regions})
  return names, rest


def _match(tokens: Tokens, phrases: Mapping[Tokens, str]) -> tuple[list[str], list[str]]:
  """The names of the longest `phrases` in `tokens`, and the words left over."""
  longest = max(len(phrase) for phrase in phrases)
  names, rest, i = [], [], 0
  while i < len(tokens):
    size = next((n for n in range(min(longest, len(tokens) - i), 0, -1)
                 if tokens[i:i + n] in phrases), 0)
    if size:
      names.append(phrases[tokens[i:i + size]])
    else:
      rest.append(tokens[i])
    i += max(size, 1)
  return names, rest


def _parse_item(item: str, tokens: Tokens) -> Finding:
  """One finding from the tokens of one item; `item` is quoted in errors."""
  ontology = get_ontology()
  names, rest = _names(tokens)
  status, change, severity, size, sides, zones, unknown = None, None, None, None, [], [], []
  i = 0
  while i < len(rest):
    word = rest[i]
    pair, single = tuple(rest[i:i + 2]), (word,)
    region = ontology.regions.get(pair) or ontology.regions.get(single)
    if region:
      sides += [region[0]] if region[0] else []
      zones += region[1]
      i += 1 if pair not in ontology.regions else 2
      continue
    if word in ontology.status:
      status = _once(item, "status", status, ontology.status[word])
    elif word in ontology.severity:
      severity = _once(item, "severity", severity, ontology.severity[word])
    elif word in ontology.change:
      change = _once(item, "change", change, word)
    elif rest[i + 1:i + 2] in (["mm"], ["cm"]):
      size = _once(item, "size", size, _millimetres(item, word, rest[i + 1]))
      i += 1
    elif word == "severity":
      severity = _once(item, "severity", severity, _number(item, rest[i + 1:i + 2]))
      i += 1
    elif word not in ontology.fillers:
      unknown.append(word)
    i += 1
  if unknown:
    hints = ", ".join(f"{word!r}{suggestion(word)}" for word in unknown)
    raise ValueError(f"{item!r}: unknown word{'s' if len(unknown) > 1 else ''} {hints}; "
                     f"{ontology.known()}")
  if len(names) != 1:
    found = f"names {len(names)} findings ({', '.join(names)})" if names else "names no finding"
    raise ValueError(f"{item!r} {found}; write one finding an item, separated by ';'; "
                     f"{ontology.known()}")
  # "Left and right" is bilateral.
  laterality = None if not sides else sides[0] if len(set(sides)) == 1 else "bilateral"
  if status is None:
    status = "absent" if change == "resolved" else "present"
  try:
    return Finding(names[0], status=status, severity=severity, laterality=laterality,
                   zones=tuple(zones), change=change, size_mm=size)
  except ValueError as error:
    raise ValueError(f"{item!r}: {error}") from error


def _once(item: str, what: str, old, new):
  """`new`, unless another value was given before."""
  if old is not None and old != new:
    raise ValueError(f"{item!r} has two values of {what}: {old} and {new}")
  return new


def _number(item: str, words: list[str]) -> float:
  """The number after "severity"."""
  try:
    return float(words[0])
  except (IndexError, ValueError):
    raise ValueError(f"{item!r}: 'severity' must be followed by a number in [0, 1], "
                     "e.g. 'severity 0.72'") from None


def _millimetres(item: str, number: str, unit: str) -> float:
  """The length that a number and "mm" or "cm" say."""
  try:
    return float(number) * {"mm": 1, "cm": 10}[unit]
  except ValueError:
    raise ValueError(f"{item!r}: {number!r} before {unit!r} is no number; write e.g. "
                     "'12 mm nodule'") from None
