"""Rates by the judge, the time of a noise, the distance of copies, and who may work at a time."""

import fcntl
import types

import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.core.types import Posterior
from cdjax.evaluate import longtail_generators
from cdjax.evaluate.longtail_generators import phantom_threshold
from cdjax.evaluate.longtail_measures import Judges, _over, _rates, only_finding
from cdjax.evaluate.longtail_runs import exclusive

VOCABULARY = ("pleural_effusion", "nodule", "cardiomegaly")
SIZE = 32


def judges(finding, side):
  """A judge that reads an image's number from its grey value."""
  def judge_fn(x):
    rows = np.rint(50 * (np.asarray(x)[:, 0, 0, 0] + 1)).astype(int)
    return {"finding": np.array(finding, np.float32)[rows],
            "side": np.array(side, np.float32)[rows][:, None].repeat(3, 1)}
  return Judges(types.SimpleNamespace(judge_fn=judge_fn), None)


def numbered(n):
  return np.arange(n)[:, None, None] / 100 * np.ones((n, SIZE, SIZE))


def test_the_side_counts_among_all_and_among_those_in_which_the_finding_is_seen():
  asked = only_finding(0, 4, 3)
  asked.side[:, 0] = 1
  looks = judges([[0.9, 0, 0], [0.9, 0, 0], [0.1, 0, 0], [0.1, 0, 0]],
                 [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]])
  assert _rates(looks, numbered(4), asked=asked, k=0, vocabulary=VOCABULARY) == {
      "effectiveness": 0.5, "side": 0.25, "side_seen": 0.5}
  assert _rates(looks, numbered(4)[2:], asked=only_finding(0, 2, 3), k=0,
                vocabulary=VOCABULARY)["side_seen"] is None
  assert _rates(looks, numbered(4), asked=only_finding(2, 4, 3), k=2, vocabulary=VOCABULARY) == {
      "effectiveness": 0.0, "side": None, "side_seen": None}


def test_what_stands_over_nothing_is_not_defined():
  assert _over(0.5, 0.25) == 2.0
  assert _over(0.5, 0.0) is None and _over(None, 1.0) is None and _over(1.0, None) is None


@pytest.mark.parametrize("there, told, seconds", [
    (False, (10, 12, 15), 0.625),   # the first one compiles
    (False, (10,), 2.5), (True, (0, 9, 11, 13), 0.5), (True, (0,), None)])
def test_a_noise_takes_its_own_time(tmp_path, monkeypatch, there, told, seconds):
  clock = iter((0, *told))
  monkeypatch.setattr(longtail_generators.time, "perf_counter", lambda: next(clock))

  def optimise_bank(*of, on_noises, **options):
    for _ in told:
      on_noises(4)
    return "bank"

  monkeypatch.setattr(longtail_generators, "optimise_bank", optimise_bank)
  if there:
    longtail_generators.bank_path(tmp_path, "nodule").touch()
  config = base_config()
  config.noise.batch_size = 4
  ready = types.SimpleNamespace(trained=types.SimpleNamespace(config=config), space=None)
  assert longtail_generators._optimise(ready, "nodule", tmp_path, 4, None) == ("bank", seconds)


def test_a_copy_is_nearer_than_all_but_a_hundredth_of_new_cases():
  config = base_config()
  config.data.resolution = SIZE
  stats = types.SimpleNamespace(path_mean=1.0, path_std=2.0)
  trained = types.SimpleNamespace(vocabulary=VOCABULARY, config=config,
                                  params=types.SimpleNamespace(stats=stats))
  seen = []

  def encode_fn(x, findings):
    assert findings.present.sum(-1).tolist() == [1] * len(x) and findings.present[:, 1].all()
    seen.append(np.asarray(x))
    mean = np.asarray(x)[:, ::8, ::8]
    return {"path": Posterior(mean, mean)}

  def nearest_real(path):
    assert path.min() >= -1 and path.max() <= 0   # of [-1, 1], standardised
    return np.arange(len(path))[::-1], None

  generator = types.SimpleNamespace(trained=trained, references=types.SimpleNamespace(k=1),
                                    nearest_real=nearest_real)
  found = phantom_threshold(types.SimpleNamespace(encode_fn=encode_fn), generator)
  assert np.isclose(found, 0.01 * 299)
  images = np.concatenate(seen)
  assert len(np.unique(images.reshape(len(images), -1), axis=0)) >= 300   # as many patients


def test_one_works_and_the_others_wait(tmp_path):
  path = tmp_path / "locks" / "a"
  take = lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  with exclusive(path), path.open("a") as other:
    with pytest.raises(BlockingIOError):
      take(other)
    with exclusive(tmp_path / "locks" / "b"):
      pass   # of another name
  with path.open("a") as other:
    take(other)
