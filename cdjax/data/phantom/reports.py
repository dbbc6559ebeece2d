"""A report in varied words for each study.

Written from the findings alone, as people dictate: order, synonyms and sentence forms vary, some
absent findings are mentioned, side, zone and severity are always said where they exist.
"""

from collections.abc import Sequence

import numpy as np

from cdjax.findings import Finding

# Severity in words: below the bound.
GRADES = ((0.45, ("mild", "slight", "minor"), ("small", "minor")),
          (0.70, ("moderate",), ("moderate", "medium-sized")),
          (1.01, ("severe", "marked", "pronounced"), ("large", "sizeable")))
ADVERBS = {"mild": "mildly", "slight": "slightly", "minor": "slightly", "moderate": "moderately",
           "severe": "severely", "marked": "markedly", "pronounced": "markedly"}
SIZED = ("pleural_effusion", "nodule", "pneumothorax", "mass", "hiatal_hernia", "pneumoperitoneum")
MASS_NOUNS = ("consolidation", "cardiomegaly", "pulmonary_edema", "emphysema",
              "pulmonary_fibrosis", "atelectasis", "pleural_thickening")

NOUNS: dict[str, tuple[str, ...]] = {
    "consolidation": ("consolidation", "airspace consolidation", "patchy consolidation"),
    "pleural_effusion": ("pleural effusion", "effusion", "pleural fluid collection"),
    "nodule": ("nodule", "pulmonary nodule", "rounded nodule", "solitary nodule"),
    "pneumothorax": ("pneumothorax",),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement", "enlargement of the heart"),
    "mass": ("mass", "pulmonary mass", "lobulated mass"),
    "atelectasis": ("atelectasis", "collapse with volume loss", "atelectasis with volume loss"),
    "pulmonary_edema": ("interstitial edema", "pulmonary edema", "interstitial pulmonary edema"),
    "emphysema": ("emphysema", "emphysematous change"),
    "pulmonary_fibrosis": ("fibrosis", "reticular fibrosis", "pulmonary fibrosis"),
    "pleural_thickening": ("pleural thickening", "thickening of the pleura"),
    "hiatal_hernia": ("hiatal hernia", "hiatus hernia", "retrocardiac hiatal hernia"),
    "fracture": ("rib fracture", "displaced rib fracture", "fracture of a rib"),
    "pneumoperitoneum": ("pneumoperitoneum", "volume of free air under the diaphragm",
                         "amount of free intraperitoneal air"),
}
# Other ways to say it, with {adverb}, {grade}, {place}.
SPECIAL: dict[str, tuple[str, ...]] = {
    "cardiomegaly": ("The heart is {adverb} enlarged",
                     "The cardiac silhouette is {adverb} enlarged",
                     "{adverb} enlarged heart", "The heart is enlarged, {adverb} so"),
    "pulmonary_edema": ("The lungs show {grade} edema on both sides",
              "Septal lines and perihilar haze on both sides, in keeping with {grade} edema"),
    "emphysema": ("Both lungs are hyperinflated, the diaphragms flat, in keeping with {grade} "
                  "emphysema",
                  "{grade} emphysema of both lungs"),
    "pleural_effusion": ("The {side} costophrenic angle is blunted by a {grade} effusion",
                         "A {grade} effusion layers {place}"),
    "pneumothorax": ("A visceral pleural line {place} outlines a {grade} pneumothorax",),
    "atelectasis": ("Volume loss {place} with shift of the mediastinum, in keeping with {grade} "
                    "atelectasis",),
}
# Ways to say that it is not there.
NEGATIVES: dict[str, tuple[str, ...]] = {
    "consolidation": ("no consolidation", "no focal consolidation"),
    "pleural_effusion": ("no pleural effusion", "no effusion"),
    "nodule": ("no nodule", "no pulmonary nodule"),
    "pneumothorax": ("no pneumothorax",),
    "cardiomegaly": ("no cardiomegaly", "heart size is normal",
                     "the cardiac silhouette is not enlarged"),
    "mass": ("no mass",),
    "atelectasis": ("no atelectasis",),
    "pulmonary_edema": ("no pulmonary edema", "no edema"),
    "emphysema": ("no emphysema",),
    "pulmonary_fibrosis": ("no fibrosis", "no reticular change"),
    "pleural_thickening": ("no pleural thickening",),
    "hiatal_hernia": ("no hiatal hernia",),
    "fracture": ("no fracture", "no rib fracture"),
    "pneumoperitoneum": ("no pneumoperitoneum", "no free air under the diaphragm"),
}
ZONE_WORDS = {"upper": ("upper zone", "upper lung field", "upper third"),
              "mid": ("mid zone", "mid lung field", "middle third"),
              "lower": ("lower zone", "lower lung field", "lower third")}
BOTH = ("on both sides", "bilaterally", "in both lungs")
OPENINGS = ("", "", "", "PA view of the chest. ", "Findings: ", "FINDINGS: ", "Chest, PA. ",
            "Single frontal radiograph. ")
