"""Where a sentence names findings: by a noun ("effusion"), or by a part and what is said of it."""

import dataclasses

from cdjax.core.types import SIDES
from cdjax.findings.extract.lexicon import Lexicon
from cdjax.findings.extract.phrases import Hit
from cdjax.findings.extract.sentences import Sentence

# "The heart, compared with the earlier image, is again enlarged": words between part and property.
_MAX_BETWEEN = 7
_MAX_ADJECTIVES = 3
_UNITS = frozenset(("mm", "cm"))
# They leave open what a sign is.
_OPEN_LINKS = frozenset(("concerning", "suspicious", "worrisome", "which", "differential"))
_BREAKING = set(",;:()")
_ARTICLES = frozenset(("a", "an", "the", "another"))
_NO_NOUN = frozenset(("mm", "cm", "of", "or", "third", "half"))
_CLAUSES = frozenset(("and", "but", "while", "whereas"))
# A clause about what is well names no finding, and says nothing of where the next one is.
WELL = frozenset(("clear", "normal", "unremarkable", "limits", "sharp", "intact"))


@dataclasses.dataclass(frozen=True)
class Mention:
  """One naming of a finding.

  Attributes:
    name: canonical name.
    start, end: its words [start, end); for a pair those of the property, which cues speak of.
    part: words [start, end) of the part of a pair, or None.
    denied: the property says that there is no such finding ("normal").
    noun: the first word of the mention that this one stands for ("a small one"), -1 where it is in
      the sentence before, or None.
  """

  name: str
  start: int
  end: int
  part: tuple[int, int] | None = None
  denied: bool = False
  noun: int | None = None


def find_mentions(sentence: Sentence, lexicon: Lexicon, earlier: str | None = None
                  ) -> list[Mention]:
  """The mentions of one sentence, in the order of their words.

  Args:
    sentence: its words.
    lexicon: the phrases.
    earlier: the last finding that the sentence before names, if any.
  """
  words = sentence.words
  breaks = [bool(_BREAKING & set(gap)) for gap in sentence.gaps]
  signs = lexicon.signs.find(words, breaks)
  taken = {i for hit in signs for i in range(hit.start, hit.end)}
  terms = [hit for hit in lexicon.terms.find(words, breaks)
           if not taken.intersection(range(hit.start, hit.end))]
  taken.update(i for hit in terms for i in range(hit.start, hit.end))
  found = [Mention(hit.value, hit.start, hit.end) for hit in terms if hit.value]
  found += _measured(signs, sentence, lexicon, breaks)
  parts = [hit for hit in lexicon.parts.find(words, breaks)
           if not taken.intersection(range(hit.start, hit.end))]
  found += _pairs(parts, terms, sentence, lexicon)
  found += _pronouns(found, sentence, lexicon, earlier)
  return sorted(found, key=lambda mention: mention.start)


def _measured(signs: list[Hit], sentence: Sentence, lexicon: Lexicon, breaks: list[bool]
              ) -> list[Mention]:
  """Signs with a length that nothing explains: "7-mm nodular density", not "from a nipple"."""
  words = sentence.words
  links = [link for link in lexicon.links.find(words, breaks)
           if words[link.start] not in _OPEN_LINKS]
  return [Mention(hit.value, hit.start, hit.end) for hit in signs
          if not any(link.start >= hit.end for link in links)
          and _UNITS & {*words[max(hit.start - 2, 0):hit.start], *words[hit.end:hit.end + 5]}]


def _pronouns(found: list[Mention], sentence: Sentence, lexicon: Lexicon, earlier: str | None
              ) -> list[Mention]:
  """What stands for the noun before it: "a small one", "and the right is large"."""
  words, gaps = sentence.words, sentence.gaps
  result = []
  for i, word in enumerate(words):
    if word in ("one", "ones"):
      stands = _ARTICLES.intersection(words[max(i - 3, 0):i]) and not (
          i + 1 < len(words) and (words[i + 1] in _NO_NOUN or words[i + 1][0].isdigit()))
    elif word in SIDES and i and words[i - 1] == "the":
      begins = i == 1 or words[i - 2] in _CLAUSES or "," in gaps[i - 1]
      after = words[i + 1:i + 5]
      stands = (begins and lexicon.verbs.intersection(after[:1])
                and not WELL.intersection(after))
    else:
      continue
    nouns = [mention for mention in found if mention.end <= i and not mention.denied]
    if stands and not nouns and earlier:
      result.append(Mention(earlier, i, i + 1, noun=-1))
    elif stands and nouns:
      noun = max(nouns, key=lambda mention: mention.start)
      result.append(Mention(noun.name, i, i + 1, noun=noun.start))
  return result


def _pairs(parts: list[Hit], terms: list[Hit], sentence: Sentence, lexicon: Lexicon
           ) -> list[Mention]:
  """Findings made of a part and a property, in either order, with little between them."""
  found, used = [], set()
  for k, hit in enumerate(parts):
    for index, polarity in hit.value.pairs:
      if polarity is None or (hit.start, index) in used:
        continue
      # The nearest part before the property ("the heart is enlarged", also after another property:
      # "upper normal or enlarged"), then the one after it ("enlargement of the heart").
      if polarity and _of_term(hit, terms, sentence, lexicon):
        continue
      is_part = lambda other: any(role is None for _, role in other.value.pairs)
      before = next((other for other in reversed(parts[:k]) if is_part(other)), None)
      for other in (*((before,) if before else ()), *parts[k + 1:k + 2]):
        if (index, None) in other.value.pairs and _near(hit, other, terms, sentence, lexicon):
          found.append(Mention(lexicon.pair_names[index], hit.start, hit.end,
                               (other.start, other.end), denied=not polarity))
          used.add((hit.start, index))
          break
  return found


def _of_term(prop: Hit, terms: list[Hit], sentence: Sentence, lexicon: Lexicon) -> bool:
  """Whether a property is the adjective of a noun: "heart size is normal with large effusion"."""
  noun = next((hit for hit in terms if hit.start >= prop.end), None)
  if noun is None or noun.start - prop.end > _MAX_ADJECTIVES or any(
      sentence.gaps[prop.end:noun.start + 1]):
    return False
  words = sentence.words[prop.end:noun.start]
  places = lexicon.regions.find(words, [False] * len(words))
  return sum(hit.end - hit.start for hit in places) == len(words)


def _near(prop: Hit, part: Hit, terms: list[Hit], sentence: Sentence, lexicon: Lexicon) -> bool:
  """Whether nothing parts a property from its part."""
  first, second = sorted((prop, part), key=lambda hit: hit.start)
  between = range(first.end, second.start)
  joined = "/" in sentence.gaps[second.start]  # "Pleural scarring/thickening".
  if len(between) > _MAX_BETWEEN or (any(hit.start in between for hit in terms) and not joined):
    return False
  if lexicon.unpaired.intersection(sentence.words[first.end:second.start]):
    return False  # "Heart size cannot be assessed due to a large effusion."
  if part is second:
    # Before its noun a property stands close: "low lung volumes", "enlargement of the heart".
    return (len(between) <= 2 and not any(sentence.gaps[first.end:second.start + 1])
            and not lexicon.verbs.intersection(sentence.words[i] for i in between))
  # "Heart size normal, lungs clear": no comma between, unless it closes an insertion.
  commas = sum("," in gap or ":" in gap for gap in sentence.gaps[first.end:second.start + 1])
  return commas != 1 or sentence.gaps[second.start] == ":"
