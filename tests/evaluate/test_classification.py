import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from cdjax.core.types import ABSENT, PRESENT, UNKNOWN
from cdjax.evaluate import classification
from cdjax.evaluate.bootstrap import by_patient, interval, mean
from cdjax.evaluate.long_tail import average, classification_metrics, tiers


def sklearn_ece(y, p, w):
  """From scikit-learn's reliability curve; whole weights become repeated rows."""
  y, p = np.repeat(y, w), np.repeat(p, w)
  true, predicted = calibration_curve(y, p, n_bins=15)
  bins = np.searchsorted(np.linspace(0, 1, 16)[1:-1], p)
  counts = np.bincount(bins, minlength=15)
  return (np.abs(true - predicted) * counts[counts > 0]).sum() / len(y)


REFERENCES = {
    "auroc": lambda y, p, w: metrics.roc_auc_score(y, p, sample_weight=w),
    "average_precision": lambda y, p, w: metrics.average_precision_score(y, p, sample_weight=w),
    "balanced_accuracy": lambda y, p, w: metrics.balanced_accuracy_score(
        y, p >= 0.5, sample_weight=w),
    "f1": lambda y, p, w: metrics.f1_score(y, p >= 0.5, sample_weight=w),
    "kappa": lambda y, p, w: metrics.cohen_kappa_score(y, p >= 0.5, sample_weight=w),
    "calibration_error": sklearn_ece,
}


def rows(n, *, seed, ties=False):
  """Probabilities, status with unknown rows, and whole weights some of which are zero."""
  generator = np.random.default_rng(seed)
  status = generator.choice([PRESENT, ABSENT, UNKNOWN], n, p=[0.25, 0.6, 0.15])
  p = np.clip(0.45 + 0.2 * (status == PRESENT) + 0.2 * generator.standard_normal(n), 0, 1)
  if ties:
    p = np.round(p * 30) / 30                  # every second one on the edge of a bin
  return p, status, generator.integers(0, 4, n)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", REFERENCES)
def test_values_are_scikit_learns_under_any_weights(name, ties):
  p, status, weights = rows(200, seed=1, ties=ties)
  known = status != UNKNOWN
  statistic = classification.METRICS[name](p, status)
  got = statistic(np.stack([np.ones(200), weights.astype(float)]))
  ones = np.ones(known.sum(), int)
  expected = [REFERENCES[name](status[known], p[known], w) for w in (ones, weights[known])]
  np.testing.assert_allclose(got, expected, rtol=1e-9)
  assert abs(expected[0] - expected[1]) > 1e-4
  assert set(REFERENCES) == set(classification.METRICS)


def test_what_unknown_rows_say_does_not_matter():
  p, status, _ = rows(100, seed=2)
  changed = np.where(status == UNKNOWN, np.nan, p)
  for make in classification.METRICS.values():
    one = np.ones((1, 100))
    np.testing.assert_array_equal(make(changed, status)(one), make(p, status)(one))


def test_undefined_is_nan_and_not_a_number_that_looks_bad():
  p, one = np.array([0.2, 0.9]), np.ones((1, 2))
  no_positive, no_label = np.array([ABSENT, ABSENT]), np.array([UNKNOWN, UNKNOWN])
  for name in ("auroc", "average_precision", "balanced_accuracy", "f1"):
    assert np.isnan(classification.METRICS[name](p, no_positive)(one)).all(), name
  for name, make in classification.METRICS.items():
    assert np.isnan(make(p, no_label)(one)).all(), name
  missed = np.array([PRESENT, ABSENT])
  assert classification.f1(np.array([0.1, 0.2]), missed)(one)[0] == 0.0


def test_a_patients_images_come_and_go_together():
  generator = np.random.default_rng(3)
  patient = np.repeat(np.arange(50), 8)
  values = np.repeat(generator.standard_normal(50), 8)     # eight copies say no more than one
  by_image = interval(mean(values), 400, resamples=2000, seed=0)
  expanded, patients = by_patient(mean(values), patient)
  assert patients == 50
  got = interval(expanded, patients, resamples=2000, seed=0)
  assert got["value"] == pytest.approx(values.mean(), rel=1e-12)
  width = lambda i: i["high"] - i["low"]
  assert width(got) == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.1)
  assert width(got) / width(by_image) == pytest.approx(np.sqrt(8), rel=0.12)


