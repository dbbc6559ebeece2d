"""Whether a mention is stated, denied, doubted, or only spoken of: cues and how far they reach.

The idea of trigger phrases with a direction and a scope is that of NegEx and ConText (Chapman et
al., "A simple algorithm for identifying negated findings and diseases in discharge summaries",
2001; Harkema et al., "ConText", 2009). The reach here follows the grammar of lists: "no A, B or C"
denies all three, "no A, there is B" and "no A is seen, small B" only the first.
"""

from collections.abc import Sequence

from cdjax.findings.extract.changes import neither_changed
from cdjax.findings.extract.lexicon import Cue, Lexicon
from cdjax.findings.extract.mentions import Mention
from cdjax.findings.extract.phrases import Hit
from cdjax.findings.extract.sentences import Sentence

PRESENT, ABSENT, UNCERTAIN, RESOLVED, EARLIER, DROPPED = (
    "present", "absent", "uncertain", "resolved", "earlier", "dropped")
# Where several cues reach one mention, the first of these holds.
_ORDER = (DROPPED, RESOLVED, ABSENT, EARLIER, UNCERTAIN)
_DENIALS = frozenset(("no", "not", "without", "neither"))
# "Is likely" ends what it says, or goes on with a place or a reason.
_PREDICATES = frozenset(("likely", "probable", "possible", "questionable", "suspected",
                         "uncertain"))
_FOLLOWING = frozenset(("in", "at", "on", "and", "or", "but", "given", "as", "if", "although",
                        "though", "however", "with", "within", "along", "here"))
_PAST_TENSE = frozenset(("was", "were", "had", "measured", "showed", "demonstrated", "revealed"))
_PRESENT_TENSE = frozenset(("is", "are", "has", "have", "now", "again", "remains", "remain",
                            "today", "currently", "measures"))
_MAX_ABSENT_WORDS = 2
_PRIOR = frozenset(("prior", "previous", "earlier", "last", "preceding", "recent", "outside"))
_COORDINATORS = {"or", "nor"}
_EITHER = (("or", "both"), ("or", "neither"))


def assert_mentions(sentence: Sentence, mentions: Sequence[Mention], lexicon: Lexicon
                    ) -> list[tuple[str, list[Hit[Cue]]]]:
  """The status of each mention and the cues that made it.

  Returns:
    For each mention, one of "present", "absent", "uncertain", "resolved", "earlier", "dropped",
    and the cues.
  """
  words = sentence.words
  breaks = [any(mark in gap for mark in ",;:()") for gap in sentence.gaps]
  inside = {i for mention in mentions for i in range(mention.start, mention.end)}
  found = lexicon.cues.find(words, breaks)
  cues = [Hit(hit.start, hit.end, cue) for hit in found for cue in hit.value
          if cue.kind != "pass" and not inside.intersection(range(hit.start, hit.end))]
  if denied := neither_changed(sentence, lexicon):
    cues = [cue for cue in cues if not denied[0] <= cue.start < denied[2]]
  passed = {i for hit in found if hit.value[0].kind == "pass" for i in range(hit.start, hit.end)}
  stops = [hit.start for hit in lexicon.stops.find(words, breaks) if hit.start not in passed]
  reached = {(cue, k) for cue in cues for k, mention in enumerate(mentions)
             if _reaches(cue, mention, mentions, sentence, stops, lexicon)}
  # A phrase that looks both ways speaks of what follows it, if anything does.
  forward = {cue.start for cue, _ in reached if cue.value.where not in ("before", "around")}
  result = []
  for k, mention in enumerate(mentions):
    reaching = [cue for cue in cues if (cue, k) in reached
                and not (cue.value.where == "before" and cue.start in forward)]
    if lexicon.elsewhere.get(mention.name, frozenset()).intersection(words):
      result.append((DROPPED, reaching))
    else:
      result.append((_status(mention, reaching, sentence), reaching))
  return _doubt_alternatives(result, sentence, mentions, stops)


