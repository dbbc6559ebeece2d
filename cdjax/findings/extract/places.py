"""Which side and zone belong to which mention, and which mentions share a place.

"Right effusion and left atelectasis", "atelectasis in the left base, right effusion": a place
belongs to the noun it stands with; what stands before a noun comes first, what follows it fills in.
A list shares its place ("left basilar atelectasis or pneumonia"), and so does an explanation
("opacity in the left base, likely pneumonia").
"""

from cdjax.core.types import SIDES
from cdjax.findings.extract.frame import Attributes, Frame
from cdjax.findings.extract.mentions import WELL
from cdjax.findings.extract.phrases import Hit

_DENIALS = frozenset(("no", "not", "without"))
_LIST_WORDS = frozenset(("and", "or", "in", "of", "the", "lobe", "lobes", "lung", "lungs", "zone",
                         "zones", "sided", "st", "nd", "rd", "th"))


def attach_places(frame: Frame, result: list[Attributes]) -> None:
  """Sides and zones, those before the noun first."""
  hits = [hit for hit in frame.lexicon.regions.find(frame.sentence.words, frame.breaks)
          if hit.value]
  for k, span in enumerate(frame.spans):
    mine = [hit for hit in hits if frame.owner(hit.start, hit.end) == k
            and not any(s[0] <= hit.start and hit.end <= s[1] for s in frame.spans)]
    inside = [hit for hit in hits if hit.start >= span[0] and hit.end <= span[1]]
    before = [hit for hit in mine if hit.end <= span[0]]
    after = [hit for hit in mine if hit.start >= span[1]]
    plural = False
    for group in (inside, _chunk(frame, before[::-1], k), _chunk(frame, after, k)):
      sides = frozenset(s for hit in group for s in _sides(hit.value[0]))
      zones = frozenset(hit.value[1] for hit in group if hit.value[1])
      if (sides and not result[k].sides) or (zones and not result[k].zones):
        for hit in group:
          result[k].used(hit.start, hit.end)
      result[k].sides = result[k].sides or sides
      result[k].zones = result[k].zones or zones
      # "Lower lobes" are both, unless a side is named: "right middle and lower lobes".
      plural = plural or any(hit.value[0] == "plural" for hit in group)
    if plural and not result[k].sides:
      result[k].sides = frozenset(SIDES)


def _sides(side: str) -> tuple[str, ...]:
  return SIDES if side == "bilateral" else (side,) if side in SIDES else ()


def _chunk(frame: Frame, hits: list[Hit], k: int) -> list[Hit]:
  """Of the places on one side of a mention, nearest first, those not in a clause of their own."""
  kept: list[Hit] = []
  for hit in hits:
    span = frame.spans[k]
    low, high = (hit.end, span[0]) if hit.end <= span[0] else (span[1], hit.start)
    between = range(low, high)
    if any(frame.sentence.words[i] in WELL for i in between) or any(
        low <= stop < high for stop in frame.stops):
      break
    commas = [i for i in range(low, high + 1) if "," in frame.sentence.gaps[i] and i > low - 1]
    if hit.start >= span[1] and commas and _is_clause(frame, commas[0], k):
      break
    if hit.end <= span[0] and kept and not _only_list(frame, low, kept[-1].start):
      # A place further off only fills in what is still open: "on the left, in the upper zone"; that
      # of another noun stays there: "volume loss on the left with a right effusion".
      side, zone = hit.value
      hit = Hit(hit.start, hit.end, ("" if any(_sides(near.value[0]) for near in kept) else side,
                                     "" if any(near.value[1] for near in kept) else zone))
    kept.append(hit)
  return kept


def _only_list(frame: Frame, low: int, high: int) -> bool:
  """Whether the words [low, high) only list places: "left upper, left lower and right".

  Numbers, degrees and changes may stand there: "right 5th and small left", "increase in right and
  decrease in left".
  """
  words, lexicon = frame.sentence.words, frame.lexicon
  known = {i for trie in (lexicon.regions, lexicon.severities, lexicon.changes)
           for hit in trie.find(words[low:high], frame.breaks[low:high])
           for i in range(low + hit.start, low + hit.end)}
  return all(i in known or words[i] in _LIST_WORDS or words[i].isdigit() for i in range(low, high))


