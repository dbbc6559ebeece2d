"""The renderer: causes act where and as much as they should, and nowhere else."""

import functools

import jax
import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.data import phantom
from cdjax.data.phantom import ALL, PHANTOM_FINDINGS

SIZE, BATCH = 64, 4
NODULE = ("nodule",)
SIDE = {"left": 1, "right": 2, "both": 3}
ZONE = {"upper": 1, "mid": 2, "lower": 4}


@jax.jit
def recorded_and_ideal(anatomy, pathology, acquisition):
  """Images with and without noise, `[B, S, S]` each, in one compilation."""
  def one(a, p, q):
    draw = lambda noise: phantom.render(a, p, q, size=SIZE, vocabulary=ALL, noise=noise)
    return draw(True), draw(False)

  return jax.vmap(one)(anatomy, pathology, acquisition)


def studies(seed=0):
  keys = jax.random.split(jax.random.key(seed), BATCH)
  draw = lambda k: (phantom.sample_anatomy(k), phantom.sample_acquisition(k))
  return jax.jit(jax.vmap(draw))(keys)


def findings(severity=0.7, vocabulary=ALL, **places):
  """`FindingsArrays` `[B, K]` with these findings: name=(side, zone) or None for neither."""
  shape = (BATCH, len(vocabulary))
  status, side, zone = (np.zeros(shape, np.int8) for _ in range(3))
  grade = np.full(shape, -1, np.float32)
  for name, place in places.items():
    k = vocabulary.index(name)
    status[:, k], grade[:, k] = 1, severity
    side[:, k], zone[:, k] = SIDE.get((place or " ")[0], 0), ZONE.get((place or "  ")[1], 0)
  return FindingsArrays(status=status, severity=grade, side=side, zone=zone)


@functools.partial(jax.jit, static_argnames="vocabulary")
def pathology(arrays, vocabulary=ALL):
  keys = jax.random.split(jax.random.key(1), BATCH)
  draw = lambda f, k: phantom.pathology_from_findings(f, k, vocabulary=vocabulary)
  return jax.vmap(draw)(arrays, keys)


def first_place(name, side=None):
  spec = PHANTOM_FINDINGS[name]
  return (side or (spec.sides or ("",))[0], (spec.zones or ("",))[0])


@pytest.fixture(scope="module")
def thorax():
  anatomy, acquisition = studies()
  noisy, clean = recorded_and_ideal(anatomy, pathology(findings()), acquisition)
  return anatomy, acquisition, np.asarray(noisy), np.asarray(clean)


def change(thorax, arrays):
  """Noise-free difference to the healthy image, `[B, S, S]`."""
  anatomy, acquisition, _, healthy = thorax
  _, clean = recorded_and_ideal(anatomy, pathology(arrays), acquisition)
  return np.asarray(clean) - healthy


def test_looks_like_a_chest(thorax):
  """Lungs are dark, mediastinum and abdomen bright, the heart lies to the patient's left."""
  clean = thorax[3].mean(0)
  lungs = np.concatenate([clean[16:38, 14:22], clean[16:38, 44:50]], 1).mean()
  assert clean[58:62, 20:44].mean() > lungs + 0.2
  assert clean[34:40, 30:34].mean() > lungs + 0.25
  assert clean[36:42, 38:44].mean() > clean[36:42, 20:26].mean() + 0.08


@pytest.mark.parametrize("name", ALL)
def test_severity_is_monotone_and_seen(thorax, name):
  """More severe changes more, in every patient; the mildest still reaches the mask's threshold."""
  changes = [change(thorax, findings(s, **{name: first_place(name)})) for s in (0.25, 0.6, 1.0)]
  energy = np.array([(c**2).sum((1, 2)) for c in changes])
  assert (np.diff(energy, axis=0) > 0).all()
  assert ((np.abs(changes[0]) > 0.02).sum((1, 2)) >= 8).all()


@pytest.mark.parametrize("name", [n for n in ALL if "left" in PHANTOM_FINDINGS[n].sides])
def test_patients_left_is_image_right(thorax, name):
  # A collapsed lung pulls the mediastinum, whose two borders move.
  least = 0.52 if name == "atelectasis" else 0.75
  for side, inside in (("left", slice(32, None)), ("right", slice(None, 32))):
    squared = change(thorax, findings(0.4, **{name: first_place(name, side)})) ** 2
    share = squared[:, :, inside].sum((1, 2)) / squared.sum((1, 2))
    assert (share > least).all(), share


