"""Seven corruptions of a perfect generator × the measures, each with the sign it must move in.

The perfect generator is the phantom itself: new patients for the measures of sets, the exact
counterfactual for those of pairs. What a measure does by chance is read off six draws of it, each
against other real images: a corruption moves a measure where it leaves their mean by five standard
deviations in the direction that theory gives.
"""

import functools

import jax
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cdjax.data.phantom import balanced_batch
from cdjax.evaluate import classification, features, image_metrics
from cdjax.evaluate.frechet import frechet_distance, moments_of
from cdjax.evaluate.kernel import kernel_distance
from cdjax.evaluate.manifold import manifold_metrics
from cdjax.evaluate.ms_ssim import diversity
from cdjax.evaluate.privacy import copies, membership_scores, neighbours
from cdjax.evaluate.questions import make_questions
from cdjax.evaluate.reidentification import nearest_is_own
from cdjax.models.classifier import make_classifier

VOCABULARY = ("consolidation", "pleural_effusion", "cardiomegaly")
SIZE, N, TRAIN, PAIRS, DRAWS = 32, 192, 1024, 128, 6

# + rises, - falls, 0 stays within four standard deviations, = keeps every bit, and a dot where no
# sign follows from the measure's definition (copies still show what they show; noise lets
# the patient be found while it is weaker than what tells patients apart).
MEASURES = ("frechet", "kernel", "precision", "recall", "density", "coverage", "ms_ssim", "copies",
            "membership", "auroc", "ap", "balanced", "own_patient", "l1", "ssim")
SIGNS = {
    "noise":             "+ + - . - - - 0 0 - . . . + -",
    "blur":              "+ + - - - - + 0 0 . . - - + -",
    "contrast":          "+ + - . - - . 0 0 0 0 - - + -",
    "repeated":          "+ + . - . - + 0 0 - - - - + -",
    "near_copies":       "0 0 0 0 0 0 0 + + . . . = = =",
    "findings_shuffled": "= = = = = = = = = - - - = = =",
    "patients_shuffled": "= = = = = = = = = = = = - + -",
}


@functools.cache
def _extractor():
  """The project's classifier with random weights: not one feature is about radiographs."""
  model = make_classifier({"block_out_channels": (8, 16), "layers_per_block": 1,
                           "norm_num_groups": 4, "dropout": 0.0, "dtype": "float32"}, 3)
  x = np.zeros((1, SIZE, SIZE, 1), np.float32)
  params = jax.jit(model.init)(jax.random.key(0), x)["params"]
  return features.classifier_extractor(model, params, size=SIZE)


@functools.cache
def _population():
  """Images `[M, S, S]` in [0, 1] and present findings `[M, K]` of new patients."""
  x, f = balanced_batch(jax.random.key(7), TRAIN + (2 * DRAWS + 1) * N, vocabulary=VOCABULARY,
                        size=SIZE)
  return image_metrics.from_model(x), np.asarray(f.present)


def _rows(start, n=N):
  return slice(start, start + n)


@functools.cache
def _judge():
  """Ridge regression from pixels to findings on training patients, `[N, S, S]` → `[N, K]`."""
  x, present = (part[:TRAIN] for part in _population())
  flat = x.reshape(TRAIN, -1)
  middle = flat.mean(0)
  gram = (flat - middle) @ (flat - middle).T + 10.0 * np.eye(TRAIN)
  weights = (flat - middle).T @ np.linalg.solve(gram, present - 0.5)
  return lambda images: 0.5 + (images.reshape(len(images), -1) - middle) @ weights