def _is_clause(frame: Frame, start: int, k: int) -> bool:
  """Whether the words from a comma to the next mention have a verb or say that all is well.

  A second comma ends them: "opacities, right more than left, have worsened".
  """
  end = frame.spans[k + 1][0] if k + 1 < len(frame.spans) else len(frame.sentence.words)
  end = next((i for i in range(start + 1, end) if "," in frame.sentence.gaps[i]), end)
  words = frame.sentence.words[start:end]
  return bool((frame.lexicon.verbs - {"seen"}).intersection(words) or WELL.intersection(words))


def share(frame: Frame, result: list[Attributes], own: list[bool], k: int) -> None:
  """Gives a mention without place that of its neighbour in a list or an explanation."""
  if result[k].placed:
    return
  mine = frame.spans[k]
  name = frame.mentions[k].name
  if k:
    theirs = frame.spans[k - 1]
    linked = (any(theirs[1] <= link < mine[0] for link in frame.links)
              or _apposed(frame, k) or _compound(frame, theirs[1], mine[0])
              or frame.lexicon.companions.intersection(frame.sentence.words[theirs[1]:mine[0]]))
    listed = _listed(frame, theirs[1], mine[0])
    # Of explanations in a list each is where the first is: "opacities, likely pneumonia or edema",
    # "representing pneumonia, edema or both".
    listed = listed or (theirs[1] == mine[0] and frame.sentence.gaps[mine[0]] == ","
                        and any(link < theirs[0] for link in frame.links))
    result[k].explains = linked or (listed and result[k - 1].explains)
    if result[k - 1].placed and (result[k].explains
                                 or (listed and name not in frame.lexicon.not_shared)):
      result[k].sides, result[k].zones = result[k - 1].sides, result[k - 1].zones
      return
  if k + 1 < len(result) and own[k + 1] and name not in frame.lexicon.not_shared:
    other = frame.spans[k + 1]
    # "Atelectasis and effusion on the left": the place follows both.
    follows = result[k + 1].last > other[1] and result[k + 1].first >= other[0]
    linked = (any(mine[1] <= link < other[0] for link in frame.links)
              or _compound(frame, mine[1], other[0]))
    if follows and (linked or _listed(frame, mine[1], other[0])):
      result[k].sides, result[k].zones = result[k + 1].sides, result[k + 1].zones


def _apposed(frame: Frame, k: int) -> bool:
  """"Opacity in the left base, atelectasis": the second noun, behind a comma, names the first."""
  if frame.mentions[k - 1].name not in frame.lexicon.described:
    return False
  start, end = frame.spans[k - 1][1], frame.spans[k][0]
  commas = [i for i in range(start, end + 1) if "," in frame.sentence.gaps[i]]
  return (len(commas) == 1 and end - commas[0] <= 2
          and not frame.lexicon.verbs.intersection(frame.sentence.words[start:end]))


def _compound(frame: Frame, start: int, end: int) -> bool:
  """"Fibronodular scarring", "fibrotic appearing opacity": nothing but a word parts two nouns."""
  return (end - start <= 1 and not any(start <= mark <= end for mark in frame.marks)
          and not _DENIALS.intersection(frame.sentence.words[start:end]))


def _listed(frame: Frame, start: int, end: int) -> bool:
  """Whether [start, end) is "and", "or", "with" or a slash, with a few adjectives."""
  words = frame.sentence.words[start:end]
  if any("," in gap for gap in frame.sentence.gaps[start:end + 1]) or _DENIALS.intersection(words):
    return False
  slash = any("/" in gap for gap in frame.sentence.gaps[start:end + 1])
  return (len(words) <= 4 and not frame.lexicon.verbs.intersection(words)
          and (slash or bool({"and", "or", "with"} & set(words[:2]))))
