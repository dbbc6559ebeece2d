"""The ontology of findings: names, synonyms, regions, severity words. It is data: `ontology.json`.

Another modality is another file. Words are compared after `tokenize`: lower case, with `_`, `-` and
`/` as spaces, so "Pleural_Thickening", "pleural-thickening" and "pleural thickening" are one.
"""

import dataclasses
import difflib
import functools
import json
import re
from importlib import resources

from cdjax.core.types import SIDES, ZONES

Tokens = tuple[str, ...]

# A number keeps its sign, point and exponent; a word is letters and digits.
_TOKEN = re.compile(r"(?<!\S)-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?=\s|$)|[^\W_]+")
_GLUED_UNIT = re.compile(r"(?<=\d)(mm|cm)\b")


@dataclasses.dataclass(frozen=True)
class Entry:
  """What the ontology knows about one finding.

  Attributes:
    name: canonical name, snake_case.
    label: the name in running text, e.g. "pleural effusion".
    scale: which severity words a prompt uses: "size" or "grade".
    side: whether the finding can have a side.
    zone: whether the finding can have zones.
    parents: names that hold whenever this one does.
    synonyms: other spellings.
    with_healthy: may stand beside "no finding" (support devices).
  """

  name: str
  label: str
  scale: str
  side: bool
  zone: bool
  parents: tuple[str, ...]
  synonyms: tuple[str, ...]
  with_healthy: bool


@dataclasses.dataclass(frozen=True)
class Ontology:
  """The parsed file, indexed by token sequences.

  Attributes:
    findings: canonical name to `Entry`.
    phrases: tokens of each spelling to the canonical name.
    regions: tokens to (side or None, zones): "left", "apical", "rul".
    severity: severity word to value in [0, 1].
    scales: scale to its words, from faint to strong.
    status: word to status, "absent" or "uncertain"; the first of each is used in prompts.
    change: words for the change since an earlier image: "new", "stable", …
    healthy: token sequences that mean "nothing found".
    fillers: words without meaning of their own: "zone", "and".
  """

  findings: dict[str, Entry]
  phrases: dict[Tokens, str]
  regions: dict[Tokens, tuple[str | None, tuple[str, ...]]]
  severity: dict[str, float]
  scales: dict[str, tuple[str, ...]]
  status: dict[str, str]
  change: tuple[str, ...]
  healthy: frozenset[Tokens]
  fillers: frozenset[str]

  def known(self) -> str:
    """One sentence that lists the words that findings are written with."""
    sides = [" ".join(w) for w, (side, zones) in self.regions.items() if side and not zones]
    zones = [" ".join(w) for w, (side, zones) in self.regions.items() if zones and not side]
    return (f"known findings: {', '.join(e.label for e in self.findings.values())}; "
            f"sides: {', '.join(sides)}; zones: {', '.join(zones)}; "
            f"severity: {', '.join(self.severity)}, or 'severity 0.72'; "
            f"size: '12 mm' or '1.2 cm'; status: {', '.join(self.status)}; "
            f"change: {', '.join(self.change)}; nothing found: healthy")

  def nearest(self, word: str) -> list[str]:
    """At most four known words or names that look like `word` or contain it."""
    phrases = [" ".join(p) for p in (*self.phrases, *self.regions, *self.healthy)]
    words = {w for phrase in phrases for w in phrase.split()}
    words |= {*phrases, *self.severity, *self.status, *self.change}
    inside = [p for p in phrases if word in p.split()]
    close = difflib.get_close_matches(word, sorted(words), n=4, cutoff=0.6)
    return list(dict.fromkeys([*inside, *close]))[:4]


def tokenize(text: str) -> Tokens:
  """Splits text into lower-case words and numbers; punctuation separates, "9mm" is "9", "mm"."""
  spaced = _GLUED_UNIT.sub(r" \1", re.sub(r"[,()'_/]", " ", text.lower()))
  return tuple(_TOKEN.findall(spaced))


@functools.cache
def get_ontology() -> Ontology:
  """The packaged ontology.

  Raises:
    ValueError: the file contradicts itself (a spelling of two findings, an unknown parent, …).
  """
  raw = json.loads(resources.files("cdjax.findings").joinpath("ontology.json").read_text("utf-8"))
  return build_ontology(raw)


def build_ontology(raw: dict) -> Ontology:
  """Checks and indexes the contents of an ontology file.

  Raises:
    ValueError: a spelling means two things, or a parent, zone, side or severity is not possible.
  """
  findings = {
      name: Entry(name=name, label=item.get("label", name.replace("_", " ")),
                  scale=item["scale"], side=item["side"], zone=item["zone"],
                  parents=tuple(item["parents"]), synonyms=tuple(item["synonyms"]),
                  with_healthy=item.get("with_healthy", False))
      for name, item in raw["findings"].items()}
  scales = {name: tuple(words) for name, words in raw["scales"].items()}
  phrases: dict[Tokens, str] = {}
  for entry in findings.values():
    for parent in entry.parents:
      if parent not in findings:
        raise ValueError(f"ontology: parent {parent!r} of {entry.name!r} is not a finding")
    if entry.scale not in scales:
      raise ValueError(f"ontology: scale={entry.scale!r} of {entry.name!r}; "
                       f"expected one of {sorted(scales)}")
    for spelling in dict.fromkeys((entry.name, entry.label, *entry.synonyms)):
      owner = phrases.setdefault(tokenize(spelling), entry.name)
      if owner != entry.name:
        raise ValueError(f"ontology: {spelling!r} means both {owner!r} and {entry.name!r}")
  regions = {}
  for word, region in raw["regions"].items():
    if region["side"] not in (None, *SIDES, "bilateral") or not set(region["zones"]) <= set(ZONES):
      raise ValueError(f"ontology: region {word!r} is {region}; sides are {SIDES} or bilateral, "
                       f"zones {ZONES}")
    regions[tokenize(word)] = (region["side"], tuple(region["zones"]))
  for word in (w for words in scales.values() for w in words):
    if not 0 <= raw["severity"].get(word, -1) <= 1:
      raise ValueError(f"ontology: severity word {word!r} needs a value in [0, 1]")
  return Ontology(
      findings=findings, phrases=phrases, regions=regions, severity=raw["severity"], scales=scales,
      status={word: status for status, words in raw["status"].items() for word in words},
      change=tuple(raw["change"]),
      healthy=frozenset(tokenize(text) for text in raw["healthy"]),
      fillers=frozenset(raw["fillers"]))


def canonical_name(spelling: str) -> str:
  """The canonical name of a finding in any known spelling ("Effusion", "COVID-19").

  Raises:
    ValueError: not a known finding; names the nearest and lists all.
  """
  ontology = get_ontology()
  name = ontology.phrases.get(tokenize(spelling))
  if name is None:
    raise ValueError(f"unknown finding {spelling!r}"
                     f"{suggestion(' '.join(tokenize(spelling)))}; "
                     f"known findings: {', '.join(ontology.findings)}")
  return name


def suggestion(word: str) -> str:
  """" (nearest: …)" for an unknown word, or nothing where no known word is near."""
  near = get_ontology().nearest(word)
  return f" (nearest: {', '.join(near)})" if near else ""


def ancestors(name: str) -> frozenset[str]:
  """All names that hold whenever the canonical `name` does, without itself."""
  entry = get_ontology().findings[name]
  return frozenset(entry.parents).union(*(ancestors(parent) for parent in entry.parents))
