"""The benchmark's results by group: means, intervals of differences, tables and a figure."""

import numpy as np

from cdjax.evaluate.longtail_summary import (
    best_remedy,
    gains,
    group_statistics,
    memory_ratio,
    spread,
    summarise_measures,
    summarise_recipes,
)
from cdjax.report.longtail import figure_longtail, markdown_longtail

FINDINGS = ("effusion", "nodule", "mass")
GROUPS = {"effusion": "head", "nodule": "tail", "mass": "tail"}


def run(nodule, mass, side=None):
  return {"effusion": {"effectiveness": 1.0, "side": 0.9},
          "nodule": {"effectiveness": nodule, "side": side},
          "mass": {"effectiveness": mass, "side": None}}


def test_a_group_is_the_mean_over_its_findings_then_over_seeds():
  found = summarise_measures([run(0.2, 0.4), run(0.6, 0.8, side=0.5)], GROUPS)
  tail = found["tail"]["effectiveness"]
  assert np.isclose(tail["mean"], 0.5) and np.isclose(tail["low"], 0.3)
  assert np.isclose(tail["high"], 0.7) and tail["seeds"] == 2
  assert found["tail"]["side"] == {"mean": 0.5, "low": 0.5, "high": 0.5, "seeds": 1}
  assert found["mass"]["effectiveness"]["low"] == 0.4 and "side" not in found["mass"]
  assert "medium" not in found and spread([None, float("nan")]) is None


def test_the_gain_over_no_remedy_is_paired_by_seed():
  methods = {"nothing": {0: run(0.2, 0.2), 2: run(0.0, 0.2)},
             "noise": {0: run(0.6, 0.8), 1: run(0.0, 0.0), 2: run(0.5, 0.9)},
             "cbdm": {1: run(0.5, 0.5)}}
  found = gains(methods, GROUPS)
  assert list(found) == ["noise"]   # the other has no seed in common
  tail = found["noise"]["tail"]
  assert np.isclose(tail["low"], 0.5) and np.isclose(tail["high"], 0.6) and tail["seeds"] == 2
  assert np.isclose(found["noise"]["mass"]["low"], 0.6) and found["noise"]["head"]["mean"] == 0
  assert "side" not in found["noise"] and gains({"noise": {0: run(1, 1)}}, GROUPS) == {}


def test_the_best_remedy_is_a_remedy():
  summaries = {name: summarise_measures([run(value, value)], GROUPS)
               for name, value in {"nothing": 0.9, "cbdm": 0.3, "noise": 0.6}.items()}
  assert best_remedy(summaries, "tail") == "noise"
  assert best_remedy(summaries, "medium") == ""


def test_memory_is_compared_between_the_most_and_the_fewest_steps():
  assert memory_ratio({"4": 100, "32": 125}) == 1.25 and memory_ratio({}) is None


def predictions(rng, status, right):
  """Probabilities that are right in a share of the rows, for each finding."""
  correct = rng.random(status.shape) < np.asarray(right)
  return np.where(correct, status, 1 - status).astype(float)


def test_the_gain_is_paired_and_over_the_best_without_synthetic_images():
  rng = np.random.default_rng(0)
  status = (rng.random((600, 3)) < 0.4).astype(np.int8)
  base = predictions(rng, status, [0.9, 0.6, 0.6])
  worse = predictions(rng, status, [0.9, 0.5, 0.5])
  better = base.copy()
  better[:300, 1:] = status[:300, 1:]   # half of what was wrong is right now
  found = summarise_recipes(
      {"real": [worse], "resampled": [base], "synthetic": [better]}, status, FINDINGS, GROUPS,
      without=("real", "resampled"), resamples=200)
  assert found["best"] == "resampled" and "resampled" not in found["gain"]
  tail = found["gain"]["synthetic"]["tail"]
  assert 0.15 < tail["low"] < tail["value"] < tail["high"] < 0.26
  assert found["gain"]["synthetic"]["head"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 600}
  value = group_statistics([base], status, FINDINGS, GROUPS)["tail"](np.ones((1, 600)))[0]
  assert np.isclose(found["recipes"]["resampled"]["tail"]["value"], value)
  assert abs(value - 0.6) < 0.04


def make_result():
  runs = {"nothing": {0: run(0.1, 0.1), 1: run(0.1, 0.1)},
          "noise": {0: run(0.7, 0.5), 1: run(0.8, 0.6)}}
  methods = {name: summarise_measures(list(of.values()), GROUPS) for name, of in runs.items()}
  return {"counts": {"effusion": 4000, "nodule": 19, "mass": 4}, "groups": GROUPS, "rarest": "mass",
          "methods": methods, "gain": gains(runs, GROUPS), "best": {"medium": "", "tail": "noise"},
          "head": {"0": {"equal": True}, "1": {"equal": None}},
          "curve": {"0": methods["nothing"], "10": methods["noise"]},
          "memory": {"4": 2**20, "32": 2**21}, "memory_ratio": 2.0,
          "meaning": {"nothing": "no remedy"},
          "downstream": {"best": "", "recipes": {}, "gain": {}}}


def test_the_table_has_every_method_and_the_rarest_finding_by_itself():
  text = markdown_longtail(make_result())
  assert "| noise | 0.65 (0.60–0.70) |" in text   # the tail
  assert "**mass, 4 training images**" in text and "| noise | 0.55 (0.50–0.60) |" in text
  assert "1 MiB at 4 sampler steps, 2 MiB at 32 sampler steps (2.00 times as much)" in text
  assert "| noise | 0.000 (0.000–0.000) | – | 0.55 (0.50–0.60) | 0.45 (0.40–0.50) |" in text
  assert "Best remedy of the tail: noise" in text and "of the medium" not in text
  assert "bit by bit equal (1 of 1 seeds)" in text
  assert "**medium**" not in text and "classifier" not in text


def test_a_head_that_differs_is_said_to():
  result = make_result()
  result["head"] = {"0": {"equal": True}, "1": {"equal": False}}
  assert "they differ in 1 of 2 seeds" in markdown_longtail(result)


def test_the_figure_shows_what_was_measured():
  empty = make_result() | {"methods": {}, "curve": {}}
  blank, drawn = figure_longtail(empty), figure_longtail(make_result())
  assert drawn.shape == blank.shape and drawn.dtype == np.uint8
  tail = (drawn == (60, 140, 80)).all(-1).sum() - (blank == (60, 140, 80)).all(-1).sum()
  assert tail > 1000   # two bars
