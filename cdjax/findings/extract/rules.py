"""The `rules` backend: a report in free text to findings, by phrases and the grammar of lists.

Sections that state findings are split into sentences; each sentence's mentions get a status
(`assertion`) and attributes (`attributes`); the report's mentions are merged. The wording is data:
`lexicon.json`. Nothing is learned and nothing leaves the process.
"""

from cdjax.findings.extract.assertion import DROPPED, EARLIER, PRESENT, assert_mentions
from cdjax.findings.extract.attributes import attach
from cdjax.findings.extract.frame import Attributes
from cdjax.findings.extract.lexicon import get_lexicon
from cdjax.findings.extract.mentions import find_mentions
from cdjax.findings.extract.merge import Statement, merge
from cdjax.findings.extract.sections import read_sections
from cdjax.findings.extract.sentences import read_sentences
from cdjax.findings.types import Finding


def extract_findings(report: str) -> list[Finding]:
  """What a chest radiograph's report states.

  Args:
    report: free text in English; sections such as INDICATION and COMPARISON are not read, "XXXX"
      and "___" mark removed identifiers.

  Returns:
    Findings that are present, uncertain, or expressly absent, one for each name and side, in the
    order of the report, each with the characters of its evidence. What is not mentioned is not
    listed.
  """
  lexicon = get_lexicon()
  statements = []
  for section in read_sections(report, lexicon.sections):
    earlier, noun = None, None
    for sentence in read_sentences(report, *section, lexicon.open_words):
      mentions = find_mentions(sentence, lexicon, noun and noun[0])
      if not mentions:
        noun = None
        continue
      attributes = attach(sentence, mentions, lexicon, earlier)
      for mention, said, (status, cues) in zip(
          mentions, attributes, assert_mentions(sentence, mentions, lexicon), strict=True):
        # What an earlier image showed is there where its change is told.
        if status == DROPPED or (status == EARLIER and said.change is None):
          continue
        status = PRESENT if status == EARLIER else status
        for cue in cues:
          said.used(cue.start, cue.end)
        begin = noun[1] if noun and mention.noun == -1 else sentence.spans[said.first][0]
        statements += _statements(mention.name, status, said, (
            begin, sentence.spans[said.last - 1][1]))
        if said.placed and status in ("present", "uncertain"):
          earlier = said
      named = next((m for m in reversed(mentions) if not m.denied and m.noun != -1), None)
      noun = named and (named.name, sentence.spans[named.start][0])
  return merge(statements, lexicon)


def _statements(name: str, status: str, said: Attributes, evidence: tuple[int, int]
                ) -> list[Statement]:
  """What one mention states: one thing, or one for each side where their severities differ."""
  sides = [(said.sides, said.severity)]
  if len(set(said.by_side.values())) == 2:
    sides = [(frozenset((side,)), severity) for side, severity in said.by_side.items()]
  return [Statement(name, status, side, said.zones, severity, said.size_mm, said.change, evidence)
          for side, severity in sides]
