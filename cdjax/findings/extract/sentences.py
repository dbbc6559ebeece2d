"""A section of a report to sentences of words with their places."""

import dataclasses
import re

# Marks that stand for what was removed to protect the patient.
_REMOVED = re.compile(r"x{3,}|_{2,}|\[\*\*.{0,80}?\*\*\]", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]+|\d+(?:\.\d+)?")
# A full stop inside "1.2 cm" ends nothing, nor that of "vs."; "disease.No effusion" has one that
# does. A line ends a sentence where the next one is empty, a list item or a title.
_END = re.compile(r"(?<!\b[Vv][Ss])[.?!](?=\s|$|[A-Z])|;|\n(?=[ \t]*(?:\n|[-*•]|\d+[.)]\s))")
# Nobody speaks so long without a full stop; text that does is cut, so that time stays linear.
_MAX_WORDS = 150


@dataclasses.dataclass(frozen=True)
class Sentence:
  """The words of one sentence.

  Attributes:
    words: lower case; removed identifiers are left out.
    spans: characters [start, end) of each word in the report.
    gaps: the punctuation before each word, without spaces: "", ",", "/", "(".
    end: the mark the sentence ends with, "" at the end of a section.
  """

  words: tuple[str, ...]
  spans: tuple[tuple[int, int], ...]
  gaps: tuple[str, ...]
  end: str


def read_sentences(text: str, start: int, end: int) -> list[Sentence]:
  """Sentences of the characters [start, end)."""
  # The same length, so that places stay.
  plain = _REMOVED.sub(lambda m: " " * len(m[0]), text[start:end])
  cuts = [*((m.start(), m.end(), m[0].strip()) for m in _END.finditer(plain)),
          (len(plain), len(plain), "")]
  sentences, begin = [], 0
  for stop, after, mark in cuts:
    sentences += _cut(_read_words(plain, begin, stop, start, mark))
    begin = after
  return sentences


def _cut(sentence: Sentence) -> list[Sentence]:
  """The sentence in pieces of at most `_MAX_WORDS`; none for no words."""
  pieces = [slice(i, i + _MAX_WORDS) for i in range(0, len(sentence.words), _MAX_WORDS)]
  return [Sentence(sentence.words[p], sentence.spans[p], sentence.gaps[p], sentence.end)
          for p in pieces]


def _read_words(plain: str, begin: int, stop: int, offset: int, mark: str) -> Sentence:
  """The words of `plain[begin:stop]`, whose first character is the report's `offset`."""
  words, spans, gaps, last = [], [], [], begin
  for match in _WORD.finditer(plain[begin:stop]):
    words.append(match[0].lower())
    spans.append((offset + begin + match.start(), offset + begin + match.end()))
    gaps.append("".join(plain[last:begin + match.start()].split()))
    last = begin + match.end()
  return Sentence(tuple(words), tuple(spans), tuple(gaps), mark)