def measure(real, images, present, factual, answers):
  """All measures of one generator.

  Args:
    real: `[N, S, S]`, of other patients.
    images: `[N, S, S]` new patients.
    present: `[N, K]` bool, the findings that were asked for.
    factual: `[P, S, S]`, images of patients.
    answers: `[P, S, S]`, counterfactuals of the same.
  """
  x, _ = _population()
  train, held_out = x[:TRAIN], x[_rows(TRAIN)]
  a, b = (features.extract(_extractor(), part) for part in (real, images))
  flat = lambda part: part.reshape(len(part), -1)
  found = neighbours(flat(images), flat(train), flat(held_out))
  attack = membership_scores(flat(train[:N]), flat(held_out), flat(images))
  scores, one = _judge()(images), np.ones((1, N))
  by_finding = lambda metric: np.mean([
      metric(scores[:, k], present[:, k].astype(int))(one)[0] for k in range(len(VOCABULARY))])
  values = {
      "frechet": frechet_distance(moments_of(a), moments_of(b)),
      "kernel": kernel_distance(a, b, subsets=10, subset_size=N // 2, seed=0).mean,
      **manifold_metrics(a, b),
      "ms_ssim": diversity(images, pairs=300, seed=0)["mean"],
      "copies": copies(found, quantile=0.05).mean(),
      "membership": classification.auroc(*attack)(np.ones((1, 2 * N)))[0],
      "auroc": by_finding(classification.auroc),
      "ap": by_finding(classification.average_precision),
      "balanced": by_finding(classification.balanced_accuracy),
      "own_patient": nearest_is_own(flat(answers), flat(factual)).mean(),
      "l1": np.abs(answers - factual).mean(),
      "ssim": image_metrics.ssim(answers, factual).mean(),
  }
  assert tuple(sorted(values)) == tuple(sorted(MEASURES))
  return values


def _corruptions(images, present, factual, answers):
  """Each corruption of the same four arrays; of those of pairs too, where it is one of images."""
  generator = np.random.default_rng(0)
  x, known = _population()

  def noisy(part, sd):
    return np.clip(part + sd * generator.standard_normal(part.shape), 0, 1).astype(np.float32)

  blurred = lambda part: gaussian_filter(part, (0, 2, 2))
  flat = lambda part: 0.5 + 0.6 * (part - 0.5)
  one = lambda part: np.repeat(part[:1], len(part), axis=0)
  return {
      "noise": (noisy(images, 0.2), present, factual, noisy(answers, 0.2)),
      "blur": (blurred(images), present, factual, blurred(answers)),
      "contrast": (flat(images), present, factual, flat(answers)),
      "repeated": (one(images), present, factual, one(answers)),
      "near_copies": (noisy(x[:N], 0.01), known[:N], factual, answers),
      "findings_shuffled": (images, generator.permutation(present), factual, answers),
      "patients_shuffled": (images, present, factual, generator.permutation(answers)),
  }


@pytest.fixture(scope="module")
def measured():
  """Values of six perfect draws `{measure: [6]}`, and of each corruption of the first."""
  x, present = _population()
  q = make_questions(jax.random.key(8), PAIRS * DRAWS, vocabulary=VOCABULARY, size=SIZE)
  draws = []
  for draw in range(DRAWS):
    real, own = (_rows(TRAIN + (2 * draw + i) * N) for i in (1, 2))
    pairs = _rows(draw * PAIRS, PAIRS)
    draws.append((x[real], x[own], present[own], np.asarray(q.x)[pairs],
                  np.asarray(q.exact)[pairs]))
  perfect = [measure(*draw) for draw in draws]
  corrupted = {name: measure(draws[0][0], *arrays)
               for name, arrays in _corruptions(*draws[0][1:]).items()}
  return {name: np.array([values[name] for values in perfect]) for name in MEASURES}, corrupted


@pytest.mark.parametrize("corruption", SIGNS)
def test_corruptions_move_the_measures_that_they_must(measured, corruption):
  perfect, corrupted = measured
  faults = []
  for name, sign in zip(MEASURES, SIGNS[corruption].split(), strict=True):
    draws, value = perfect[name], corrupted[corruption][name]
    z = (value - draws.mean()) / draws.std(ddof=1)
    right = {"+": z > 5, "-": z < -5, "0": abs(z) < 4, "=": value == draws[0], ".": True}[sign]
    if not right:
      faults.append(f"{name}: {sign} expected, {value:.4f} is {z:+.1f} sd from {draws.mean():.4f}")
  assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("name", "reference", "tolerance"), [
    ("kernel", 0.0, 0.004), ("density", 1.0, 0.06), ("coverage", 1 - 2.0**-5, 0.012),
    ("copies", 0.05, 0.03), ("membership", 0.5, 0.03)])
def test_real_against_real_stands_at_the_reference(measured, name, reference, tolerance):
  assert measured[0][name].mean() == pytest.approx(reference, abs=tolerance)


def test_precision_and_recall_agree_where_the_sets_are_exchangeable(measured):
  perfect, _ = measured
  difference = perfect["precision"] - perfect["recall"]
  assert abs(difference.mean()) < 3 * difference.std(ddof=1) / np.sqrt(DRAWS) + 1e-3
