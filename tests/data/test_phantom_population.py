"""Who is drawn, with what, and what the report says."""

import functools
import re

import jax
import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.data import phantom
from cdjax.data.phantom import ALL, FIVE, PHANTOM_FINDINGS
from cdjax.findings import Finding, findings_to_arrays

RARE = dict(seed=5, resolution=16, vocabulary=FIVE, healthy_share=0.3, multiple_share=0.1,
            frequencies=(8, 4, 2, 1, 1), held_out_combinations=("nodule left upper",))


def pathologies(n=6000, **law):
  keys = jax.random.split(jax.random.key(3), n)
  return jax.jit(jax.vmap(lambda k: phantom.sample_pathology(k, **law)))(keys)


@pytest.fixture(scope="module")
def records():
  return list(phantom.phantom_records(patients=40, **RARE))


def test_records_are_deterministic_and_a_patient_stands_alone(records):
  again = list(phantom.phantom_records(patients=30, **RARE))
  assert len(again) < len(records)
  for a, b in zip(again, records, strict=False):
    np.testing.assert_array_equal(a["image"], b["image"])
    assert {k: v for k, v in a.items() if k != "image"} == {
        k: v for k, v in b.items() if k != "image"}


def test_splits_share_no_patient(records):
  other = list(phantom.phantom_records(patients=40, **RARE, split="validation"))
  assert not {r["patient_id"] for r in records} & {r["patient_id"] for r in other}
  images = {r["image"].tobytes() for r in records}
  assert len(images) == len(records) and not images & {r["image"].tobytes() for r in other}


def test_studies_of_a_patient(records):
  counts = phantom.studies_per_patient(patients=4000, seed=5)
  assert np.abs(np.bincount(counts, minlength=5)[1:] / 4000 - 0.25).max() < 0.03
  assert len(records) == phantom.population_size(patients=40, seed=5)
  by_patient = {}
  for r in records:
    by_patient.setdefault(r["patient_id"], []).append(r)
  for group in by_patient.values():
    assert [r["study"] for r in group] == list(range(len(group)))
    assert len({(r["sex"], r["age"]) for r in group}) == 1
  single = phantom.studies_per_patient(patients=4000, seed=5, single_study_share=0.6)
  assert np.mean(single == 1) == pytest.approx(0.6 + 0.4 / 4, abs=0.03)


def test_causes_of_a_population_render_to_its_images(records):
  own = [r for r in records if r["study"] == 0][:3]
  law = {key: value for key, value in RARE.items() if key != "resolution"}
  causes = phantom.first_studies(np.arange(3), **law)
  render = functools.partial(phantom.render, size=RARE["resolution"], vocabulary=FIVE)
  images = jax.jit(jax.vmap(render))(*causes)
  for image, record in zip(np.asarray(images), own, strict=True):
    np.testing.assert_allclose(255 * image, record["image"], atol=0.51)


def test_shares_and_frequencies():
  p = pathologies(vocabulary=FIVE, healthy_share=0.3, multiple_share=0.1,
                  frequencies=(8, 4, 2, 1, 1))
  count = np.asarray(p.present.sum(1))
  assert np.mean(count == 0) == pytest.approx(0.3, abs=0.02)
  assert np.mean(count >= 2) == pytest.approx(0.1, abs=0.015)
  alone = np.asarray(p.present)[count == 1].mean(0)
  np.testing.assert_allclose(alone, np.array([8, 4, 2, 1, 1]) / 16, atol=0.03)
  severity = np.asarray(p.severity)[np.asarray(p.present)]
  assert 0.25 <= severity.min() < 0.26 and 0.99 < severity.max() <= 1.0
  assert severity.mean() == pytest.approx(0.625, abs=0.015)


def test_held_out_combinations_are_never_drawn():
  places = lambda p: {
      (int(s), int(z)) for here, s, z in zip(p.present[:, 2], p.side[:, 2], p.zone[:, 2],
                                             strict=True) if here}
  law = dict(vocabulary=FIVE, healthy_share=0.0, multiple_share=0.2)
  assert places(pathologies(2000, **law)) == set(PHANTOM_FINDINGS["nodule"].places)
  held = pathologies(2000, **law, held_out_combinations=("nodule left upper", "nodule right mid"))
  assert places(held) == set(PHANTOM_FINDINGS["nodule"].places) - {(1, 1), (2, 2)}


@pytest.mark.parametrize("law, message", [
    (dict(vocabulary=("gout",)), "gout"),
    (dict(vocabulary=FIVE, frequencies=(1, 2)), "frequencies"),
    (dict(vocabulary=FIVE, healthy_share=0.95), "healthy_share=0.95"),
    (dict(vocabulary=FIVE, held_out_combinations=("nodule behind",)), "nodule behind"),
    (dict(vocabulary=FIVE, held_out_combinations=("cardiomegaly",)), "leaves no place"),
])
def test_impossible_values_are_named(law, message):
  with pytest.raises(ValueError, match=message):
    phantom.sample_pathology(jax.random.key(0), **{"multiple_share": 0.1, **law})


def one_study(**present):
  """`FindingsArrays` `[K]` over FIVE."""
  listed = [Finding(name, **what) for name, what in present.items()]
  arrays = findings_to_arrays([listed], FIVE)
  return FindingsArrays(*(np.asarray(x)[0] for x in jax.tree.leaves(arrays)))


