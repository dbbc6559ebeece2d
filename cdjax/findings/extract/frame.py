"""A sentence with its mentions and everything that divides it: whose words are whose."""

import dataclasses
from collections.abc import Sequence

from cdjax.findings.extract.lexicon import Lexicon
from cdjax.findings.extract.mentions import Mention
from cdjax.findings.extract.sentences import Sentence

_PREPOSITIONS = frozenset(("in", "at", "within", "of", "over", "overlying", "projecting", "on",
                           "along", "throughout", "involving", "near", "adjacent", "to", "is",
                           "are", "bilaterally", "noted", "seen", "present", "measuring"))


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
    by_side: severities that differ between the sides: "small left and large right effusions".
    explains: it says what the finding before it is, or is listed with one that does.
  """

  sides: frozenset[str] = frozenset()
  zones: frozenset[str] = frozenset()
  severity: float | None = None
  size_mm: float | None = None
  change: str | None = None
  first: int = 0
  last: int = 0
  explains: bool = False
  by_side: dict[str, float] = dataclasses.field(default_factory=dict)

  @property
  def placed(self) -> bool:
    """Whether a side or a zone is known."""
    return bool(self.sides or self.zones)

  def used(self, start: int, end: int) -> None:
    """Widens the evidence."""
    self.first, self.last = min(self.first, start), max(self.last, end)


@dataclasses.dataclass(frozen=True)
class Frame:
  """A sentence with everything that is looked up in it once.

  Attributes:
    sentence, mentions, lexicon: what is divided.
    spans: the words [start, end) of each mention, with the part of a pair.
    breaks: whether a comma or a bracket stands before each word.
    marks: words at which what belongs to one mention ends: commas, "and", "with", explanations.
    links: words at which an explanation begins: "may represent".
    stops: words at which a new statement begins: "but".
  """

  sentence: Sentence
  mentions: Sequence[Mention]
  lexicon: Lexicon
  spans: list[tuple[int, int]]
  breaks: list[bool]
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


def make_frame(sentence: Sentence, mentions: Sequence[Mention], lexicon: Lexicon) -> Frame:
  """Looks up what divides the sentence."""
  words = sentence.words
  breaks = [any(mark in gap for mark in ",;:()") for gap in sentence.gaps]
  spans = [(min(m.start, m.part[0] if m.part else m.start),
            max(m.end, m.part[1] if m.part else m.end)) for m in mentions]
  stops = [hit.start for hit in lexicon.stops.find(words, breaks)]
  links = [hit.start for hit in lexicon.links.find(words, breaks)]
  marks = {i for i, broken in enumerate(breaks) if broken and i}
  marks.update(i for i, gap in enumerate(sentence.gaps) if "/" in gap)
  marks.update(hit.start for hit in lexicon.joins.find(words, breaks))
  return Frame(sentence, mentions, lexicon, spans, breaks, sorted(marks | {*stops, *links}), links,
               stops)
