"""The configuration's data set: made once, found again, checked against the configuration."""

import numpy as np
import pytest

from cdjax.core.config import load_config
from cdjax.data.arrays import ArrayBatches
from cdjax.data.ensure import ensure_dataset
from cdjax.data.source import open_split


@pytest.fixture
def config():
  c = load_config("configs/quickstart.py:tiny")
  with c.unlocked():
    c.data.phantom.patients = 6
  return c


def test_the_phantom_is_made_once_and_its_splits_share_no_patient(config, tmp_path):
  folder = ensure_dataset(config, tmp_path)
  before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
  assert ensure_dataset(config, tmp_path) == folder
  assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before
  patients = [{open_split(folder, name)[i]["patient_id"] for i in range(
      len(open_split(folder, name)))} for name in ("train", "validation")]
  assert patients[0] and patients[1] and not patients[0] & patients[1]


def test_a_prepared_folder_decides_vocabulary_and_views(config, tmp_path):
  made = ensure_dataset(config, tmp_path)
  with config.unlocked():
    config.data.source, config.data.path = "prepared", str(made)
    config.data.vocabulary = ("nodule",)
  assert ensure_dataset(config, tmp_path / "run") == made
  assert config.data.vocabulary == open_split(made, "train").vocabulary
  assert config.autoencoder.model.num_views == 1
  with config.unlocked():
    config.data.resolution = 64
  with pytest.raises(ValueError, match=r"32 px.*data\.resolution=64"):
    ensure_dataset(config, tmp_path / "run")


@pytest.mark.parametrize("changes, message", [
    (dict(source="folder"), "expected 'phantom' or 'prepared'"),
    (dict(source="prepared"), "data.path is empty"),
])
def test_a_source_that_cannot_be_is_an_error(config, tmp_path, changes, message):
  with config.unlocked():
    config.data.update(changes)
  with pytest.raises(ValueError, match=message):
    ensure_dataset(config, tmp_path)


def test_batches_of_arrays_visit_everything_and_go_on_where_they_were():
  arrays = {"a": np.arange(10), "b": 2 * np.arange(10)}
  make = lambda: ArrayBatches(lambda: arrays, batch_size=4, seed=3)
  batches = make()
  seen = [next(batches) for _ in range(5)]
  assert all((batch["b"] == 2 * batch["a"]).all() for batch in seen)
  rows = np.concatenate([batch["a"] for batch in seen])
  np.testing.assert_array_equal(np.sort(rows[:10]), np.arange(10))
  np.testing.assert_array_equal(np.sort(rows[10:]), np.arange(10))
  assert (rows[:10] != rows[10:]).any()
  other = make()
  for _ in range(2):
    state = (next(other), other.get_state())[1]
  resumed = make()
  resumed.set_state(state)
  np.testing.assert_array_equal(next(resumed)["a"], seen[2]["a"])


def test_training_can_be_told_what_the_reports_say(config, tmp_path):
  truth = open_split(ensure_dataset(config, tmp_path / "truth"), "train")
  with config.unlocked():
    config.data.phantom.findings_from = "reports"
  read = open_split(ensure_dataset(config, tmp_path / "reports"), "train")
  np.testing.assert_array_equal(read.images(np.arange(4)), truth.images(np.arange(4)))
  same = read.index.findings.present == truth.index.findings.present
  assert same.mean() > 0.97 and truth.info["fingerprint"] != read.info["fingerprint"]
  # A report has words for a severity, the truth a number.
  severity = [np.unique(s.index.findings.severity[s.index.findings.present]) for s in (truth, read)]
  assert len(severity[1]) < len(severity[0])
  with config.unlocked():
    config.data.phantom.findings_from = "gossip"
  with pytest.raises(ValueError, match="expected 'truth' or 'reports'"):
    ensure_dataset(config, tmp_path / "gossip")


def test_a_folder_that_is_a_link_is_filled_where_it_points_to(config, tmp_path):
  """As the rows of an ablation and the cells of a benchmark share their data."""
  (tmp_path / "shared").mkdir()
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "data").symlink_to("../shared", target_is_directory=True)
  folder = ensure_dataset(config, tmp_path / "run")
  assert (tmp_path / "run" / "data").is_symlink() and len(open_split(folder, "train"))
  assert (tmp_path / "shared" / "dataset.json").is_file()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "shared"]
