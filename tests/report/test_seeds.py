import pytest

from cdjax.report.seeds import markdown_metrics, mean_over_runs


def run(value, **more):
  entry = lambda v: {"value": v, "low": -1.0, "high": 1.0, "n": 512}
  return {"seed": 1, "machine": "m", "a": entry(value), "b": entry(None)} | {
      key: entry(v) for key, v in more.items()}


def test_the_mean_has_the_smallest_and_the_largest_beside_it():
  got = mean_over_runs([run(0.2, c=1.0), run(0.3), run(0.7, c=2.0)])
  assert got["a"] == {"value": pytest.approx(0.4), "low": 0.2, "high": 0.7, "n": 3}
  assert got["b"] == {"value": None, "low": None, "high": None, "n": 0}
  assert "c" not in got and got["machine"] == "m"


def test_one_run_keeps_its_interval():
  assert mean_over_runs([run(0.2)]) == run(0.2)


def test_runs_that_answered_other_questions_are_not_mixed():
  with pytest.raises(ValueError, match=r"seeds \[1, 2\]"):
    mean_over_runs([run(0.2), run(0.3) | {"seed": 2}])
  fewer = run(0.3) | {"counterfactual/finding": {"value": 1.0, "low": 0, "high": 1, "n": 128}}
  more = run(0.3) | {"counterfactual/finding": {"value": 1.0, "low": 0, "high": 1, "n": 512}}
  with pytest.raises(ValueError, match=r"\[128, 512\] questions"):
    mean_over_runs([fewer, more])
  with pytest.raises(ValueError, match="one or more"):
    mean_over_runs([])


def test_markdown():
  text = markdown_metrics(run(0.2) | {"interactions/x": run(1.0)["a"]})
  assert "| `a` | 0.2 | -1 … 1 |" in text
  assert "| `b` | – |" in text and "interactions" not in text
  assert "| `a` | 0.0123 |" in markdown_metrics(run(0.0123))
