"""Which side, zone, severity, size and change belong to which mention of a sentence.

A word of place or degree belongs to the noun it stands with: "right effusion and left atelectasis",
"atelectasis in the left base, right effusion". What stands before a noun comes first; what follows
it fills in. A list shares its place ("left basilar atelectasis or pneumonia"), and so does an
explanation ("opacity in the left base, likely pneumonia").
"""

import dataclasses
from collections.abc import Sequence

from cdjax.findings.extract.lexicon import Lexicon
from cdjax.findings.extract.mentions import Mention
from cdjax.findings.extract.phrases import Hit
from cdjax.findings.extract.sentences import Sentence
from cdjax.findings.ontology import get_ontology

_PREPOSITIONS = frozenset(("in", "at", "within", "of", "over", "overlying", "projecting", "on",
                           "along", "throughout", "involving", "near", "adjacent", "to", "is",
                           "are", "bilaterally", "noted", "seen", "present", "measuring"))
# A clause about what is well says nothing of where the next finding is.
_WELL = frozenset(("clear", "normal", "unremarkable", "limits", "sharp", "intact"))
_DENIALS = frozenset(("no", "not", "without"))
_UNITS = {"mm": 1.0, "cm": 10.0}
_DISTANCE = frozenset(("above", "below", "from", "proximal", "distal", "superior"))
_MAX_DEGREE_WORDS = 5


@dataclasses.dataclass
class Attributes:
  """What a sentence says of one mention besides its status.

  Attributes:
    sides: of "left", "right".
    zones: of "upper", "mid", "lower".
    severity: in [0, 1] or None.
    size_mm: or None.
    change: or None.
    first, last: the words [first, last) that were used.
  """

  sides: frozenset[str] = frozenset()
  zones: frozenset[str] = frozenset()
  severity: float | None = None
  size_mm: float | None = None
  change: str | None = None
  first: int = 0
  last: int = 0

  @property
  def placed(self) -> bool:
    """Whether a side or a zone is known."""
    return bool(self.sides or self.zones)

  def used(self, start: int, end: int) -> None:
    """Widens the evidence."""
    self.first, self.last = min(self.first, start), max(self.last, end)


@dataclasses.dataclass(frozen=True)
class _Frame:
  """A sentence with everything that is looked up in it once."""

  sentence: Sentence
  mentions: Sequence[Mention]
  lexicon: Lexicon
  spans: list[tuple[int, int]]
  marks: list[int]
  links: list[int]
  stops: list[int]

  def owner(self, start: int, end: int) -> int | None:
    """The mention that the words [start, end) belong to."""
    before = [k for k, span in enumerate(self.spans) if span[1] <= start]
    after = [k for k, span in enumerate(self.spans) if span[0] >= end]
    if not before or not after:
      return before[-1] if before else after[0] if after else None
    left, right = before[-1], after[0]
    begin, stop = self.spans[left][1], self.spans[right][0]
    marks = [mark for mark in self.marks if begin <= mark < stop + 1]
    if marks:
      return right if start >= marks[-1] else left
    return left if self.sentence.words[begin] in _PREPOSITIONS else right


def attach(sentence: Sentence, mentions: Sequence[Mention], lexicon: Lexicon,
           earlier: Attributes | None) -> list[Attributes]:
  """The attributes of each mention.

  Args:
    sentence: its words.
    mentions: what it names, in order.
    lexicon: the phrases.
    earlier: of the last finding of the sentence before, whose place "this may be …" takes over.
  """
  frame = _frame(sentence, mentions, lexicon)
  result = [Attributes(first=span[0], last=span[1]) for span in frame.spans]
  _attach_places(frame, result)
  _attach_degrees(frame, result)
  _attach_sizes(frame, result)
  _attach_changes(frame, result)
  own = [attributes.placed for attributes in result]
  for k in range(len(mentions)):
    _share(frame, result, own, k)
  if mentions and earlier and not result[0].placed:
    before = sentence.words[:mentions[0].start]
    explains = bool(before) and before[0] in lexicon.anaphora and any(
        link < mentions[0].start for link in frame.links)
    if explains or lexicon.companions.intersection(before):
      result[0].sides, result[0].zones = earlier.sides, earlier.zones
      for k in range(1, len(mentions)):
        _share(frame, result, own, k)
  return result


def _frame(sentence: Sentence, mentions: Sequence[Mention], lexicon: Lexicon) -> _Frame:
  """Looks up what divides the sentence."""
  words = sentence.words
  breaks = _breaks(sentence)
  spans = [(min(m.start, m.part[0] if m.part else m.start),
            max(m.end, m.part[1] if m.part else m.end)) for m in mentions]
  stops = [hit.start for hit in lexicon.stops.find(words, breaks)]
  links = [hit.start for hit in lexicon.links.find(words, breaks)]
  marks = {i for i, broken in enumerate(breaks) if broken and i}
  marks.update(i for i, gap in enumerate(sentence.gaps) if "/" in gap)
  marks.update(hit.start for hit in lexicon.joins.find(words, breaks))
  return _Frame(sentence, mentions, lexicon, spans, sorted(marks | {*stops, *links}), links, stops)