@pytest.mark.parametrize("name", ["nodule", "consolidation", "mass", "pleural_thickening"])
def test_zones_lie_below_each_other(thorax, name):
  rows = np.arange(SIZE)
  centre = []
  for zone in ZONE:
    squared = change(thorax, findings(0.6, **{name: ("right", zone)})) ** 2
    centre.append((squared.sum(2) * rows).sum(1) / squared.sum((1, 2)))
  assert (np.diff(centre, axis=0) > 4).all()


def test_noise_is_the_same_whatever_the_pathology(thorax):
  anatomy, acquisition, noisy, clean = thorax
  sick = pathology(findings(0.9, consolidation=("left", "mid"), cardiomegaly=None))
  other, ideal = map(np.asarray, recorded_and_ideal(anatomy, sick, acquisition))
  inner = (clean > 0.06) & (clean < 0.94) & (ideal > 0.06) & (ideal < 0.94)
  noise = (noisy - clean)[inner]
  np.testing.assert_allclose(noise, (other - ideal)[inner], atol=1e-6)
  assert 0.0098 < noise.std() < 0.0102


def test_mask_is_empty_where_healthy_and_marks_the_lesion():
  anatomy, acquisition = studies(3)
  arrays = findings(0.5, NODULE, nodule=("left", "mid"))
  present = np.zeros((BATCH, 1), bool)
  present[: BATCH // 2] = True
  arrays = arrays.replace(status=arrays.status * present)
  one = lambda a, p, q: phantom.lesion_mask(a, p, q, size=SIZE, vocabulary=NODULE)
  sick = pathology(arrays, vocabulary=NODULE)
  mask = np.asarray(jax.jit(jax.vmap(one))(anatomy, sick, acquisition))
  count = mask.sum((1, 2))
  assert (count[: BATCH // 2] >= 8).all() and (count[: BATCH // 2] <= 75).all()
  assert (count[BATCH // 2:] == 0).all()


def test_counterfactual_changes_nothing_else(thorax):
  """Same anatomy, acquisition and noise: identical wherever the findings make no difference."""
  anatomy, acquisition, _, _ = thorax
  factual = pathology(findings(0.5, nodule=("left", "mid")))
  do = findings(0.9, nodule=("left", "mid"), consolidation=("right", "upper"))
  keys = jax.random.split(jax.random.key(8), BATCH)
  after = jax.vmap(lambda k, p, f: phantom.exact_counterfactual(k, p, f, vocabulary=ALL))(
      keys, factual, do)
  seen, ideal = map(np.asarray, recorded_and_ideal(anatomy, factual, acquisition))
  cf_seen, cf_ideal = map(np.asarray, recorded_and_ideal(anatomy, after, acquisition))
  same = ideal == cf_ideal
  assert 0.3 < same.mean() < 0.98
  np.testing.assert_array_equal(seen[same], cf_seen[same])
  assert 0.01 < (np.abs(ideal - cf_ideal) > 0.002).mean() < 0.3


def test_another_size_is_the_same_picture(thorax):
  anatomy, acquisition, _, _ = thorax
  sick = pathology(findings(0.8, NODULE, nodule=("left", "mid")), vocabulary=NODULE)
  draw = lambda size: np.asarray(jax.jit(jax.vmap(lambda a, p, q: phantom.render(
      a, p, q, size=size, vocabulary=NODULE, noise=False)))(anatomy, sick, acquisition))
  coarse, fine = draw(SIZE), draw(2 * SIZE)
  pooled = fine.reshape(BATCH, SIZE, 2, SIZE, 2).mean((2, 4))
  assert np.sqrt(((pooled - coarse) ** 2).mean()) < 0.012


def test_acquisition_ranges():
  q = jax.jit(jax.vmap(phantom.sample_acquisition))(jax.random.split(jax.random.key(0), 4000))
  for value, low, high in ((q.gain, 0.85, 1.15), (q.gamma, 0.9, 1.1), (q.shift, -1, 1)):
    span = high - low
    assert low <= float(value.min()) < low + 0.01 * span
    assert high - 0.01 * span < float(value.max()) <= high
  assert np.unique(np.asarray(q.noise_key), axis=0).shape[0] == 4000
