import numpy as np
import pytest

from cdjax.evaluate.features import Extractor
from cdjax.evaluate.fidelity import fidelity_by_group, fidelity_metrics
from cdjax.evaluate.frechet import frechet_distance, moments_of
from cdjax.evaluate.kernel import kernel_distance
from cdjax.evaluate.manifold import manifold_metrics

EXTRACTOR = Extractor("inception-v3", 299, lambda x: x)


def features(n, *, seed, shift=0.0):
  return np.random.default_rng(seed).standard_normal((n, 8)) + shift


def test_names_carry_extractor_number_and_resizing():
  real, synthetic = features(120, seed=1), features(120, seed=2, shift=0.5)
  got = fidelity_metrics(real, synthetic, extractor=EXTRACTOR, seed=3)
  kernel = kernel_distance(real, synthetic, subsets=100, subset_size=60, seed=3)
  assert kernel.sd > 0
  expected = {"fid": frechet_distance(moments_of(real), moments_of(synthetic)),
              "kid": kernel.mean, "kid_sd": kernel.sd, **manifold_metrics(real, synthetic)}
  assert got == {f"{name}/inception-v3/120/bilinear299": v for name, v in expected.items()}


def test_the_larger_set_is_cut_to_the_smaller():
  real, synthetic = features(2000, seed=4), features(150, seed=5)
  key = "fid/inception-v3/150/bilinear299"
  got = [fidelity_metrics(real, synthetic, extractor=EXTRACTOR, seed=s)[key] for s in range(6)]
  assert len(set(got)) == 6                            # other seeds, other rows
  assert got[0] == fidelity_metrics(real, synthetic, extractor=EXTRACTOR, seed=0)[key]
  # At equal N the bias of both sets is in it; with all 2,000 real images it would be about half.
  whole = frechet_distance(moments_of(real), moments_of(synthetic))
  assert min(got) > 1.2 * whole


def test_groups_are_measured_on_their_own_images():
  real, synthetic = features(400, seed=6), features(300, seed=7)
  female, wide = np.arange(400) % 2 == 0, np.arange(300) < 160
  synthetic[wide] += 2.0
  got, left_out = fidelity_by_group(
      real, synthetic, {"sex/F": female, "sex/M": ~female, "site/a": female},
      {"sex/F": wide, "sex/M": ~wide, "view/AP": wide}, extractor=EXTRACTOR, least=120, seed=0)
  assert sorted({key.split("bilinear299/")[1] for key in got}) == ["sex/F", "sex/M"]
  assert got == (fidelity_metrics(real[female], synthetic[wide], extractor=EXTRACTOR,
                                  group="sex/F", seed=0)
                 | fidelity_metrics(real[~female], synthetic[~wide], extractor=EXTRACTOR,
                                    group="sex/M", seed=0))
  assert got["fid/inception-v3/160/bilinear299/sex/F"] > 20
  assert got["fid/inception-v3/140/bilinear299/sex/M"] < 1
  assert left_out == ["site/a: 200 real and 0 synthetic images, fewer than 120",
                      "view/AP: 0 real and 160 synthetic images, fewer than 120"]


def test_errors_name_the_group():
  with pytest.raises(ValueError, match="5 real and 9 synthetic images of sex/F; expected"):
    fidelity_metrics(features(5, seed=0), features(9, seed=0), extractor=EXTRACTOR, group="sex/F",
                     seed=0)
  with pytest.raises(ValueError, match=r"'sex/F': a mask of shape \(8,\) and type bool for 9"):
    fidelity_by_group(features(9, seed=0), features(8, seed=0), {"sex/F": np.ones(8, bool)},
                      {"sex/F": np.ones(8, bool)}, extractor=EXTRACTOR, seed=0)
  with pytest.raises(ValueError, match=r"type int64 for 9 images"):
    fidelity_by_group(features(9, seed=0), features(8, seed=0), {"sex/F": np.arange(9)},
                      {"sex/F": np.ones(8, bool)}, extractor=EXTRACTOR, seed=0)
