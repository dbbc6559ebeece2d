"""What each cell of the long-tail benchmark depends on, and what not."""

import pytest

from cdjax.core.config import base_config, load_config
from cdjax.evaluate.longtail import Benchmark
from cdjax.evaluate.longtail_keys import changed, stage_key

CONFIG = "configs/longtail.py:tiny"


def keys(**changes):
  config = load_config(CONFIG)
  with config.unlocked():
    config.update_from_flattened_dict({name.replace("__", "."): value
                                       for name, value in changes.items()})
  return {cell.name: cell.key for cell in Benchmark(config, "nowhere").cells()}


def thrown_away(**changes):
  before, after = keys(), keys(**changes)
  return {name for name in before if before[name] != after[name]}


def test_keys_with_their_default_do_not_count():
  config = base_config()
  assert changed(config, "data", "noise") == {}
  config.noise.steps, config.data.resolution = 7, 32
  assert changed(config, "noise", "data.resolution") == {"noise.steps": 7, "data.resolution": 32}
  assert changed(config, "data.phantom", "text") == {}


@pytest.mark.parametrize("changes", [
    {"longtail__seeds": 2}, {"longtail__bootstrap": 5}, {"longtail__curve_steps": (0, 2, 4)},
    {"data__num_workers": 2}, {"autoencoder__log_every": 1}, {"name": "another"},
    {"evaluate__batch_size": 8}, {"verifier__num_train_steps": 3}])
def test_what_changes_no_result_throws_nothing_away(changes):
  assert thrown_away(**changes) == set()


def test_classifiers_of_real_images_depend_on_data_and_classifier_alone():
  real = {f"classify/{name}-0" for name in ("real", "resampled", "balanced_loss",
                                            "resampled_balanced")}
  for changes in ({"autoencoder__num_train_steps": 7}, {"diffusion__num_train_steps": 7},
                  {"noise__steps": 3}, {"judge__num_train_steps": 7}, {"longtail__fill": 25},
                  {"counterfactual__num_steps": 5}):
    assert not real & thrown_away(**changes)
  assert real < thrown_away(classifier__num_train_steps=7) & thrown_away(
      data__phantom__seed=3) & thrown_away(longtail__test_images=64)


def test_a_cell_depends_on_what_makes_its_images():
  noise = thrown_away(noise__steps=3)
  assert {"measure/noise_mixed-0", "classify/with_noise_mixed-0", "classify/pretrained-0"} < noise
  # Of these the number of steps is the benchmark's own, or there are no noises.
  assert not {"measure/mixed_starts-0", "measure/nothing-0", "classify/with_nothing-0",
              "curve/0"} & noise
  judge = thrown_away(judge__num_train_steps=7)
  assert {name.partition("/")[0] for name in judge} == {"measure", "curve"}
  sampling = thrown_away(longtail__class_sampling="effective_number")
  assert "measure/sampling_noise_mixed-0" in sampling and "measure/nothing-0" not in sampling
  assert {"classify/resampled-0", "classify/with_class_sampling_resampled_balanced-0"} < sampling
  assert thrown_away(longtail__cbdm_weight=2.0) == {
      "measure/cbdm-0", "classify/with_cbdm_resampled_balanced-0"}
  fill = thrown_away(longtail__fill=25)
  assert fill and all(name.startswith(("classify/with", "classify/pretrained")) for name in fill)
  tail = thrown_away(longtail__tail=10)
  assert tail == {"curve/0", "curve/2"}
  assert thrown_away(noise__start="random") <= noise | {"measure/mixed_starts-0"}


def test_methods_with_and_without_noises_never_share_a_key():
  found = keys()
  plain = [found[f"measure/{name}-0"] for name in ("nothing", "noise_mixed", "mixed_starts")]
  assert all(a != b for i, a in enumerate(plain) for b in plain[:i])


def test_runs_with_the_same_stage_share_it():
  config = load_config(CONFIG)
  other = config.copy_and_resolve_references()
  other.seed, other.diffusion.num_train_steps = 1, 9
  same = lambda stage: stage_key(config, stage) == stage_key(other, stage)
  assert [same(stage) for stage in ("data", "judge", "autoencoder", "diffusion")] == [
      True, True, False, False]
  other.seed, other.data.phantom.patients = 0, 41
  assert [same(stage) for stage in ("data", "judge", "autoencoder")] == [False, True, False]


def test_images_depend_on_the_classifier_where_the_autoencoder_was_told_what_it_sees():
  told = {"autoencoder__loss__perceptual": 2.0}
  before = keys(**told)
  after = keys(**told, classifier__num_train_steps=7)
  assert before["measure/nothing-0"] != after["measure/nothing-0"]
  assert before["memory"] != after["memory"]
  assert "measure/nothing-0" not in thrown_away(classifier__num_train_steps=7)
