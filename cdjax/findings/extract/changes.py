"""Which change since an earlier image belongs to which mention of a sentence."""

from collections.abc import Sequence

from cdjax.findings.extract.frame import Attributes, Frame
from cdjax.findings.extract.lexicon import Lexicon
from cdjax.findings.extract.mentions import WELL, Mention
from cdjax.findings.extract.phrases import Hit
from cdjax.findings.extract.sentences import Sentence

_LIST_WORDS = frozenset(("and", "or", "nor"))
_DENIALS = frozenset(("no", "not", "without"))
# Their subject is all of a list: "the effusion and the atelectasis are unchanged".
_PLURALS = frozenset(("are", "have", "were", "remain", "appear", "look"))
_MAX_LIST_WORDS = 6
# "Increased markings" may be compared with what is normal, these only with an earlier image.
_COMPARING = ("improv", "worsen", "progress", "clear", "resolv")


def neither_changed(sentence: Sentence, lexicon: Lexicon) -> tuple[int, int, int] | None:
  """Where it says "neither A nor B has changed", "neither of the … has grown".

  That denies the change, not A or B.

  Returns:
    The words (start, verb, end): the clause is [start, end), "has changed" is [verb, end).
  """
  words = sentence.words
  if "neither" not in words:
    return None
  start = words.index("neither")
  breaks = [bool(set(",;:()") & set(gap)) for gap in sentence.gaps]
  for hit in lexicon.verdicts.find(words, breaks):
    before = words[start:hit.start]
    if ("nor" in before or "of" in before[:2]) and not lexicon.verbs.intersection(before):
      return start, hit.start, hit.end
  return None


def attach_changes(frame: Frame, result: list[Attributes]) -> None:
  """Changes where they are said, then along the lists that they are said of."""
  denied = neither_changed(frame.sentence, frame.lexicon)
  clause = range(denied[0], denied[2]) if denied else range(0)
  for k, span in enumerate(frame.spans):
    if span[0] in clause:
      result[k].change = "stable"
      result[k].used(clause.start, clause.stop)
  for hit in frame.lexicon.changes.find(frame.sentence.words, frame.breaks):
    if hit.value.kind == "pass" or hit.start in clause:
      continue
    k = _owner(frame, hit)
    if k is not None and result[k].change is None:
      result[k].change = hit.value.value
      result[k].used(hit.start, hit.end)
      _share(frame, result, hit, k)


def _owner(frame: Frame, hit: Hit) -> int | None:
  """The mention that a change is said of."""
  words = frame.sentence.words
  inside = [m for m, span in enumerate(frame.spans) if span[0] <= hit.start < span[1]]
  k = inside[0] if inside else frame.owner(hit.start, hit.end)
  if k is None:
    return None
  mention, (start, end) = frame.mentions[k], frame.spans[k]
  if mention.start <= hit.start < mention.end:
    return None
  compares = ("interval" in words[:hit.end] or words[hit.end - 1] in ("in", "of")
              or words[hit.start].startswith(_COMPARING))
  if (hit.end <= start and not compares and describes(mention, hit.value.value, frame.lexicon)):
    return None
  between = range(hit.end, start) if hit.end <= start else range(end, hit.start)
  # "Markings are increased, which may be edema"; "enlarged but stable" is one statement.
  parted = hit.end <= start and any("," in frame.sentence.gaps[i]
                                    for i in range(hit.end, start + 1))
  stopped = any(stop in between and stop + 1 != hit.start for stop in frame.stops)
  if parted or stopped or WELL.intersection(words[i] for i in between):
    return None
  return k


def describes(mention: Mention, change: str, lexicon: Lexicon) -> bool:
  """"Increased markings" compares with what is normal, not with an earlier image."""
  return change in ("increased", "decreased") and mention.name in lexicon.descriptive_change


def _share(frame: Frame, result: list[Attributes], hit: Hit, k: int) -> None:
  """Gives the change to the rest of its list: "no change in A or B", "A and B are unchanged"."""
  words = frame.sentence.words
  start, end = frame.spans[k]
  explained = any(hit.end <= link < start for link in frame.links)
  if hit.end <= start and not explained and {"in", "of"} & set(words[hit.end - 1:start]):
    for m in range(k + 1, len(result)):
      if (result[m].change or _own_change(frame, m) or not _listed(frame, m)
          or describes(frame.mentions[m], hit.value.value, frame.lexicon)):
        return
      result[m].change = hit.value.value
  elif hit.start >= end and _PLURALS & set(words[end:hit.end]):
    for m in range(k, 0, -1):
      if result[m - 1].change or not _listed(frame, m):
        return
      result[m - 1].change = hit.value.value


def _own_change(frame: Frame, m: int) -> bool:
  """Whether a change stands between the mention and the one before it: "or new consolidation"."""
  low, high = frame.spans[m - 1][1], frame.spans[m][0]
  return any(low <= hit.start < high for hit in
             frame.lexicon.changes.find(frame.sentence.words, frame.breaks))


def _listed(frame: Frame, m: int) -> bool:
  """Whether a mention and the one before it stand in one list."""
  low, high = frame.spans[m - 1][1], frame.spans[m][0]
  words: Sequence[str] = frame.sentence.words[low:high]
  commas = any("," in gap for gap in frame.sentence.gaps[low:high + 1])
  # A comma alone goes on only where the list comes to its last word.
  joined = _LIST_WORDS & set(words) or (
      commas and _LIST_WORDS & set(frame.sentence.words[high:high + _MAX_LIST_WORDS]))
  return bool(joined and len(words) <= _MAX_LIST_WORDS and not _DENIALS.intersection(words)
              and not frame.lexicon.verbs.intersection(words)
              and not any(low <= mark < high for mark in (*frame.stops, *frame.links)))
