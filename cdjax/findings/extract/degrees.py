"""Which severity and which size belong to which mention of a sentence, now and not before.

"Slightly improved": an adverb of a change is no severity of the finding. "Previously large, now
small": what it was gives way to what it is. "Large on the right and small on the left": each side
has its own.
"""

from collections.abc import Sequence

from cdjax.core.types import SIDES
from cdjax.findings.extract.changes import describes, neither_changed
from cdjax.findings.extract.frame import Attributes, Frame
from cdjax.findings.extract.mentions import WELL
from cdjax.findings.extract.phrases import Hit
from cdjax.findings.ontology import get_ontology

_UNITS = {"mm": 1.0, "cm": 10.0}
# "3 cm above the carina" is no size.
_DISTANCE = frozenset(("above", "below", "from", "proximal", "distal", "superior"))
_MAX_DEGREE_WORDS = 6
_NOW = frozenset(("now", "currently", "presently", "today", "become", "became"))
_THEN = frozenset(("previously", "formerly", "earlier", "before", "initially", "originally",
                   "compared"))
_TOWARDS = frozenset(("up", "down", "increased", "decreased", "grown"))
_PAST = frozenset(("was", "were"))  # Some write of today in the past tense, too.
_FILLERS = frozenset(("is", "are", "measures", "measured", "measuring", "at", "about", "it", "to",
                      "approximately", "a", "of", "only", "with"))
_ENDS = frozenset(("and", "but", "or", "with", "without", "while", "side"))
_PLACES = frozenset(("base", "apex", "lung", "upper", "mid", "lower", "hemithorax"))
_COMPARATIVES = frozenset(("worse", "better", "more", "less", "greater"))


def attach_degrees(frame: Frame, result: list[Attributes]) -> None:
  """Severity words: adjectives close before the noun, or what follows its verb or comma."""
  words = frame.sentence.words
  changes = frame.lexicon.changes.find(words, frame.breaks)
  changing = {i for hit in changes for i in range(hit.start, hit.end)}
  if denied := neither_changed(frame.sentence, frame.lexicon):
    changing.update(range(*denied[1:]))
  sides = {hit.start: hit.value[0] for hit in frame.lexicon.regions.find(words, frame.breaks)
           if hit.value and hit.value[0] in SIDES}
  said: list[list[tuple[Hit, str | None, str]]] = [[] for _ in result]
  for hit in frame.lexicon.severities.find(words, frame.breaks):
    if hit.value is None or hit.start in changing:  # "Not significantly changed."
      continue
    k = _of_pair(frame, hit)
    # "Small but increasing effusion": the word behind "but" says whose it is.
    at = hit.end + 1 if words[hit.end:hit.end + 1] == ("but",) else hit.end
    k = frame.owner(hit.start if at == hit.end else at, at) if k is None else k
    if k is None or _of_change(frame, hit, changes, k):
      continue
    side = _side(frame, hit, k, sides)
    if _fits(frame, hit, k) or (side and hit.start >= frame.spans[k][1]):
      said[k].append((hit, side, when(words, frame.sentence.gaps, hit.start, hit.end)))
  for k, degrees in enumerate(said):
    _settle(result[k], degrees)


def _settle(attributes: Attributes, degrees: Sequence[tuple[Hit, str | None, str]]) -> None:
  """Keeps one severity, or one of each side."""
  is_now = any(time == "now" for _, _, time in degrees)
  kept = [(hit, side) for hit, side, time in degrees
          if time == "now" or (not is_now and time != "then")]
  own = next((hit.value for hit, side in kept if not side), None)
  for hit, side in kept:
    if side:
      attributes.by_side.setdefault(side, hit.value)
  if len(attributes.by_side) > 1 or (attributes.by_side and own is not None):
    attributes.sides |= set(attributes.by_side)
  if attributes.by_side and own is not None:
    for side in attributes.sides - set(attributes.by_side):
      attributes.by_side[side] = own
  attributes.severity = next(iter(attributes.by_side.values())) if own is None and (
      attributes.by_side) else own
  if kept:
    attributes.used(kept[0][0].start, kept[0][0].end)
  for hit, side in kept:
    if side and len(attributes.by_side) > 1:
      attributes.used(hit.start, hit.end)


def _of_pair(frame: Frame, hit: Hit) -> int | None:
  """Between a part and its property: "the heart is mildly enlarged", "borderline heart size"."""
  return next((m for m, mention in enumerate(frame.mentions) if mention.part
               and frame.spans[m][0] <= hit.start and hit.end <= frame.spans[m][1]
               and (frame.sentence.words[hit.start] == "borderline"
                    or not mention.start <= hit.start < mention.end)), None)


def _of_change(frame: Frame, hit: Hit, changes: Sequence[Hit], k: int) -> bool:
  """Whether a degree is that of a change: "slightly improved", "mild worsening of"."""
  words = frame.sentence.words
  adverb = words[hit.end - 1].endswith("ly")
  interval = words[hit.end:hit.end + 1] == ("interval",)
  start = hit.end + interval
  if adverb and _COMPARATIVES.intersection(words[start:start + 1]):
    return True
  for change in changes:
    if change.value.value not in ("increased", "decreased") or any(
        mention.start <= change.start < mention.end for mention in frame.mentions):
      continue
    if change.start == start or (change.start == hit.end and words[change.start] == "interval"):
      interval = interval or words[change.start] == "interval"
      if adverb:
        return interval or not describes(frame.mentions[k], change.value.value, frame.lexicon)
      return interval or bool({"in", "of"}.intersection(words[change.end - 1:change.end + 1]))
    if adverb and change.end == hit.start:
      return all(span[0] != hit.end for span in frame.spans)
  return False


