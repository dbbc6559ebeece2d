"""Features of folders: shards that are merged hold what one process holds, bit for bit."""

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from cdjax.data.folder import open_folder
from cdjax.data.manifest import Row
from cdjax.evaluate import folder_features
from cdjax.evaluate.features import pixel_extractor
from cdjax.evaluate.folder_features import (
    Reading,
    chunk_starts,
    finish_features,
    merge_features,
)
from cdjax.evaluate.folder_groups import age_group, finding_tiers, make_groups, unknown_places
from cdjax.evaluate.frechet import merge_moments, moments_of
from cdjax.evaluate.resume import resumed_arrays
from cdjax.findings import parse_findings

READING = Reading(24, "crop")


@pytest.fixture
def images(tmp_path, monkeypatch):
  monkeypatch.setattr(folder_features, "CHUNK", 5)
  rng = np.random.default_rng(0)
  for i in range(23):
    Image.fromarray(rng.integers(0, 256, (30, 24), np.uint8)).save(tmp_path / f"{i:02}.png")
  (tmp_path / "07.png").write_bytes(b"\x89PNG")
  return open_folder(tmp_path)


def features(images, shard=(0, 1)):
  return folder_features.folder_features(images, [pixel_extractor(size=16)], READING, shard=shard,
                                         batch_size=4)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_merged_states_of_three_shards_are_the_state_of_one_process(images, order):
  whole_index, whole = finish_features(features(images), images)
  parts = [features(images, (s, 3)) for s in order]
  assert all(len(part.rows["pixels"].index) > 0 for part in parts)
  merged = merge_features(merge_features(parts[0], parts[1]), parts[2])
  index, rows = finish_features(merged, images)
  np.testing.assert_array_equal(index, whole_index)
  np.testing.assert_array_equal(rows["pixels"], whole["pixels"])
  assert merged.broken == features(images).broken and merged.broken[0][0] == 7
  assert index.tolist() == [i for i in range(23) if i != 7]
  # The moments of shards, which need no rows, agree up to rounding.
  moments = [moments_of(finish_features(part, images)[1]["pixels"]) for part in parts]
  joined = merge_moments(merge_moments(moments[0], moments[1]), moments[2])
  np.testing.assert_allclose(joined.covariance, moments_of(whole["pixels"]).covariance, rtol=1e-9,
                             atol=1e-12)


def test_shards_share_the_chunks_among_them(monkeypatch):
  monkeypatch.setattr(folder_features, "CHUNK", 4)
  starts = [chunk_starts(30, (s, 3)) for s in range(3)]
  assert sorted(itertools.chain(*starts)) == list(range(0, 30, 4))
  with pytest.raises(ValueError, match="shard 3 of 3; expected 0 to 2"):
    chunk_starts(30, (3, 3))


def test_the_features_are_the_pixels(images, tmp_path):
  index, rows = finish_features(features(images), images)
  pixels = np.asarray(Image.open(tmp_path / "03.png"), np.float32)[3:27] / 255   # the middle square
  expected = rows["pixels"][index.tolist().index(3)].reshape(16, 16)
  assert abs(expected.mean() - pixels.mean()) < 0.01
  assert np.corrcoef(expected.ravel(), np.asarray(
      Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)).ravel())[0, 1] > 0.99


def test_processes_read_what_this_one_reads(images):
  from cdjax.data.pool import worker_pool
  with worker_pool(2) as pool:
    state = folder_features.folder_features(
        images, [pixel_extractor(size=16)], READING, pool=pool, batch_size=4)
  np.testing.assert_array_equal(finish_features(state, images)[1]["pixels"],
                                finish_features(features(images), images)[1]["pixels"])
  assert [number for number, _ in state.broken] == [7]


def row(findings, **values):
  fields = dict(number=1, image="a", image_id="a", patient_id="p", study=None, split=None,
                report="", view="", sex="", age=None, site="")
  return Row(findings=None if findings is None else parse_findings(findings),
             **(fields | values))