def test_a_patients_weight_is_that_of_each_of_its_images():
  expanded, patients = by_patient(mean([1.0, 10.0, 100.0, 1000.0]), ["b", "a", "c", "b"])
  assert patients == 3
  weights = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 2, 0]])        # of a, b and c
  np.testing.assert_allclose(expanded(weights), [10, 500.5, 100, (10 + 2 * 1001) / 5])


def test_expanding_in_parts_changes_nothing(monkeypatch):
  p, status, _ = rows(60, seed=4)
  statistic = classification.auroc(p, status)
  patient = np.array([f"p{i % 17}" for i in range(60)])
  weights = np.random.default_rng(0).integers(0, 3, (23, 17)).astype(float)
  whole = by_patient(statistic, patient)[0](weights)
  monkeypatch.setattr("cdjax.evaluate.bootstrap._WEIGHTS_AT_ONCE", 120)
  np.testing.assert_array_equal(by_patient(statistic, patient)[0](weights), whole)


def test_macro_and_tiers_are_means_of_the_findings():
  generator = np.random.default_rng(5)
  status = (generator.random((120, 4)) < 0.3).astype(np.int8)
  status[:, 3] = ABSENT                                    # never seen: left out of averages
  probability = np.clip(0.4 + 0.2 * status + 0.2 * generator.standard_normal((120, 4)), 0, 1)
  tier = tiers([5000, 1001, 500, 3])
  assert tier.tolist() == ["head", "head", "medium", "tail"]
  got = classification_metrics(
      probability, status, patient=np.arange(120) // 2, findings=("a", "b", "c", "d"), tier=tier,
      resamples=200, seed=0)
  value = lambda key: got[key]["value"]
  for metric in ("auroc", "average_precision", "f1"):
    assert np.isnan(value(f"{metric}/d")) and np.isnan(value(f"{metric}/tail"))
    assert value(f"{metric}/macro") == pytest.approx(
        np.mean([value(f"{metric}/{name}") for name in "abc"]))
    assert value(f"{metric}/head") == pytest.approx(
        (value(f"{metric}/a") + value(f"{metric}/b")) / 2)
    assert value(f"{metric}/medium") == pytest.approx(value(f"{metric}/c"))
  assert value("auroc/a") == pytest.approx(metrics.roc_auc_score(status[:, 0], probability[:, 0]))
  assert got["auroc/macro"]["low"] < value("auroc/macro") < got["auroc/macro"]["high"]
  assert got["auroc/macro"]["n"] == 60
  assert np.isnan(average([lambda w: np.full(len(w), np.nan)])(np.ones((2, 3)))).all()


def test_edges_of_the_tiers():
  assert tiers([1001, 1000, 100, 99]).tolist() == ["head", "medium", "medium", "tail"]
  assert tiers([21, 20, 4], head=20, tail=5).tolist() == ["head", "medium", "tail"]
  with pytest.raises(ValueError, match="tail=30 is above head=20"):
    tiers([1], head=20, tail=30)


def test_errors_name_the_shapes():
  with pytest.raises(ValueError, match=r"\(3,\) for labels of shape \(4,\)"):
    classification.auroc(np.zeros(3), np.zeros(4))
  with pytest.raises(ValueError, match="1 scores of rows with a known label are not finite"):
    classification.auroc(np.array([np.nan, 1.0]), np.array([1, 0]))
  with pytest.raises(ValueError, match=r"-2\.0 to 3\.0; expected \[0, 1\], not logits"):
    classification.calibration_error(np.array([-2.0, 3.0]), np.array([0, 1]))
  arguments = {"patient": np.arange(3), "findings": ("a", "b")}
  with pytest.raises(ValueError, match=r"\(3, 1\) .* 3 patients' rows and 2 findings"):
    classification_metrics(np.zeros((3, 1)), np.zeros((3, 2)), **arguments)
  with pytest.raises(ValueError, match="tiers"):
    classification_metrics(np.zeros((3, 2)), np.zeros((3, 2)), tier=["head", "rare"], **arguments)
