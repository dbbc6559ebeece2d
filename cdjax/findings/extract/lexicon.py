"""The wording of reports as data: `lexicon.json`, checked and indexed once."""

import dataclasses
import functools
import json
import re
from importlib import resources

from cdjax.findings.extract.phrases import Trie, expand
from cdjax.findings.ontology import Ontology, get_ontology


@dataclasses.dataclass(frozen=True)
class Cue:
  """What a phrase says about the findings around it.

  Attributes:
    kind: "absent", "resolved", "uncertain", "dropped" (spoken of, not stated), "earlier" (seen on
      an earlier image), "change", "stop" (the reach of other cues ends), "pass" (nothing).
    where: the findings "before" or "after" the cue that it speaks of, or "around" for both; "near"
      for an adjective, which reaches no further than the list it stands in; "past" for what a
      clause about an earlier image says in the past tense.
    value: of a change: "new", "stable", …
  """

  kind: str
  where: str = ""
  value: str = ""


@dataclasses.dataclass(frozen=True)
class PairPart:
  """A part of the body, or what can be said of it; together they are a finding.

  Attributes:
    pairs: indices of `Lexicon.pair_names` that it belongs to, with the polarity: None for the
      part, True for a property that makes the finding, False for one that denies it.
  """

  pairs: tuple[tuple[int, bool | None], ...]


@dataclasses.dataclass(frozen=True)
class Sections:
  """What the titles of a report's sections say.

  Attributes:
    read, private, brief: titles whose text states findings, speaks of the patient's history or the
      question, and describes the image in few words.
    read_words, private_words, brief_words: words that say so in any other title; one of
      `private_words` outweighs the others.
    inside: finds the titles that may stand in the middle of a line.
  """

  read: frozenset[str]
  private: frozenset[str]
  brief: frozenset[str]
  read_words: frozenset[str]
  private_words: frozenset[str]
  brief_words: frozenset[str]
  inside: re.Pattern[str]


@dataclasses.dataclass(frozen=True)
class Lexicon:
  """Indexed phrases; see `lexicon.json`.

  Attributes:
    sections: what their titles say.
    terms: phrase to finding name; "" for words that only look like a finding.
    signs: phrase to the finding that it is where it is measured and nothing explains it.
    parts: phrase to `PairPart`.
    pair_names: finding name of each pair rule.
    cues: phrase to `Cue`.
    unpaired: words that part a part from what would be its property.
    stops, changes: more cues, looked up apart because they may lie inside another.
    verdicts: phrases that say of what "neither … nor" names that it changed.
    links: phrases that explain what was named before them by what follows.
    regions: phrase to (side or "", zone or ""), where the side "plural" means both unless one is
      named; None for words that only look like a place.
    severities: phrase to value in [0, 1], or None for a word without grade.
    sizes_mm: finding name to rising (diameter below, severity).
    joins, verbs, starters, anaphora: single words and word rows, see the methods that use them.
    open_words: words after which a line goes on.
    companions: words that put a finding where the one before it is ("adjacent", "underlying").
    described: findings that are explained by what follows a comma: "opacity, likely pneumonia".
    elsewhere: finding name to words of parts outside the chest.
    descriptive_change: findings in whose names "increased" describes and does not compare.
    not_shared: findings that take no place from their neighbour in a list.
  """

  sections: Sections
  terms: Trie[str]
  signs: Trie[str]
  parts: Trie[PairPart]
  pair_names: tuple[str, ...]
  unpaired: frozenset[str]
  cues: Trie[tuple[Cue, ...]]
  stops: Trie[Cue]
  changes: Trie[Cue]
  verdicts: Trie[str]
  links: Trie[str]
  regions: Trie[tuple[str, str] | None]
  severities: Trie[float | None]
  sizes_mm: dict[str, list[tuple[float, float]]]
  joins: Trie[str]
  verbs: frozenset[str]
  starters: frozenset[str]
  anaphora: frozenset[str]
  open_words: frozenset[str]
  companions: frozenset[str]
  described: frozenset[str]
  elsewhere: dict[str, frozenset[str]]
  descriptive_change: frozenset[str]
  not_shared: frozenset[str]


@functools.cache
def get_lexicon() -> Lexicon:
  """The packaged lexicon.

  Raises:
    ValueError: it names a finding, a change or a severity that the ontology does not know.
  """
  file = resources.files("cdjax.findings.extract").joinpath("lexicon.json")
  return build_lexicon(json.loads(file.read_text("utf-8")), get_ontology())


