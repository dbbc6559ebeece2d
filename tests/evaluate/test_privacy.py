import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from cdjax.evaluate.privacy import (
    check_other_patients,
    copies,
    membership_scores,
    neighbours,
    privacy_metrics,
)


def images(n, *, seed, d=10):
  return np.random.default_rng(seed).standard_normal((n, d))


def distances(a, b):
  return NearestNeighbors(n_neighbors=1).fit(b).kneighbors(a)[0][:, 0]


TRAIN, HELD_OUT, NEW = images(300, seed=1), images(300, seed=2), images(300, seed=3)
# Every third synthetic image is a training image with a little noise.
COPYING = NEW.copy()
COPYING[::3] = TRAIN[:100] + 0.05 * images(100, seed=4)


def test_distances_and_attack_are_scikit_learns():
  found = neighbours(COPYING, TRAIN, HELD_OUT, chunk=64)
  np.testing.assert_allclose(found.synthetic, distances(COPYING, TRAIN), rtol=1e-9)
  np.testing.assert_allclose(found.held_out, distances(HELD_OUT, TRAIN), rtol=1e-9)
  np.testing.assert_array_equal(found.training[::3], np.arange(100))
  got = privacy_metrics(COPYING, TRAIN, HELD_OUT, space="pixel", quantile=0.02, resamples=50)
  expected = roc_auc_score(np.repeat([1, 0], 300), -np.concatenate(
      [distances(TRAIN, COPYING), distances(HELD_OUT, COPYING)]))
  assert got["privacy/pixel/membership_auc"]["value"] == pytest.approx(expected, rel=1e-9)
  threshold = np.quantile(distances(HELD_OUT, TRAIN), 0.02)
  assert got["privacy/pixel/copies/q0.02"]["value"] == pytest.approx(
      (distances(COPYING, TRAIN) < threshold).mean())
  assert got["privacy/pixel/nearest_held_out"]["value"] == pytest.approx(
      distances(HELD_OUT, TRAIN).mean())


def test_copies_are_found_and_new_images_are_not():
  copying = copies(neighbours(COPYING, TRAIN, HELD_OUT), quantile=0.02)
  assert copying[::3].all()
  assert np.delete(copying, np.s_[::3]).mean() < 0.06
  rates = [copies(neighbours(images(300, seed=s), TRAIN, HELD_OUT), quantile=0.05).mean()
           for s in range(10, 30)]
  # New images are called copies at the rate of the quantile; 300 held-out ones set it to ± 1.3 %.
  assert np.mean(rates) == pytest.approx(0.05, abs=0.025)


def test_attack_is_at_chance_for_new_images():
  key = "privacy/pixel/membership_auc"
  new = privacy_metrics(NEW, TRAIN, HELD_OUT, space="pixel", resamples=300)[key]
  assert new["low"] < 0.5 < new["high"]
  copying = privacy_metrics(COPYING, TRAIN, HELD_OUT, space="pixel", resamples=300)[key]
  # A third of the members has a score that no non-member has: ½ + ½ · ⅓.
  assert copying["value"] == pytest.approx(2 / 3, abs=0.05)
  assert copying["low"] > 0.55


def test_patients_are_resampled_and_must_not_be_shared():
  key = "privacy/pixel/membership_auc"
  patients = {"train_patient": np.arange(300) // 4, "held_out_patient": 1000 + np.arange(300) // 3}
  arrays = [np.repeat(x, n, axis=0) for x, n in ((COPYING[:30], 4), (TRAIN[:75], 4),
                                                 (HELD_OUT[:100], 3))]
  got = privacy_metrics(*arrays, space="pixel", resamples=400, **patients)[key]
  plain = privacy_metrics(*arrays, space="pixel", resamples=400)[key]
  assert (got["n"], plain["n"]) == (175, 600)
  assert got["value"] == plain["value"]
  # Repeats of an image say nothing new: the interval is that of 175 images.
  ratio = (got["high"] - got["low"]) / (plain["high"] - plain["low"])
  assert ratio == pytest.approx(np.sqrt(3.5), rel=0.2)
  # Four answers of one patient are one draw, not four.
  key = "privacy/pixel/nearest_synthetic"
  made = privacy_metrics(*arrays, space="pixel", resamples=400,
                         synthetic_patient=np.arange(120) // 4)[key]
  alone = privacy_metrics(*arrays, space="pixel", resamples=400)[key]
  assert (made["n"], alone["n"]) == (30, 120) and made["value"] == pytest.approx(alone["value"])
  ratio = (made["high"] - made["low"]) / (alone["high"] - alone["low"])
  assert ratio == pytest.approx(2, rel=0.25)
  with pytest.raises(ValueError, match="3 patients for 120 synthetic images; expected one each"):
    privacy_metrics(*arrays, space="pixel", synthetic_patient=np.arange(3))
  with pytest.raises(ValueError, match=r"1 patients are in training and held out: \[7\]"):
    privacy_metrics(*arrays, space="pixel", train_patient=np.arange(300) // 4,
                    held_out_patient=np.full(300, 7))
  with pytest.raises(ValueError, match="expected both or neither"):
    privacy_metrics(*arrays, space="pixel", train_patient=np.arange(300))
  with pytest.raises(ValueError, match="300 and 2 patients for 300 training and 300 held-out"):
    privacy_metrics(*arrays, space="pixel", train_patient=np.arange(300),
                    held_out_patient=np.array([400, 401]))


def test_scores_name_members_first():
  scores, status = membership_scores(TRAIN[:4], HELD_OUT[:3], TRAIN[:4])
  assert status.tolist() == [1] * 4 + [0] * 3
  np.testing.assert_allclose(scores[:4], 0, atol=1e-6)
  assert (scores[4:] < -0.1).all()


def test_errors_say_what_would_be_right():
  found = neighbours(NEW, TRAIN, HELD_OUT[:50])
  with pytest.raises(ValueError, match=r"50 held-out images have no quantile 0\.01; .* least 100"):
    copies(found)
  assert copies(found, quantile=0.02).shape == (300,)
  with pytest.raises(ValueError, match="quantile=0; expected above 0"):
    copies(found, quantile=0)
  with pytest.raises(ValueError, match=r"2 patients are in training and held out: \['b', 'c'\]"):
    check_other_patients(["a", "b", "c", "b"], ["c", "b", "d"])
  check_other_patients(["a", "b"], ["c", "d"])
