"""A section of a report to sentences of words with their places."""

import dataclasses
import re
from collections.abc import Collection

# Marks that stand for what was removed to protect the patient.
_REMOVED = re.compile(r"x{3,}|_{2,}|\[\*\*.{0,80}?\*\*\]", re.IGNORECASE)
# "Cannot" however it is written, a contraction, a sign in brackets, "1,2 cm", a word, a number.
_WORD = re.compile(r"can(?:[ \t]+not|['’]t)\b|[a-z]+n['’]t\b|\([-–+]\)|\d+,\d+(?=\s*[cm]m\b)"
                   r"|[a-z]+|\d+(?:\.\d+)?", re.IGNORECASE)
_SIGNS = {"(-)": "negative", "(–)": "negative", "(+)": "positive"}
# A full stop inside "1.2 cm" ends nothing, nor that of "vs." and "Lt."; "disease.No effusion" has
# one that does.
_ABBREVIATION = (r"(?<!\b[Vv][Ss])(?<!\b[LR][Tt])(?<!\bDr)(?<!\b[LlRr]t(?=\.\s+[a-z]))"
                 r"(?<!\bapprox)")
# A line ends a sentence where the next one is empty, a list item or a title; others are judged by
# `_ends_line`.
_END = re.compile(_ABBREVIATION + r"[.?!](?=\s|$|[A-Z])|;"
                  r"|\n(?=[ \t\r]*(?:\n|[-*•]|\d+[.)]\s))|\n(?=[ \t]*(?P<next>[A-Z][A-Za-z]*))")
_LAST_WORD = re.compile(r"([A-Za-z]+)[ \t\r]*$")
# Text that is wrapped at a width fills its lines; a line so much shorter than the longest is over.
_SHORT = 0.75
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


def read_sentences(text: str, start: int, end: int, open_words: Collection[str]) -> list[Sentence]:
  """Sentences of the characters [start, end); a line goes on after `open_words`."""
  # The same length, so that places stay.
  plain = _REMOVED.sub(lambda m: " " * len(m[0]), text[start:end])
  width = max(map(len, plain.splitlines()), default=0)
  cuts = [*((m.start(), m.end(), m[0].strip()) for m in _END.finditer(plain)
            if not m["next"] or _ends_line(plain, m, width, open_words)),
          (len(plain), len(plain), "")]
  sentences, begin = [], 0
  for stop, after, mark in cuts:
    sentences += _cut(_read_words(plain, begin, stop, start, mark))
    begin = after
  return sentences


def _ends_line(plain: str, match: re.Match[str], width: int, open_words: Collection[str]) -> bool:
  """Whether a line whose next one starts with a capital ends a sentence without a full stop.

  Args:
    plain: the text.
    match: of the line break, with the `next` word.
    width: characters of the longest line.
    open_words: words that end no sentence.
  """
  line = plain[plain.rfind("\n", 0, match.start()) + 1:match.start()].rstrip()
  last = _LAST_WORD.search(line[-30:])
  if line[-1:] in (",", ":", "/", "-", "(") or (last and last[1].lower() in open_words):
    return False
  # In wrapped text a name ("CT") may begin a line; a sentence begins with a word.
  name = len(match["next"]) > 1 and match["next"].isupper()
  return len(line) < _SHORT * width or not name


def _cut(sentence: Sentence) -> list[Sentence]:
  """The sentence in pieces of at most `_MAX_WORDS`; none for no words."""
  pieces = [slice(i, i + _MAX_WORDS) for i in range(0, len(sentence.words), _MAX_WORDS)]
  return [Sentence(sentence.words[p], sentence.spans[p], sentence.gaps[p], sentence.end)
          for p in pieces]


def _read_words(plain: str, begin: int, stop: int, offset: int, mark: str) -> Sentence:
  """The words of `plain[begin:stop]`, whose first character is the report's `offset`."""
  words, spans, gaps, last = [], [], [], begin
  for match in _WORD.finditer(plain[begin:stop]):
    said = _plain_words(match[0].lower())
    words += said
    # Both words of "isn't" stand at the same place.
    spans += [(offset + begin + match.start(), offset + begin + match.end())] * len(said)
    gaps += ["".join(plain[last:begin + match.start()].split()), ""][:len(said)]
    last = begin + match.end()
  return Sentence(tuple(words), tuple(spans), tuple(gaps), mark)


def _plain_words(word: str) -> tuple[str, ...]:
  """The words that a lexicon has: "isn't" as "is", "not"; "1,2" as "1.2"; "(-)" as "negative"."""
  if word in _SIGNS:
    return (_SIGNS[word],)
  if word[0].isdigit():
    return (word.replace(",", "."),)
  if word.startswith("can") and word != "cannot" and not word.isalpha():
    return ("cannot",)
  return (word[:-3], "not") if word.endswith(("n't", "n’t")) else (word,)