def _status(mention: Mention, reaching: Sequence[Hit[Cue]], sentence: Sentence) -> str:
  """What the cues that reach a mention make of it."""
  kinds = {cue.value.kind for cue in reaching}
  # "After removal of the tube without recurrent pneumothorax": the nearer one of two holds.
  before = [cue for cue in reaching
            if cue.value.where == "after" and cue.value.kind in (RESOLVED, ABSENT)]
  if before and max(before, key=lambda cue: cue.start).value.kind == ABSENT:
    kinds -= {cue.value.kind for cue in before if cue.value.kind == RESOLVED}
  if ABSENT in kinds and UNCERTAIN in kinds and _doubt_after_denial(mention, reaching):
    return UNCERTAIN
  past = kinds & {DROPPED, EARLIER}
  if past and any(cue.value == Cue(RESOLVED, "before") for cue in reaching):
    return RESOLVED  # "The prior film showed an effusion, which has resolved."
  if EARLIER in kinds and ABSENT in kinds and all(
      cue.start < mention.start for cue in reaching if cue.value.kind == ABSENT):
    return EARLIER  # "The prior film showed no effusion."
  status = next((kind for kind in _ORDER if kind in kinds), PRESENT)
  if mention.denied:
    # "Is not normal"; a stray "No" further off does not turn it round.
    close = any(cue.value.kind == ABSENT and 0 <= mention.start - cue.end <= 1 for cue in reaching)
    if status in (PRESENT, ABSENT, UNCERTAIN):  # "Probably normal" is as good as normal.
      return PRESENT if status == ABSENT and close else ABSENT
    return status
  if status == PRESENT and sentence.end == "?":
    return UNCERTAIN
  return status


def _doubt_after_denial(mention: Mention, reaching: Sequence[Hit[Cue]]) -> bool:
  """"Not seen, may be small": the doubt comes later than the denial and speaks of the finding."""
  denials = [cue for cue in reaching if cue.value.kind == ABSENT]
  doubts = [cue for cue in reaching if cue.value.kind == UNCERTAIN]
  return (max(cue.start for cue in doubts) > max(cue.start for cue in denials) > mention.start)


def _reaches(cue: Hit[Cue], mention: Mention, mentions: Sequence[Mention], sentence: Sentence,
             stops: Sequence[int], lexicon: Lexicon) -> bool:
  """Whether a cue speaks of a mention."""
  words = sentence.words
  if cue.value.where == "before" or (cue.value.where == "around" and mention.end <= cue.start):
    start, end = mention.end, cue.start
    if start > end or any(start <= stop < end for stop in stops):
      return False
    return _reaches_back(cue, mention, mentions, sentence, lexicon)
  start, end = cue.end, mention.start
  if start > end or any(start <= stop < end for stop in stops):
    return False
  if cue.value.kind == EARLIER and words[cue.start] in ("which", "that") and not (
      _PRIOR.intersection(words[:cue.start])):
    return False
  if cue.value.where == "past":
    clause = words[cue.end:]
    return not _PRESENT_TENSE.intersection(clause) and bool(_PAST_TENSE.intersection(clause))
  if cue.value.where in ("near", "around"):
    return _near(cue, mention, mentions, sentence, lexicon)
  return not _broken(start, mention, sentence, lexicon)


def _near(cue: Hit[Cue], mention: Mention, mentions: Sequence[Mention], sentence: Sentence,
          lexicon: Lexicon) -> bool:
  """Whether an adjective reaches a mention: the next noun, and what "or" and "/" add to it."""
  at = cue.end
  for other in mentions:
    if other.start < cue.end or other.start > mention.start:
      continue
    between = sentence.words[at:other.start]
    gaps = sentence.gaps[at + (at == cue.end):other.start + 1]
    if at == cue.end:
      # "Probable small, loculated effusion" goes on over the comma between adjectives.
      # "Effusion absent, small nodule"; "absent markings lateral to a pneumothorax".
      if cue.value.kind == ABSENT and (len(between) > _MAX_ABSENT_WORDS or any(
          sentence.gaps[at:other.start + 1])):
        return False
      if {"and", "with"} & set(between) or (
          any("," in gap for gap in gaps) and lexicon.verbs & set(between)):
        return False
    elif not (_COORDINATORS & set(between) or any("/" in gap for gap in gaps)
              or {"versus", "vs", "than"} & set(between)):
      return False
    if other is mention:
      return True
    at = other.end
  return False