def _side(frame: Frame, hit: Hit, k: int, sides: dict[int, str]) -> str | None:
  """The side that a degree is said of: "small left and large right", "large on the right"."""
  words, at = frame.sentence.words, hit.end
  if hit.end <= frame.spans[k][0]:
    return sides.get(at)
  if hit.start < frame.spans[k][1]:
    return None
  placed = words[at:at + 1] in (("on",), ("in",), ("at",))
  at += placed
  at += words[at:at + 1] == ("the",)
  # "Mild right-sided loculation" is of another noun.
  if not placed and hit.start > frame.spans[k][1] and hit.start - 1 in sides and (
      at >= len(words) or frame.breaks[at] or words[at] in _ENDS):
    return sides[hit.start - 1]  # "Right moderate, left small."
  over = (at + 1 >= len(words) or frame.breaks[at + 1] or words[at + 1] in _ENDS
          or (placed and words[at + 1] in _PLACES))
  return sides.get(at) if over else None


def _fits(frame: Frame, hit: Hit, k: int) -> bool:
  """Whether nothing parts a degree from its noun."""
  words, gaps = frame.sentence.words, frame.sentence.gaps
  mention, (start, end) = frame.mentions[k], frame.spans[k]
  if hit.end <= start:
    between = words[hit.end:start]
    return len(between) <= _MAX_DEGREE_WORDS and not frame.lexicon.verbs.intersection(between)
  if hit.start >= end:
    between = words[end:hit.start]
    linked = (not between or bool((frame.lexicon.verbs | _NOW).intersection(between))
              or "," in gaps[hit.start] or "(" in gaps[hit.start])
    return linked and len(between) <= _MAX_DEGREE_WORDS + 2 and not WELL.intersection(between)
  return not (mention.start <= hit.start < mention.end) or words[hit.start] == "borderline"


def when(words: Sequence[str], gaps: Sequence[str], start: int, end: int) -> str:
  """Of which time the words [start, end) speak: "now", "then", "past" (a verb only), or ""."""
  past = ""
  for i in range(start - 1, max(start - 5, -1), -1):
    if words[i] in _NOW:
      return "now"
    if words[i] in _THEN or (words[i] == "from" and (
        "to" in words[end:end + 1] or _TOWARDS.intersection(words[max(i - 1, 0):i]))):
      return "then"
    if words[i] in _PAST:
      past = "past"
    elif words[i] not in _FILLERS:
      break
  # "15 mm previously, 8 mm now".
  last = end + 1 >= len(words) or bool(gaps[end + 1]) or words[end + 1] in ("and", "but")
  if end < len(words) and last and "," not in gaps[end]:
    return "now" if words[end] in _NOW else "then" if words[end] in _THEN else past
  return past


def share_degree(frame: Frame, result: list[Attributes], k: int) -> None:
  """"Minimal atelectasis or scarring": the adjective is that of both, if it can be."""
  first, second = frame.spans[k - 1], frame.spans[k]
  between = frame.sentence.words[first[1]:second[0]]
  gap = "".join(frame.sentence.gaps[first[1]:second[0] + 1])
  known = get_ontology().findings
  scales = {known[frame.mentions[m].name].scale for m in (k - 1, k)}
  if (result[k].severity is None and len(scales) == 1 and "," not in gap
      and (between in (("or",), ("and", "or")) or (not between and gap == "/"))):
    result[k].severity = result[k - 1].severity


def attach_sizes(frame: Frame, result: list[Attributes]) -> None:
  """Lengths: "8 mm", "5.8 x 6 cm", "3-4 mm"; the largest counts."""
  words, gaps = frame.sentence.words, frame.sentence.gaps
  said: list[list[tuple[float, str, tuple[int, int]]]] = [[] for _ in result]
  for i, word in enumerate(words):
    if word not in _UNITS or not i or not words[i - 1][0].isdigit():
      continue
    if i + 1 < len(words) and words[i + 1] in _DISTANCE:
      continue
    j = i - 1
    while j >= 2 and words[j - 1] in ("x", "by", "to", *_UNITS) and words[j - 2][0].isdigit():
      j -= 2
    while j >= 1 and words[j - 1][0].isdigit() and gaps[j] in ("-", "–"):
      j -= 1
    # "From 15 to 8 mm": the last is what it is.
    j = i - 1 if words[j - 1:j] == ("from",) and "to" in words[j:i] else j
    size = max(float(w) for w in words[j:i] if w[0].isdigit()) * _UNITS[word]
    k = frame.owner(j, i + 1)
    if k is not None and 0 < size <= 1000:
      said[k].append((size, when(words, gaps, j, i + 1), (j, i + 1)))
  for k, sizes in enumerate(said):
    is_now = any(time == "now" for _, time, _ in sizes)
    kept = [(size, place) for size, time, place in sizes
            if time == "now" or (not is_now and time != "then")]
    if kept and get_ontology().findings[frame.mentions[k].name].scale == "size":
      result[k].size_mm = max(size for size, _ in kept)
      for _, place in kept:
        result[k].used(*place)
