"""Which place, severity, size and change belong to which mention of a sentence."""

from collections.abc import Sequence

from cdjax.core.types import SIDES
from cdjax.findings.extract.changes import attach_changes, neither_changed
from cdjax.findings.extract.frame import Attributes, Frame, make_frame
from cdjax.findings.extract.lexicon import Lexicon
from cdjax.findings.extract.mentions import Mention
from cdjax.findings.extract.places import WELL, attach_places, share
from cdjax.findings.extract.sentences import Sentence
from cdjax.findings.ontology import get_ontology

_UNITS = {"mm": 1.0, "cm": 10.0}
# "3 cm above the carina" is no size.
_DISTANCE = frozenset(("above", "below", "from", "proximal", "distal", "superior"))
_MAX_DEGREE_WORDS = 6


def attach(sentence: Sentence, mentions: Sequence[Mention], lexicon: Lexicon,
           earlier: Attributes | None) -> list[Attributes]:
  """The attributes of each mention.

  Args:
    sentence: its words.
    mentions: what it names, in order.
    lexicon: the phrases.
    earlier: of the last finding of the sentence before, whose place "this may be …" takes over.
  """
  frame = make_frame(sentence, mentions, lexicon)
  result = [Attributes(first=span[0], last=span[1]) for span in frame.spans]
  attach_places(frame, result)
  _attach_degrees(frame, result)
  _attach_sizes(frame, result)
  attach_changes(frame, result)
  own = [attributes.placed for attributes in result]
  for k in range(1, len(mentions)):
    _share_degree(frame, result, k)
  for k in range(len(mentions)):
    share(frame, result, own, k)
  if mentions and earlier and not result[0].placed:
    before = sentence.words[:mentions[0].start]
    explains = bool(lexicon.anaphora.intersection(before[:2])) and any(
        link < mentions[0].start for link in frame.links)
    if explains or lexicon.companions.intersection(before):
      result[0].sides, result[0].zones = earlier.sides, earlier.zones
      for k in range(1, len(mentions)):
        share(frame, result, own, k)
  return result


def _attach_degrees(frame: Frame, result: list[Attributes]) -> None:
  """Severity words: adjectives close before the noun, or what follows its verb or comma."""
  words, gaps = frame.sentence.words, frame.sentence.gaps
  changes = {i for hit in frame.lexicon.changes.find(words, frame.breaks)
             for i in range(hit.start, hit.end)}
  if denied := neither_changed(frame.sentence, frame.lexicon):
    changes.update(range(*denied[1:]))
  sides = {hit.start: hit.value[0] for hit in frame.lexicon.regions.find(words, frame.breaks)
           if hit.value and hit.value[0] in SIDES}
  for hit in frame.lexicon.severities.find(words, frame.breaks):
    k = frame.owner(hit.start, hit.end)
    if hit.value is None or hit.start in changes:  # "Not significantly changed."
      continue
    # Between a part and its property: "the heart is mildly enlarged", "borderline heart size".
    k = next((m for m, mention in enumerate(frame.mentions) if mention.part
              and frame.spans[m][0] <= hit.start and hit.end <= frame.spans[m][1]
              and (words[hit.start] == "borderline"
                   or not mention.start <= hit.start < mention.end)), k)
    if k is None:
      continue
    if hit.value is not None and hit.end in sides and hit.end <= frame.spans[k][0]:
      result[k].by_side[sides[hit.end]] = hit.value
    if result[k].severity is not None:
      continue
    mention, (start, end) = frame.mentions[k], frame.spans[k]
    if hit.end <= start:
      between = range(hit.end, start)
      fits = len(between) <= _MAX_DEGREE_WORDS and not frame.lexicon.verbs.intersection(
          words[i] for i in between)
    elif hit.start >= end:
      between = range(end, hit.start)
      fits = len(between) <= _MAX_DEGREE_WORDS + 2 and (
          bool(frame.lexicon.verbs.intersection(words[i] for i in between))
          or "," in gaps[hit.start] or "(" in gaps[hit.start]
          or not between) and not WELL.intersection(words[i] for i in between)
    else:
      fits = not (mention.start <= hit.start < mention.end) or words[hit.start] == "borderline"
    if fits:
      result[k].severity = hit.value
      result[k].used(hit.start, hit.end)


def _share_degree(frame: Frame, result: list[Attributes], k: int) -> None:
  """"Minimal atelectasis or scarring": the adjective is that of both, if it can be."""
  first, second = frame.spans[k - 1], frame.spans[k]
  between = frame.sentence.words[first[1]:second[0]]
  gap = "".join(frame.sentence.gaps[first[1]:second[0] + 1])
  known = get_ontology().findings
  scales = {known[frame.mentions[m].name].scale for m in (k - 1, k)}
  if (result[k].severity is None and len(scales) == 1 and "," not in gap
      and (between in (("or",), ("and", "or")) or (not between and gap == "/"))):
    result[k].severity = result[k - 1].severity


def _attach_sizes(frame: Frame, result: list[Attributes]) -> None:
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
