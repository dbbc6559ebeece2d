"""Phrases of several words, found in a row of words; the longest one wins.

A lexicon writes a phrase with alternatives, `{left|right} base{s|}`; `expand` lists what it means.
A `Trie` looks up all of them at once, so the time depends on the text and not on their number.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")

_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_AMERICAN = re.compile(r"iz(?=(?:e[ds]?|ing|ation)\b)")


def expand(phrase: str) -> list[tuple[str, ...]]:
  """The word rows that a phrase stands for.

  Args:
    phrase: words; `{a|b}` is a or b, and an alternative may be empty. Not nested.

  Returns:
    Each as words in lower case, without repetition.
  """
  match = _ALTERNATIVES.search(phrase)
  if not match:
    return [tuple(_WORD.findall(phrase.lower()))]
  texts = (phrase[:match.start()] + choice + phrase[match.end():] for choice in match[1].split("|"))
  return list(dict.fromkeys(row for text in texts for row in expand(text)))


@dataclasses.dataclass(frozen=True)
class Hit(Generic[Value]):
  """A phrase at the words [start, end) and what it means."""

  start: int
  end: int
  value: Value


class Trie(Generic[Value]):
  """Phrases and their values."""

  def __init__(self, phrases: Iterable[tuple[str, Value]]):
    """Takes (phrase, value) pairs; a row of words that occurs twice keeps its last value."""
    self._root: dict = {}
    for phrase, value in phrases:
      # "Visualized" is also "visualised".
      for row in (row for text in dict.fromkeys((phrase, _AMERICAN.sub("is", phrase)))
                  for row in expand(text)):
        node = self._root
        for word in row:
          node = node.setdefault(word, {})
        node[None] = value

  def items(self) -> Iterator[tuple[tuple[str, ...], Value]]:
    """Every row of words and its value."""
    nodes = [((), self._root)]
    while nodes:
      words, node = nodes.pop()
      for word, inner in node.items():
        if word is None:
          yield words, inner
        else:
          nodes.append(((*words, word), inner))

  def find(self, words: Sequence[str], breaks: Sequence[bool]) -> list[Hit[Value]]:
    """The phrases in `words` from left to right, longest first, none overlapping.

    Args:
      words: in lower case.
      breaks: whether a mark that no phrase runs across (a comma, a bracket) stands before a word.
    """
    hits, i = [], 0
    while i < len(words):
      node, j, best = self._root.get(words[i]), i + 1, None
      while node is not None:
        if None in node:
          best = (j, node[None])
        if j == len(words) or breaks[j]:
          break
        node, j = node.get(words[j]), j + 1
      if best:
        hits.append(Hit(i, *best))
        i = best[0]
      else:
        i += 1
    return hits