def _breaks(sentence: Sentence) -> list[bool]:
  return [any(mark in gap for mark in ",;:()") for gap in sentence.gaps]


def _attach_places(frame: _Frame, result: list[Attributes]) -> None:
  """Sides and zones, those before the noun first."""
  hits = [hit for hit in frame.lexicon.regions.find(frame.sentence.words, _breaks(frame.sentence))
          if hit.value]
  for k, span in enumerate(frame.spans):
    mine = [hit for hit in hits if frame.owner(hit.start, hit.end) == k
            and not any(s[0] <= hit.start and hit.end <= s[1] for s in frame.spans)]
    inside = [hit for hit in hits if hit.start >= span[0] and hit.end <= span[1]]
    before = [hit for hit in mine if hit.end <= span[0]]
    after = [hit for hit in mine if hit.start >= span[1]]
    for group in (inside, _chunk(frame, before[::-1], k), _chunk(frame, after, k)):
      sides = frozenset(s for hit in group for s in _sides(hit.value[0]))
      zones = frozenset(hit.value[1] for hit in group if hit.value[1])
      if (sides and not result[k].sides) or (zones and not result[k].zones):
        for hit in group:
          result[k].used(hit.start, hit.end)
      result[k].sides = result[k].sides or sides
      result[k].zones = result[k].zones or zones


def _sides(side: str) -> tuple[str, ...]:
  return ("left", "right") if side == "bilateral" else (side,) if side else ()


def _chunk(frame: _Frame, hits: list[Hit], k: int) -> list[Hit]:
  """Of the places on one side of a mention, nearest first, those not in a clause of their own."""
  kept, said = [], set()
  for hit in hits:
    span = frame.spans[k]
    low, high = (hit.end, span[0]) if hit.end <= span[0] else (span[1], hit.start)
    between = range(low, high)
    if any(frame.sentence.words[i] in _WELL for i in between) or any(
        low <= stop < high for stop in frame.stops):
      break
    commas = [i for i in range(low, high + 1) if "," in frame.sentence.gaps[i] and i > low - 1]
    if hit.start >= span[1] and commas and _is_clause(frame, commas[0], k):
      break
    if hit.end <= span[0] and commas:
      # Behind a comma a place only fills in what is still open: "on the left, in the upper zone".
      what = {"side"} if hit.value[0] else set()
      what |= {"zone"} if hit.value[1] else set()
      if what & said and not _only_list(frame, low, high):
        continue
    said |= ({"side"} if hit.value[0] else set()) | ({"zone"} if hit.value[1] else set())
    kept.append(hit)
  return kept


def _only_list(frame: _Frame, low: int, high: int) -> bool:
  """Whether the words [low, high) only list places: "left upper, left lower and right"."""
  places = {i for hit in frame.lexicon.regions.find(frame.sentence.words, _breaks(frame.sentence))
            for i in range(hit.start, hit.end)}
  return all(i in places or frame.sentence.words[i] in ("and", "or", "lobe", "lung", "lobes", "zone")
             for i in range(low, high))


def _is_clause(frame: _Frame, start: int, k: int) -> bool:
  """Whether the words from a comma to the next mention have a verb or say that all is well."""
  end = frame.spans[k + 1][0] if k + 1 < len(frame.spans) else len(frame.sentence.words)
  words = frame.sentence.words[start:end]
  return bool((frame.lexicon.verbs - {"seen"}).intersection(words) or _WELL.intersection(words))


def _attach_degrees(frame: _Frame, result: list[Attributes]) -> None:
  """Severity words: adjectives close before the noun, or what follows its verb or comma."""
  words, gaps = frame.sentence.words, frame.sentence.gaps
  changes = {i for hit in frame.lexicon.changes.find(words, _breaks(frame.sentence))
             for i in range(hit.start, hit.end)}
  for hit in frame.lexicon.severities.find(words, _breaks(frame.sentence)):
    k = frame.owner(hit.start, hit.end)
    if hit.value is None or hit.start in changes:  # "Not significantly changed."
      continue
    # Between a part and its property: "the heart is mildly enlarged", "borderline heart size".
    k = next((m for m, mention in enumerate(frame.mentions) if mention.part
              and frame.spans[m][0] <= hit.start and hit.end <= frame.spans[m][1]
              and not (mention.start <= hit.start < mention.end and words[hit.start] != "borderline"
                       )), k)
    if k is None or result[k].severity is not None:
      continue
    mention, (start, end) = frame.mentions[k], frame.spans[k]
    if hit.end <= start:
      between = range(hit.end, start)
      fits = len(between) <= _MAX_DEGREE_WORDS and not frame.lexicon.verbs.intersection(
          words[i] for i in between)
    elif hit.start >= end:
      between = range(end, hit.start)
      fits = len(between) <= _MAX_DEGREE_WORDS + 3 and (
          bool(frame.lexicon.verbs.intersection(words[i] for i in between))
          or "," in gaps[hit.start] or "(" in gaps[hit.start]
          or not between) and not _WELL.intersection(words[i] for i in between)
    else:
      fits = not (mention.start <= hit.start < mention.end) or words[hit.start] == "borderline"
    if fits:
      result[k].severity = hit.value
      result[k].used(hit.start, hit.end)


