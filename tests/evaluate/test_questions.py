import jax
import numpy as np
import pytest
from conftest import SIZE, VOCABULARY

from cdjax.data import phantom
from cdjax.evaluate.drawn_findings import ask_of, draw_findings
from cdjax.evaluate.image_metrics import dilate, rmse
from cdjax.evaluate.questions import make_questions, questions_on


def draw(kind, n=300, **kwargs):
  return draw_findings(kind, n, np.random.default_rng(0), vocabulary=phantom.FIVE, **kwargs)


def test_targets_and_sick_patients_are_balanced():
  findings, do, target = draw("replace")
  rows = np.arange(300)
  np.testing.assert_array_equal(np.bincount(target), 60)
  sick = findings.any_present
  assert [sick[target == k].mean() for k in range(5)] == pytest.approx([0.7] * 5, abs=0.02)
  assert sick[:50].mean() == pytest.approx(0.7, abs=0.05)       # so is a prefix
  assert not findings.present[rows, target].any()               # a change of class, or an addition
  assert (do.present.sum(1) == 1).all() and do.present[rows, target].all()
  assert 0.05 < (findings.present.sum(1) > 1)[sick].mean() < 0.25


def test_kinds_ask_what_they_say():
  rows = np.arange(300)
  findings, do, target = draw("remove")
  assert findings.present[rows, target].all() and not do.any_present.any()
  findings, do, target = draw("severity")
  np.testing.assert_array_equal(findings.present, do.present)
  np.testing.assert_array_equal(findings.zone, do.zone)
  before, after = findings.severity[rows, target], do.severity[rows, target]
  assert abs(np.corrcoef(before, after)[0, 1]) < 0.15           # asked independently
  findings, do, target = draw("multi")
  assert (do.present.sum(1) == 2).all() and do.present[rows, target].all()
  assert not (findings.present & do.present).any()


def test_held_out_combinations_are_asked_as_unseen_and_nowhere_else():
  held_out = ("consolidation left upper", "nodule right lower")
  findings, do, target = draw("unseen", held_out=held_out)
  assert set(target) == {0, 2}
  assert (do.side[target == 0, 0] == 1).all() and (do.zone[target == 0, 0] == 1).all()
  assert (do.side[target == 2, 2] == 2).all() and (do.zone[target == 2, 2] == 4).all()
  for arrays in (findings, *draw("replace", held_out=held_out)[:2]):
    assert not ((arrays.side[:, 0] == 1) & (arrays.zone[:, 0] == 1)).any()
  with pytest.raises(ValueError, match="held_out_combinations"):
    draw("unseen")


def test_exact_answers_keep_what_they_must(asked):
  q = asked
  outside = rmse(q.x, q.exact, ~q.mask)
  assert (rmse(q.x, q.exact, q.mask) > 3 * outside).all()
  assert outside.max() < 0.01               # same anatomy, exposure and sensor noise
  healthy = ~q.findings.any_present
  assert not q.old_mask[healthy].any() and q.old_mask[~healthy].any((1, 2)).all()
  np.testing.assert_array_equal(q.mask, q.old_mask | q.new_mask)
  leaves_open = q.target != VOCABULARY.index("cardiomegaly")    # its severity says it all
  assert (rmse(q.exact, q.nuisance)[leaves_open] > 0).all()     # another hidden draw


def test_masks_are_the_phantoms_dilated(asked):
  own = jax.vmap(lambda a, p, c: phantom.lesion_mask(a, p, c, size=SIZE, vocabulary=VOCABULARY))(
      asked.causes.anatomy, asked.answer, asked.causes.acquisition)
  np.testing.assert_array_equal(dilate(np.asarray(own), size=SIZE), asked.new_mask)


def test_severity_edits_keep_the_hidden_draw():
  q = make_questions(jax.random.key(2), 6, vocabulary=VOCABULARY, size=SIZE, kind="severity")
  rows = np.arange(6)
  np.testing.assert_array_equal(q.causes.pathology.hidden[rows, q.target],
                                q.answer.hidden[rows, q.target])
  np.testing.assert_array_equal(q.exact, q.nuisance)


def test_questions_on_given_studies(asked):
  q = questions_on(jax.random.key(3), asked.causes, vocabulary=VOCABULARY, size=SIZE)
  np.testing.assert_allclose(q.x, asked.x, atol=1e-6)
  do, target = ask_of(asked.findings, np.random.default_rng(0), vocabulary=VOCABULARY)
  assert not asked.findings.present[np.arange(24), target].any()
  assert np.ptp(np.bincount(target, minlength=3)) <= 2
  assert do.present.sum() == 24