HEALTHY = ("No acute abnormality", "Normal chest", "The lungs are clear", "Unremarkable radiograph",
           "Normal appearance of the chest for age")
FRAMES = ("There is {a} {noun} {place}", "{a} {noun} is seen {place}", "{a} {noun} {place}",
          "{a} {noun} is present {place}", "{place}, there is {a} {noun}",
          "{a} {noun} can be made out {place}", "Note is made of {a} {noun} {place}")


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
  return options[int(rng.integers(len(options)))]


def _sentence(text: str) -> str:
  text = " ".join(text.split()).replace(" ,", ",").strip(" ,")
  for vowel in "aeiou":
    text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
  return text[0].upper() + text[1:] + "."


def _grade(finding: Finding, rng: np.random.Generator) -> str:
  if finding.severity is None:
    return ""
  words = next(g for g in GRADES if finding.severity < g[0])
  return _choose(rng, words[2] if finding.name in SIZED else words[1])


def _place(finding: Finding, rng: np.random.Generator) -> str:
  """Where, in words that follow the noun; "" for a finding without place."""
  side = finding.laterality
  zones = " and ".join(_choose(rng, ZONE_WORDS[z]) for z in finding.zones)
  if side == "bilateral":
    return f"in the {zones} of both lungs" if zones else _choose(rng, BOTH)
  if side is None:
    return f"in the {zones}" if zones else ""
  if zones:
    return _choose(rng, (f"in the {side} {zones}", f"in the {zones} of the {side} lung",
                         f"on the {side}, in the {zones}", f"projecting over the {side} {zones}"))
  return _choose(rng, (f"on the {side}", f"on the {side} side", f"in the {side} hemithorax"))


def _positive(finding: Finding, rng: np.random.Generator) -> str:
  """A sentence that says where and how severe the finding is."""
  grade, place = _grade(finding, rng), _place(finding, rng)
  one_sided = finding.laterality in ("left", "right")
  special = [t for t in SPECIAL.get(finding.name, ()) if one_sided or "{side}" not in t]
  if special and grade and rng.random() < 0.35:
    text = _choose(rng, special).format(grade=grade, adverb=ADVERBS.get(grade, grade), place=place,
                                        side=finding.laterality)
    return _sentence(text)
  noun = _choose(rng, NOUNS[finding.name])
  if one_sided and rng.random() < 0.35:
    # Adjectives before the noun: "a small left lower zone nodule".
    zones = " and ".join(_choose(rng, ZONE_WORDS[z]) for z in finding.zones)
    side = finding.laterality if zones else _choose(
        rng, (finding.laterality, f"{finding.laterality}-sided"))
    noun, place = f"{side} {zones} {noun}", ""
  article = "" if finding.name in MASS_NOUNS else "a"
  return _sentence(_choose(rng, FRAMES).format(a=f"{article} {grade}", noun=noun, place=place))


def _negative(names: Sequence[str], rng: np.random.Generator) -> list[str]:
  """Sentences that say these findings are absent; some share a sentence."""
  phrases = [_choose(rng, NEGATIVES[name]) for name in names]
  plain = [p[3:] for p in phrases if p.startswith("no ")]
  sentences = [_sentence(p) for p in phrases if not p.startswith("no ")]
  while plain:
    count = min(len(plain), int(rng.integers(1, 4)))
    group, plain = plain[:count], plain[count:]
    start = _choose(rng, ("no", "there is no", "no evidence of", "no sign of"))
    sentences.append(_sentence(f"{start} {', '.join(group[:-1])}{' or ' * (count > 1)}{group[-1]}"))
  return sentences


def write_report(findings: Sequence[Finding], rng: np.random.Generator) -> str:
  """Writes a report.

  Args:
    findings: of one study, present or absent; every present one gets its sentence, some of the
      absent ones are mentioned.
    rng: decides the words.

  Returns:
    A few sentences. Severity in words: mild or small below 0.45, moderate below 0.7, severe or
    large above.

  Raises:
    ValueError: an uncertain finding; the phantom is certain.
  """
  doubtful = [f.name for f in findings if f.status == "uncertain"]
  if doubtful:
    raise ValueError(f"findings {doubtful} are uncertain; the phantom reports present and absent")
  present = [f for f in findings if f.status == "present"]
  absent = [f.name for f in findings if f.status == "absent"]
  absent = [absent[i] for i in rng.permutation(len(absent))]
  absent = absent[:int(rng.integers(0, min(len(absent), 5) + 1))]
  positives = [_positive(present[i], rng) for i in rng.permutation(len(present))]
  if not present:
    positives = [_sentence(_choose(rng, HEALTHY))]
  negatives = _negative(absent, rng)
  first, second = (positives, negatives) if rng.random() < 0.7 else (negatives, positives)
  return _choose(rng, OPENINGS) + " ".join(first + second)
