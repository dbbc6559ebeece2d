import jax
import numpy as np
import pytest
from conftest import SIZE, VOCABULARY, oracle_judge

from cdjax.evaluate import comparisons
from cdjax.evaluate.judged import place_right
from cdjax.evaluate.population import hidden_draws
from cdjax.evaluate.questions import make_questions


def values(statistics, n):
  return {key: float(statistic(np.ones((1, n)))[0]) for key, statistic in statistics.items()}


def replaced(q, answers, judge):
  return values(comparisons.replace_statistics(
      q, answers, encoded=q.exact, judge=judge, vocabulary=VOCABULARY), len(q))


def test_the_exact_answer_is_perfect(asked):
  got = replaced(asked, asked.exact, oracle_judge(asked))
  assert got["counterfactual/gain_inside"] > 1.02      # better than any other hidden draw
  assert got["counterfactual/rmse_outside"] == 0
  assert got["counterfactual/ssim"] == pytest.approx(1, abs=1e-5)
  for key in ("finding", "side", "zone"):
    assert got[f"counterfactual/{key}"] == 1
  assert got["counterfactual/factual_left"] == got["counterfactual/unasked"] == 0
  assert got["sharpness/inside"] == 1


def test_the_factual_image_is_caught_as_a_follower(asked):
  got = replaced(asked, asked.x, oracle_judge(asked))
  assert got["counterfactual/gain_inside"] == 0
  assert got["counterfactual/finding"] == got["counterfactual/side"] == 0
  assert got["counterfactual/factual_left"] == 1
  assert got["counterfactual/unasked"] == pytest.approx(0.7, abs=0.1)
  for key in ("gain_inside", "psnr", "ssim", "finding", "unasked"):
    assert got[f"counterfactual/{key}"] == got[f"baseline/copy/{key}"]


def test_another_hidden_draw_gains_one_by_definition(asked):
  got = replaced(asked, asked.nuisance, oracle_judge(asked))
  assert got["counterfactual/gain_inside"] == 1
  assert got["counterfactual/finding"] == 1


def test_rates_are_relative_to_what_the_judge_can_see(asked):
  sees = oracle_judge(asked)

  def weak(images):
    """Misses every consolidation and sees cardiomegaly everywhere."""
    read = sees(images)
    read["finding"] = read["finding"] * [0, 1, 1]
    read["finding"][:, 2] = 1
    return read

  got = replaced(asked, asked.exact, weak)
  assert got["ceiling/judge/finding"] == pytest.approx(2 / 3)
  assert got["counterfactual/finding"] == 1
  assert got["ceiling/judge/unasked"] > 0.5 and got["counterfactual/unasked"] == 0


def test_place_is_a_set_and_wrong_where_the_finding_is_unseen(asked):
  q = asked
  read = oracle_judge(q)(q.exact)
  right = place_right(read, q.do_findings, q.target, "zone", vocabulary=VOCABULARY)
  np.testing.assert_array_equal(np.isfinite(right), q.target == 0)   # only consolidation has zones
  assert np.nanmean(right) == 1
  side = place_right(read, q.do_findings, q.target, "side", vocabulary=VOCABULARY)
  np.testing.assert_array_equal(np.isnan(side), q.target == 2)
  both = read | {"side": np.ones_like(read["side"])}
  assert np.nanmean(
      place_right(both, q.do_findings, q.target, "side", vocabulary=VOCABULARY)) == 0
  unseen = read | {"finding": np.zeros_like(read["finding"])}
  assert np.nanmean(
      place_right(unseen, q.do_findings, q.target, "side", vocabulary=VOCABULARY)) == 0


def test_removal_and_severity_and_several():
  draw = lambda kind, n: make_questions(jax.random.key(5), n, vocabulary=VOCABULARY, size=SIZE,
                                        kind=kind)
  q = draw("remove", 9)
  judge = oracle_judge(q)
  got = values(comparisons.healthy_statistics(q, q.exact, judge=judge), 9)
  assert got["healthy/left_inside"] == 0 and got["healthy/judged"] == 1
  half = values(comparisons.healthy_statistics(q, (q.x + q.exact) / 2, judge=judge), 9)
  assert half["healthy/left_inside"] == pytest.approx(0.5, abs=1e-6)
  assert half["baseline/copy/healthy/judged"] == 0

  q = draw("severity", 12)
  judge = oracle_judge(q)
  got = values(comparisons.severity_statistics(q, q.exact, encoded=None, judge=judge), 12)
  assert got["severity/spearman"] == pytest.approx(1) and got["severity/mae"] < 1e-6
  assert got["baseline/copy/severity/mae"] > 0.05
  assert got["severity/psnr"] == np.inf and got["baseline/copy/severity/psnr"] < 45

  q = draw("multi", 9)
  judge = oracle_judge(q)
  got = values(comparisons.asked_statistics(q, q.exact, judge=judge, key="multi/finding"), 9)
  assert got["multi/finding"] == 1 and got["baseline/copy/multi/finding"] == 0


def test_diversity_of_the_renderer_is_one_and_of_one_answer_nought(asked):
  q = asked
  draws = [hidden_draws(jax.random.key(i), q, 3, vocabulary=VOCABULARY) for i in range(2)]
  same = np.repeat(q.exact[:, None], 3, axis=1)
  ratio = lambda answers: values(
      comparisons.diversity_statistics(q, answers, draws[0]), len(q))["diversity/ratio"]
  assert ratio(draws[0]) == 1
  assert 0.75 < ratio(draws[1]) < 1.33
  assert ratio(same) == 0