def build_lexicon(raw: dict, ontology: Ontology) -> Lexicon:
  """Checks and indexes the contents of a lexicon file.

  Raises:
    ValueError: it names a finding, a change or a severity that the ontology does not know.
  """
  pair_names = tuple(pair["name"] for pair in raw["pairs"])
  for name in (*raw["terms"], *pair_names, *raw["sizes_mm"], *raw["descriptive_change"],
               *raw["not_shared"], *raw["described"], *raw["elsewhere"],
               *raw["signs"]):
    if name not in ontology.findings:
      raise ValueError(f"lexicon: {name!r} is no finding; expected one of "
                       f"{', '.join(ontology.findings)}")
  if unknown := {*raw["change"], *raw["unresolved"]} - set(ontology.change):
    raise ValueError(f"lexicon: changes {sorted(unknown)}; expected some of {ontology.change}")
  for word, value in raw["severity"].items():
    if value is not None and not 0 <= value <= 1:
      raise ValueError(f"lexicon: severity {word!r} is {value}; expected a number in [0, 1]")
  flat = lambda rows: frozenset(word for phrase in rows for word in expand(phrase)[0])
  return Lexicon(
      sections=_sections(raw["sections"]), terms=Trie(_terms(raw, ontology)),
      signs=Trie((text, name) for name, texts in raw["signs"].items() for text in texts),
      parts=Trie(_parts(raw).items()), pair_names=pair_names,
      unpaired=frozenset(raw["unpaired"]),
      cues=Trie(_cues(raw).items()), stops=Trie((text, Cue("stop")) for text in raw["stops"]),
      changes=Trie([*((text, Cue("change", value=change)) for group in ("change", "unresolved")
                      for change, phrases in raw[group].items() for text in phrases),
                    *((text, Cue("pass")) for text in raw["pass_change"])]),
      verdicts=Trie((text, text) for text in raw["neither_change"]),
      links=Trie((text, text) for text in raw["links"]),
      regions=Trie([*_known_regions(ontology),
                    *((text, tuple(place)) for text, place in raw["regions"].items()),
                    *((text, None) for text in raw["pass_regions"])]),
      severities=Trie(raw["severity"].items()),
      sizes_mm={name: [tuple(row) for row in rows] for name, rows in raw["sizes_mm"].items()},
      joins=Trie((text, text) for text in raw["joins"]),
      verbs=flat(raw["verbs"]), starters=flat(raw["starters"]), anaphora=flat(raw["anaphora"]),
      open_words=frozenset(raw["open_words"]),
      companions=frozenset(raw["companions"]), described=frozenset(raw["described"]),
      elsewhere={name: frozenset(words) for name, words in raw["elsewhere"].items()},
      descriptive_change=frozenset(raw["descriptive_change"]),
      not_shared=frozenset(raw["not_shared"]))


def _sections(raw: dict) -> Sections:
  """Titles; those inside a line are recognised by their capitals."""
  inside = sorted({form for title in raw["inside"]
                   for form in (title.upper(), title.capitalize(), title.title())},
                  key=len, reverse=True)
  return Sections(
      inside=re.compile(rf"(?<=[ \t])({'|'.join(inside)})[ \t]*:(?!\d)"),
      **{key: frozenset(titles) for key, titles in raw.items() if key != "inside"})


def _known_regions(ontology: Ontology) -> list[tuple[str, tuple[str, str]]]:
  """The ontology's words of places in the form of the lexicon's, which override them."""
  return [(" ".join(words), (side or "", zone)) for words, (side, zones) in ontology.regions.items()
          for zone in zones or ("",)]


def _terms(raw: dict, ontology: Ontology) -> list[tuple[str, str]]:
  """Phrases that name a finding; the lexicon's own override the ontology's."""
  unused = set(raw["unused_synonyms"])
  known = [(spelling, entry.name) for entry in ontology.findings.values()
           for spelling in (entry.label, *entry.synonyms) if spelling not in unused]
  own = [(phrase, name) for name, phrases in raw["terms"].items() for phrase in phrases]
  return [*known, *own, *((phrase, "") for phrase in raw["pass_terms"])]


def _parts(raw: dict) -> dict[str, PairPart]:
  """Phrases of the pair rules; one phrase may belong to several rules."""
  roles: dict[str, list] = {}
  for index, pair in enumerate(raw["pairs"]):
    for key, polarity in (("part", None), ("yes", True), ("no", False)):
      for phrase in pair[key]:
        for row in expand(phrase):
          roles.setdefault(" ".join(row), []).append((index, polarity))
  return {phrase: PairPart(tuple(found)) for phrase, found in roles.items()}


def _cues(raw: dict) -> dict[str, tuple[Cue, ...]]:
  """Phrases about status; one may look both ways ("resolved"), under "pass" it says nothing."""
  groups = [("negation", "before", Cue("absent", "after")),
            ("negation", "after", Cue("absent", "before")),
            ("negation", "adjective", Cue("absent", "near")),
            ("negation", "resolved_before", Cue("resolved", "after")),
            ("negation", "resolved_after", Cue("resolved", "before")),
            ("uncertainty", "adjective", Cue("uncertain", "near")),
            ("uncertainty", "before", Cue("uncertain", "after")),
            ("uncertainty", "after", Cue("uncertain", "before")),
            ("uncertainty", "around", Cue("uncertain", "around")),
            ("dropped", "before", Cue("dropped", "after")),
            ("dropped", "after", Cue("dropped", "before")),
            ("earlier", "past", Cue("earlier", "past")),
            ("earlier", "before", Cue("earlier", "after")),
            ("earlier", "after", Cue("earlier", "before"))]
  cues: dict[str, tuple[Cue, ...]] = {}
  for group, key, cue in groups:
    for row in (row for phrase in raw[group][key] for row in expand(phrase)):
      cues[" ".join(row)] = (*cues.get(" ".join(row), ()), cue)
  # What has not gone is there.
  passed = (*raw["negation"]["pass"], *raw["uncertainty"]["pass"],
            *(phrase for phrases in raw["unresolved"].values() for phrase in phrases))
  cues.update((" ".join(row), (Cue("pass"),)) for phrase in passed for row in expand(phrase))
  return cues