def test_findings_round_trip_and_open_places_are_drawn():
  asked = one_study(nodule=dict(severity=0.5, laterality="left", zones=("mid",)),
                    pneumothorax=dict())
  draw = jax.jit(jax.vmap(
      lambda k: phantom.pathology_from_findings(asked, k, vocabulary=FIVE)))
  p = draw(jax.random.split(jax.random.key(0), 200))
  got = phantom.findings_of(p)
  np.testing.assert_array_equal(got.status, np.tile(asked.status, (200, 1)))
  assert (np.asarray(got.side)[:, 2] == 1).all() and (np.asarray(got.zone)[:, 2] == 2).all()
  np.testing.assert_allclose(np.asarray(got.severity)[:, 2], 0.5)
  side = np.asarray(got.side)[:, 3]
  assert set(side) == {1, 2} and 60 < (side == 1).sum() < 140
  assert np.ptp(np.asarray(got.severity)[:, 3]) > 0.6


def test_counterfactual_keeps_the_hidden_draw_of_what_stays():
  before = one_study(nodule=dict(severity=0.3, laterality="left", zones=("mid",)))
  do = one_study(nodule=dict(severity=0.9), cardiomegaly=dict(severity=0.5))

  @jax.jit
  def act(key):
    factual = phantom.pathology_from_findings(before, key, vocabulary=FIVE)
    after = phantom.exact_counterfactual(jax.random.key(1), factual, do, vocabulary=FIVE)
    return factual, after

  factual, after = act(jax.random.key(0))
  np.testing.assert_array_equal(after.hidden[2], factual.hidden[2])
  assert (np.asarray(after.hidden[4]) != np.asarray(factual.hidden[4])).all()
  assert (int(after.side[2]), int(after.zone[2])) == (1, 2)
  assert float(after.severity[2]) == pytest.approx(0.9)
  which = np.arange(5) == 4
  redrawn = phantom.redraw_hidden(after, jax.random.key(2), which)
  changed = (np.asarray(redrawn.hidden) != np.asarray(after.hidden)).any(1)
  np.testing.assert_array_equal(changed, which)
  assert not np.asarray(phantom.healthy_like(after).present).any()


def test_balanced_batch_is_balanced():
  _, findings = phantom.balanced_batch(jax.random.key(2), 3000, vocabulary=FIVE, size=4)
  share = np.asarray(findings.present.mean(0))
  assert share.max() / share.min() < 1.25
  assert float((~findings.any_present).mean()) == pytest.approx(0.2, abs=0.025)
  assert float((findings.present.sum(1) > 1).mean()) == pytest.approx(0.25, abs=0.03)


# Written for the test, from what a reader would look for.
STEMS = {
    "consolidation": "consolidation", "pleural_effusion": "effusion|pleural fluid",
    "nodule": "nodule", "pneumothorax": "pneumothorax",
    "cardiomegaly": "cardiomegaly|enlarged|enlargement", "mass": "mass",
    "atelectasis": "atelectasis|collapse", "pulmonary_edema": "edema", "emphysema": "emphysema",
    "pulmonary_fibrosis": "fibrosis",
    "pleural_thickening": "pleural thickening|thickening of the pleura",
    "hiatal_hernia": "hernia", "fracture": "fracture",
    "pneumoperitoneum": "pneumoperitoneum|free air|free intraperitoneal",
}
WORDS = {"mild": 0, "slight": 0, "minor": 0, "small": 0, "moderate": 1, "medium": 1,
         "severe": 2, "marked": 2, "pronounced": 2, "large": 2, "sizeable": 2}
WORDS.update(mildly=0, slightly=0, moderately=1, severely=2, markedly=2)


def test_reports_say_what_is_there_and_nothing_else():
  rng = np.random.default_rng(0)
  texts = set()
  for _ in range(400):
    listed = []
    for name in ALL:
      spec = PHANTOM_FINDINGS[name]
      if rng.random() > 0.12:
        listed.append(Finding(name, status="absent"))
        continue
      side = str(rng.choice(spec.sides)) if spec.sides else None
      listed.append(Finding(name, severity=float(rng.uniform(0.25, 1)),
                            laterality="bilateral" if side == "both" else side,
                            zones=(str(rng.choice(spec.zones)),) if spec.zones else ()))
    text = phantom.write_report(listed, rng)
    texts.add(text)
    sentences = [s.lower() for s in text.split(".") if s.strip()]
    negative = lambda s: s.strip().startswith(("no ", "there is no ")) or " not " in s
    said = {name: [s for s in sentences if not negative(s.split(": ")[-1])
                   and any(stem in s for stem in stems.split("|"))]
            for name, stems in STEMS.items()}
    for finding in listed:
      found = said[finding.name]
      assert len(found) == (finding.status == "present"), (finding, text)
      if finding.status != "present":
        continue
      words = {WORDS[word] for word in re.findall("[a-z]+", found[0]) if word in WORDS}
      assert words == {0 if finding.severity < 0.45 else 1 if finding.severity < 0.7 else 2}, text
      if finding.laterality in ("left", "right"):
        other = "right" if finding.laterality == "left" else "left"
        assert finding.laterality in found[0] and other not in found[0], text
      for zone in finding.zones:
        assert zone in found[0], text
  assert len(texts) > 390


def test_reports_depend_on_the_seed_only():
  listed = [Finding("nodule", severity=0.5, laterality="left", zones=("mid",))]
  write = lambda seed: phantom.write_report(listed, np.random.default_rng(seed))
  assert write(1) == write(1)
  assert len({write(s) for s in range(50)}) > 30
