"""Which place, severity, size and change belong to which mention of a sentence."""

from collections.abc import Sequence

from cdjax.findings.extract.changes import attach_changes
from cdjax.findings.extract.degrees import attach_degrees, attach_sizes, share_degree
from cdjax.findings.extract.frame import Attributes, make_frame
from cdjax.findings.extract.lexicon import Lexicon
from cdjax.findings.extract.mentions import Mention
from cdjax.findings.extract.places import attach_places, share
from cdjax.findings.extract.sentences import Sentence


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
  result = [Attributes(first=span[0] if mention.noun in (None, -1) else mention.noun, last=span[1])
            for mention, span in zip(mentions, frame.spans, strict=True)]
  attach_places(frame, result)
  attach_degrees(frame, result)
  attach_sizes(frame, result)
  attach_changes(frame, result)
  own = [attributes.placed for attributes in result]
  for k in range(1, len(mentions)):
    share_degree(frame, result, k)
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