def test_groups_hold_the_images_that_the_manifest_says():
  rows = [row("nodule; no effusion", sex="F", age=39.5), row("healthy", sex="M", age=40,
                                                                    site="a/b"),
          row(None, sex="F"), row("possible nodule"), row("effusion; nodule", view="AP")]
  groups = make_groups(rows, {"nodule": "tail", "pleural_effusion": "head"})
  assert {name: mask.nonzero()[0].tolist() for name, mask in groups.items()} == {
      "finding/nodule": [0, 4], "finding/pleural_effusion": [4], "finding/none": [1],
      "tier/tail": [0, 4], "tier/head": [4], "sex/F": [0, 2], "sex/M": [1], "age/18-39": [0],
      "age/40-59": [1], "view/AP": [4], "site/a_b": [1]}
  assert unknown_places(rows[2:4]) == ["age", "view", "site"]
  many = [row("effusion")] * 1001 + [row("nodule")] * 100 + [row("edema")] * 99
  assert finding_tiers(many) == {"pleural_effusion": "head", "nodule": "medium",
                                 "pulmonary_edema": "tail"}


def test_one_group_has_one_name_and_all_its_images():
  sexes = ("F", "female", " f ", "Male", "m", "NA", "u", "X", "x")
  views = ("pa", "PA", "Lateral", "LL", "ap", "", "unknown", "AP supine", "n/a")
  sites = ("a/b", "a_b", "A_b", "NA", "", "b", "b", "b", "b")
  rows = [row("healthy", sex=sex, view=view, site=site)
          for sex, view, site in zip(sexes, views, sites, strict=True)]
  groups = make_groups(rows, {})
  del groups["finding/none"]
  assert {name: mask.nonzero()[0].tolist() for name, mask in groups.items()} == {
      "sex/F": [0, 1, 2], "sex/M": [3, 4], "sex/X": [7], "sex/x": [8],
      "view/PA": [0, 1], "view/LATERAL": [2, 3], "view/AP": [4], "view/AP supine": [7],
      "site/a_b": [0, 1], "site/A_b": [2], "site/b": [5, 6, 7, 8]}
  assert unknown_places([row("healthy", sex="unknown", view="PA", site="NA")]) == [
      "sex", "age", "site"]


@pytest.mark.parametrize("age, group", [(0, "0-17"), (17.9, "0-17"), (18, "18-39"), (80, "80+"),
                                        (None, "")])
def test_age_groups(age, group):
  assert age_group(age) == group


def test_kept_features_depend_on_all_that_makes_them(images):
  pixels = pixel_extractor(size=16)

  def print_of(extractor=pixels, reading=READING, start=0):
    return folder_features.chunk_fingerprint(images, start, reading, [extractor])

  plain = print_of()
  assert plain == print_of()
  others = [print_of(dataclasses.replace(pixels, digest="other weights")),
            print_of(pixel_extractor(size=8)), print_of(reading=Reading(24, "pad")),
            print_of(reading=Reading(25, "crop")), print_of(start=5)]
  (images.root / "01.png").unlink()
  others.append(print_of())
  assert len({plain, *others}) == 7


def test_arrays_are_kept_whole_or_not_at_all(tmp_path):
  path, calls = tmp_path / "kept.npz", []

  def compute():
    calls.append(0)
    return {"a": np.arange(3), "text": np.array(["x", "long reason"])}

  for fingerprint, computed in (("1", 1), ("1", 1), ("2", 2), ("1", 3)):
    got = resumed_arrays(path, fingerprint, compute)
    assert len(calls) == computed
    assert set(got) == {"a", "text"} and got["a"].tolist() == [0, 1, 2]
    assert got["text"].tolist() == ["x", "long reason"]

  def fails():
    raise RuntimeError("stopped")

  with pytest.raises(RuntimeError, match="stopped"):
    resumed_arrays(path, "3", fails)
  assert resumed_arrays(path, "1", fails)["a"].tolist() == [0, 1, 2]
  assert [p.name for p in tmp_path.iterdir()] == ["kept.npz"]