def _attach_sizes(frame: _Frame, result: list[Attributes]) -> None:
  """Lengths: "8 mm", "5.8 x 6 cm", "3-4 mm"; the largest counts."""
  words = frame.sentence.words
  for i, word in enumerate(words):
    if word not in _UNITS or not i or not words[i - 1][0].isdigit():
      continue
    if i + 1 < len(words) and words[i + 1] in _DISTANCE:
      continue
    j = i - 1
    while j >= 2 and words[j - 1] in ("x", "by", "to", *_UNITS) and words[j - 2][0].isdigit():
      j -= 2
    while j >= 1 and words[j - 1][0].isdigit() and frame.sentence.gaps[j] in ("-", "–"):
      j -= 1
    size = max(float(w) for w in words[j:i] if w[0].isdigit()) * _UNITS[word]
    k = frame.owner(j, i + 1)
    if k is None or not 0 < size <= 1000:
      continue
    if get_ontology().findings[frame.mentions[k].name].scale == "size":
      result[k].size_mm = max(size, result[k].size_mm or 0.0)
      result[k].used(j, i + 1)


def _attach_changes(frame: _Frame, result: list[Attributes]) -> None:
  """Change since an earlier image."""
  words = frame.sentence.words
  for hit in frame.lexicon.changes.find(words, _breaks(frame.sentence)):
    k = frame.owner(hit.start, hit.end)
    inside = [m for m, span in enumerate(frame.spans) if span[0] <= hit.start < span[1]]
    k = inside[0] if inside else k
    if k is None:
      continue
    mention, (start, end) = frame.mentions[k], frame.spans[k]
    if mention.start <= hit.start < mention.end:
      continue
    if hit.end <= start and hit.value.value in ("increased", "decreased"):
      if mention.name in frame.lexicon.descriptive_change and "interval" not in words[:hit.end]:
        continue
    between = range(hit.end, start) if hit.end <= start else range(end, hit.start)
    if any(i in frame.stops for i in between) or _WELL.intersection(words[i] for i in between):
      continue
    if result[k].change is None:
      result[k].change = hit.value.value
      result[k].used(hit.start, hit.end)


def _share(frame: _Frame, result: list[Attributes], own: list[bool], k: int) -> None:
  """Gives a mention without place that of its neighbour in a list or an explanation."""
  if result[k].placed:
    return
  mine = frame.spans[k]
  name = frame.mentions[k].name
  if k:
    theirs = frame.spans[k - 1]
    linked = (any(theirs[1] <= link < mine[0] for link in frame.links)
              or _apposed(frame, k) or frame.lexicon.companions.intersection(
                  frame.sentence.words[theirs[1]:mine[0]]))
    if result[k - 1].placed and (linked or (_listed(frame, theirs[1], mine[0])
                                            and name not in frame.lexicon.not_shared)):
      result[k].sides, result[k].zones = result[k - 1].sides, result[k - 1].zones
      return
  if k + 1 < len(result) and own[k + 1] and name not in frame.lexicon.not_shared:
    other = frame.spans[k + 1]
    # "Atelectasis and effusion on the left": the place follows both.
    follows = result[k + 1].last > other[1] and result[k + 1].first >= other[0]
    linked = any(mine[1] <= link < other[0] for link in frame.links)
    if follows and (linked or _listed(frame, mine[1], other[0])):
      result[k].sides, result[k].zones = result[k + 1].sides, result[k + 1].zones


def _apposed(frame: _Frame, k: int) -> bool:
  """"Opacity in the left base, atelectasis": the second noun, behind a comma, names the first."""
  if frame.mentions[k - 1].name not in frame.lexicon.described:
    return False
  start, end = frame.spans[k - 1][1], frame.spans[k][0]
  commas = [i for i in range(start, end + 1) if "," in frame.sentence.gaps[i]]
  return (len(commas) == 1 and end - commas[0] <= 2
          and not frame.lexicon.verbs.intersection(frame.sentence.words[start:end]))


def _listed(frame: _Frame, start: int, end: int) -> bool:
  """Whether [start, end) is "and", "or" or a slash with an adjective or two at the most."""
  words = frame.sentence.words[start:end]
  if any("," in gap for gap in frame.sentence.gaps[start:end + 1]) or _DENIALS.intersection(words):
    return False
  slash = any("/" in gap for gap in frame.sentence.gaps[start:end + 1])
  return (len(words) <= 4 and not frame.lexicon.verbs.intersection(words)
          and (slash or bool({"and", "or"} & set(words[:2]))))
