"""Which parts of a report state findings; nothing else of it is read, or shown to a model."""

import re
from collections.abc import Iterator

from cdjax.findings.extract.lexicon import Sections

_WORD = re.compile(r"[a-z]+|\d+")
# A title ends in a colon and stands at the start of a line or after a full stop. It may have
# digits, commas and brackets: "CHEST, TWO VIEWS (PA/LAT):".
_TITLE = re.compile(
    r"^[ \t*#]*(?P<first>[A-Za-z][A-Za-z0-9 /&,()#'*+-]{1,60}?)[ \t*]*:(?!\d)"
    r"|(?<=[.?!;])[ \t]*(?P<later>[A-Za-z][A-Za-z0-9 /&,()#'*+-]{1,60}?)[ \t*]*:(?!\d)"
    r"|^[ \t*#]*(?P<bare>[A-Z][A-Z /&]{2,40}?)[ \t*\r]*$", re.MULTILINE)
# Longer rows of words before a colon are a sentence.
_MAX_TITLE_WORDS = 8
_SAID = re.compile(r"\S")
_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n")
# What a title says of the text behind it.
_READ, _PRIVATE, _BRIEF = "read", "private", "brief"


def read_sections(text: str, titles: Sections) -> list[tuple[int, int]]:
  """The spans [start, end) of `text` that state findings.

  Text before the first title is read. A title that is not known ("LUNGS:") starts to be read at the
  start of a line and else belongs to the section around it, but one that speaks of a history or an
  indication is skipped wherever it stands. A section about the image ("COMPARISON: None.") ends at
  an empty line; a history may have several paragraphs.
  """
  spans, start, reading = [], 0, _READ
  for begin, end, kind in (*_titles(text, titles), (len(text), len(text), None)):
    if reading == _BRIEF:
      said = _SAID.search(text, start, begin)
      if said and (over := _EMPTY_LINE.search(text, said.start(), begin)):
        start, reading = over.start(), _READ
    if reading == _READ:
      spans.append((start, begin))
    start, reading = end, kind
  return [span for span in spans if text[slice(*span)].strip()]


def _titles(text: str, titles: Sections) -> Iterator[tuple[int, int, str]]:
  """Where a title changes what is read: [start, end) of what is left out, and what follows."""
  found = []
  for match in _TITLE.finditer(text):
    own_line = match["first"] or match["bare"]
    title = own_line or match["later"]
    kind, known = _kind(title, titles)
    if match["bare"] or not title[0].isupper():
      kind = kind if known or (kind == _PRIVATE and not match["bare"]) else None
    elif kind is None and own_line and len(title.split()) <= _MAX_TITLE_WORDS:
      kind = _READ
    if kind is not None:
      # The words of "LEFT LUNG:" say where its findings are; those of "FINDINGS:" say nothing.
      at = match.start("first") if match["first"] else match.start("later")
      found.append((match.start(), at if kind == _READ and not known else match.end(), kind))
  for match in titles.inside.finditer(text):
    kind, _ = _kind(match[1], titles)
    before = _WORD.findall(text[max(match.start() - 20, 0):match.start()].lower())[-1:]
    # "The chest: Comparison: …" goes on; a new section is written in capitals there.
    if not titles.private_words.intersection(before) and (kind != _BRIEF or match[1].isupper()):
      found.append((match.start(), match.end(), kind))
  end = 0
  for title in sorted(found):
    if title[0] >= end:
      end = title[1]
      yield title


def _kind(title: str, titles: Sections) -> tuple[str | None, bool]:
  """What a title says of its text, or None, and whether it is one of the list."""
  words = _WORD.findall(title.lower())
  row = " ".join(words)
  for kind, rows in ((_READ, titles.read), (_PRIVATE, titles.private), (_BRIEF, titles.brief)):
    if row in rows:
      return kind, True
  for kind, known in ((_PRIVATE, titles.private_words), (_READ, titles.read_words),
                      (_BRIEF, titles.brief_words)):
    if known.intersection(words) and len(words) <= _MAX_TITLE_WORDS:
      return kind, False
  return None, False
