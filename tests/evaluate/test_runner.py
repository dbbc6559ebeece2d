import json

import jax
import numpy as np
import pytest
from conftest import SIZE, VOCABULARY

from cdjax.core.config import base_config
from cdjax.core.types import Posterior
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.phases import TrainStudies
from cdjax.evaluate.population import new_studies
from cdjax.evaluate.runner import evaluate_phantom
from cdjax.evaluate.subject import Subject
from cdjax.evaluate.table import format_table


@pytest.fixture(scope="module")
def config():
  c = base_config()
  c.data.resolution, c.data.vocabulary = SIZE, VOCABULARY
  c.evaluate.update(dict(interventions=10, composition=4, composition_10=2, diversity_questions=3,
                         diversity_answers=2, probe_steps=4, probe_images=24, bootstrap=20,
                         batch_size=8))
  return c


@pytest.fixture(scope="module")
def train_studies():
  x, findings = new_studies(jax.random.key(9), 24, studies=1, healthy_share=0.3,
                            vocabulary=VOCABULARY, size=SIZE)
  return TrainStudies(image=2 * x.reshape(24, SIZE, SIZE, 1) - 1,
                      findings=jax.tree.map(lambda leaf: leaf[:, 0], findings),
                      patient=np.arange(24))


def copying_subject():
  """Returns every image as it is, and encodes it by averaging."""

  def encode(x, findings):
    grid = x.reshape(len(x), 4, SIZE // 4, 4, SIZE // 4).mean((2, 4))[..., None]
    posterior = lambda mean: Posterior(mean, np.full_like(mean, -4.0))
    return {"id": posterior(grid[..., None]), "path": posterior(grid),
            "acq": posterior(grid.mean((1, 2)))}

  def judge(x):
    n, k = len(x), len(VOCABULARY)
    return {"finding": np.full((n, k), 0.9), "side": np.full((n, k, 2), 0.9),
            "zone": np.full((n, k, 3), 0.9), "severity": np.full((n, k), 0.5)}

  return Subject(
      counterfactual_fn=lambda key, x, findings, do: x,
      reconstruct_fn=lambda key, x, findings: x,
      swap_fn=lambda key, x, findings, other, theirs: x,
      encoded_fn=lambda key, x, findings, exact, do: exact,
      null_fn=lambda key, x, findings, residual: x,
      attention_fn=lambda x, findings: np.full((len(x), 4, 4, 2), 0.5),
      encode_fn=encode, judge_fn=judge)


def test_copying_is_measured_as_copying_and_resumes(config, train_studies, tmp_path):
  run = lambda subject, **kwargs: evaluate_phantom(
      subject, config=config, seed=3, train_studies=train_studies, workdir=tmp_path, **kwargs)
  done = []
  metrics = run(copying_subject(), progress=lambda name, now, total: done.append(now / total))
  assert done == sorted(done) and done[-1] == 1 and len(done) > 20
  for key in ("composition/l1", "composition/l1_10", "composition/l1_no_residual",
              "reversibility/l1", "counterfactual/gain_inside", "diversity/ratio"):
    assert metrics[key]["value"] == pytest.approx(0, abs=1e-6)
  assert metrics["healthy/left_inside"]["value"] == pytest.approx(1)
  assert metrics["ceiling/autoencoder/gain_inside"]["value"] > 1
  assert metrics["swap/psnr"]["value"] == pytest.approx(
      metrics["baseline/copy/swap/psnr"]["value"], abs=1e-3)
  assert 10 < metrics["baseline/pca256/psnr"]["value"] < 40
  assert metrics["interactions/attention/cardiomegaly/pathology"]["value"] == 0.5
  assert metrics["interactions/nats/identity 1"] == metrics["interactions/nats/pathology"]
  assert {text.split(":")[0] for text in metrics["left_out"]} == {"unseen/*", "single_study/*"}
  assert json.loads((tmp_path / "metrics-seed3.json").read_text()) == metrics
  table = format_table(metrics)
  assert all(key in table for key in metrics if key.startswith(("counterfactual/", "leakage/")))

  # A subject that cannot answer shows that nothing is asked again; another model is measured anew.
  (tmp_path / "evaluate-seed3" / "healthy.json").unlink()

  def fail(*args):
    raise RuntimeError("asked")

  silent = Subject(**{name: fail for name in copying_subject().__dict__})
  with pytest.raises(RuntimeError, match="asked"):
    run(silent)                                      # the phase whose file is gone
  again = run(copying_subject())
  assert {k: v for k, v in again.items() if "seconds" not in k} == {
      k: v for k, v in metrics.items() if "seconds" not in k}
  assert run(silent) == again
  with pytest.raises(RuntimeError, match="asked"):
    run(silent, fingerprint="another model")


def test_some_phases_alone_give_what_all_give(config, train_studies, tmp_path):
  run = lambda **kwargs: evaluate_phantom(
      copying_subject(), config=some, seed=3, train_studies=train_studies, **kwargs)
  some = base_config()
  some.update(config)
  some.evaluate.phases = ("severity", "multi")
  alone = run(workdir=tmp_path)
  stages = {key.split("/")[-2] for key in alone if key.endswith(("spearman", "multi/finding"))}
  assert stages == {"severity", "multi"} and "counterfactual/gain_inside" not in alone
  assert "counterfactual/*: not among config.evaluate.phases" in alone["left_out"]
  kept = (tmp_path / "evaluate-seed3" / "severity.json").stat().st_mtime_ns
  some.evaluate.phases = ()
  everything = run(workdir=tmp_path)
  assert (tmp_path / "evaluate-seed3" / "severity.json").stat().st_mtime_ns == kept
  assert {k: v for k, v in alone.items() if "/" in k and "seconds" not in k}.items() <= (
      everything.items())
  some.evaluate.phases = ("severty",)
  with pytest.raises(ValueError, match="names 'severty'; expected some of autoencoder, "):
    run()


def test_a_baseline_with_answers_only_leaves_the_rest_out(config, train_studies):
  metrics = evaluate_phantom(Subject(counterfactual_fn=lambda key, x, findings, do: x),
                             config=config, seed=4, train_studies=train_studies)
  assert "counterfactual/gain_inside" in metrics and "baseline/pca256/psnr" in metrics
  assert not any(key.startswith(("leakage/", "composition/", "autoencoder/", "multi/"))
                 for key in metrics)
  stated = " ".join(metrics["left_out"])
  for name in ("null_fn", "encode_fn", "judge_fn", "swap_fn"):
    assert name in stated


def test_batches_have_one_shape_and_rows_stay_in_order():
  shapes = []

  def fn(key, x):
    shapes.append(x.shape)
    return x * 2

  out = map_batches(fn, np.arange(10.0), batch_size=4, key=jax.random.key(0))
  np.testing.assert_array_equal(out, 2 * np.arange(10.0))
  assert set(shapes) == {(4,)}
  with pytest.raises(ValueError, match="first axes"):
    map_batches(lambda x, y: x, np.zeros(3), np.zeros(4), batch_size=2)