def _broken(start: int, mention: Mention, sentence: Sentence, lexicon: Lexicon) -> bool:
  """Whether the reach of a cue before the words from `start` ends before the mention.

  It ends at a comma or an "and"/"with" after which a statement of its own starts, unless the list
  goes on to an "or"; and at a comma once the list has had its verb.
  """
  words, gaps = sentence.words, sentence.gaps
  goes_on = bool(_COORDINATORS & set(words[mention.end:mention.end + 12])) or bool(
      _COORDINATORS & set(words[start:mention.start]) - {"nor"}
      and not _own_statement(start, mention, sentence, lexicon))
  had_verb = False
  for i in range(start, mention.start):
    new_part = i > start and ("," in gaps[i] or ":" in gaps[i] or "-" == gaps[i] == "--")
    if new_part and had_verb and words[i] not in _COORDINATORS | {"and"}:
      return True
    if new_part or words[i] in ("and", "with"):
      after = words[i + 1] if words[i] in ("and", "with") else words[i]
      if after in ("there", "this", "these", "the") or (after in lexicon.starters and not goes_on):
        return True
    had_verb = had_verb or words[i] in lexicon.verbs
  if "," in gaps[mention.start] and mention.start > start and had_verb:
    return words[mention.start - 1] not in _COORDINATORS
  return False


def _own_statement(start: int, mention: Mention, sentence: Sentence, lexicon: Lexicon) -> bool:
  """Whether after the last comma before a mention no "or" stands: a new statement."""
  last = max((i for i in range(start + 1, mention.start + 1) if "," in sentence.gaps[i]),
             default=start)
  return not _COORDINATORS & set(sentence.words[last:mention.start])


def _reaches_back(cue: Hit[Cue], mention: Mention, mentions: Sequence[Mention],
                  sentence: Sentence, lexicon: Lexicon) -> bool:
  """Whether a cue that follows its finding reaches back to a mention.

  It reaches the list just before it: not over another verb, and not over a comma behind which the
  subject of the cue starts anew ("small effusion, pneumothorax is not seen").
  """
  words, gaps = sentence.words, sentence.gaps
  if words[cue.start] == "no" and cue.end - cue.start == 1 and ":" not in gaps[cue.start]:
    return False  # "Effusion: no."
  if (words[cue.end - 1] in _PREDICATES and cue.end < len(words) and not gaps[cue.end]
      and words[cue.end] not in _FOLLOWING):
    return False  # "…, which is likely normal" says nothing of what stands before.
  for i in range(mention.end, cue.start):
    if words[i] in lexicon.verbs and i < cue.start - 2:
      return False
  between = [other for other in mentions if mention.end <= other.start < cue.start]
  if not between:
    return not any("," in gaps[i] and words[i] in ("there", "this", "the")
                   for i in range(mention.end, cue.start))
  joined = set(words[mention.end:between[-1].start])
  commas = any("," in gaps[i] for i in range(mention.end, between[0].start + 1))
  return bool({"and", "or", "nor"} & joined) and not (
      commas and not {"or", "nor", "and"} & set(words[between[-1].start - 2:between[-1].start]))


def _doubt_alternatives(result: list[tuple[str, list[Hit[Cue]]]], sentence: Sentence,
                        mentions: Sequence[Mention], stops: Sequence[int]
                        ) -> list[tuple[str, list[Hit[Cue]]]]:
  """"Atelectasis or scarring", "A versus B", "A, B, or both": of alternatives none is sure."""
  words = sentence.words
  statuses = [status for status, _ in result]
  # "No change in A or B": the "or" is that of a denial.
  denied = [bool(_DENIALS.intersection(words[max(
      (stop for stop in stops if stop <= mention.start), default=0):mention.start]))
      for mention in mentions]
  for k, mention in enumerate(mentions):  # "Atelectasis versus aspiration": the other is no name.
    if not denied[k] and words[mention.end:mention.end + 1] in (("versus",), ("vs",)):
      statuses[k] = UNCERTAIN if statuses[k] == PRESENT else statuses[k]
  for k in range(len(mentions) - 1):
    first, second = mentions[k], mentions[k + 1]
    between = words[first.end:second.start]
    either = not between and words[second.end:second.end + 2] in _EITHER
    alternatives = either or ({"or", "versus", "vs"} & set(between) and len(between) <= 6)
    if alternatives and not denied[k] and {statuses[k], statuses[k + 1]} <= {PRESENT, UNCERTAIN}:
      statuses[k] = statuses[k + 1] = UNCERTAIN
  return [(status, cues) for status, (_, cues) in zip(statuses, result, strict=True)]
