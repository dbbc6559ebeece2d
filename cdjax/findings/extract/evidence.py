"""Where in a report a quoted piece stands."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def locate(quote: str, report: str, sections: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
  """The characters of a report that a quote is taken from.

  Case and the width of spaces may differ: models write "Small effusion" for "small\\n effusion".
  Nothing else may, and the quote has to begin and end where words do.

  Args:
    quote: as a model gave it.
    report: the whole text.
    sections: the spans [start, end) that may be quoted.

  Returns:
    The first place [start, end), or None where the quote is in none of the sections, or has no word
    of three letters.
  """
  parts = quote.split()
  if not any(len(word) >= 3 for word in _WORD.findall(quote)):
    return None
  pattern = re.compile(r"(?<!\w)" + r"\s+".join(map(re.escape, parts)) + r"(?!\w)", re.IGNORECASE)
  for start, end in sections:
    if match := pattern.search(report, start, end):
      return match.span()
  return None
