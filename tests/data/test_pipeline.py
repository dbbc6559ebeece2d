"""Batches: what is in them, that nothing but (data, seed, step) decides it, and resuming."""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.data import builder
from cdjax.data.builder import read_array_records
from cdjax.data.pipeline import eval_batches, make_loader
from cdjax.data.source import open_split
from cdjax.data.write import write_dataset
from cdjax.findings import Finding

SIZE, COUNT = 8, 23
NAMES = ("mass", "nodule")


def record(i):
  """Patients 0, 1, … have 1, 2, 3, 1, 2, 3, … studies."""
  patient = next(p for p in itertools.count() if sum(1 + q % 3 for q in range(p + 1)) > i)
  return {"image": np.random.default_rng(i).integers(0, 256, (SIZE, SIZE)).astype(np.uint8),
          "image_id": f"{i:03d}", "patient_id": f"p{patient:02d}", "study": i, "view": "AP"
          if i % 3 else "PA", "findings": [Finding(NAMES[i % 2], severity=0.5)] if i % 4 else []}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp("pipeline") / "data"
  write_dataset({"train": map(record, range(COUNT))}, path, vocabulary=NAMES, resolution=SIZE,
                bits=8)
  return path


@pytest.fixture(scope="module")
def source(path):
  return open_split(path, "train")


def take(loader, count):
  batches = list(itertools.islice(loader, count))
  loader.close()
  return batches


def assert_equal(a, b):
  assert len(a) == len(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def double_index(index, mate):
  return {"latent": np.stack([index, mate], 1).astype(np.float32) * 2}


def test_reading_threads_that_arrive_together_open_the_files_once(path, monkeypatch):
  source, opened, another_came = open_split(path, "train"), [], threading.Event()

  def open_when_another_came(folder, split):
    opened.append(split)
    another_came.wait()
    return read_array_records(folder, split)

  def come():
    another_came.set()
    return len(source.records)

  monkeypatch.setattr(builder, "read_array_records", open_when_another_came)
  with ThreadPoolExecutor(2) as pool:
    first = pool.submit(lambda: len(source.records))
    while not opened:
      assert not first.done()
    second = pool.submit(come)
    assert first.result() == second.result() == COUNT
  assert opened == ["train"]


def test_a_batch_holds_its_records(source):
  batch = take(make_loader(source, batch_size=12, seed=3, attach=double_index), 1)[0]
  assert batch["image"].dtype == np.float32 and batch["image"].shape == (12, SIZE, SIZE, 1)
  assert isinstance(batch["findings"], FindingsArrays)
  for b in range(12):
    for prefix in ("", "mate_"):
      shown = source[int(batch[f"{prefix}index"][b])]
      np.testing.assert_allclose((batch[f"{prefix}image"][b, ..., 0] + 1) * 127.5, shown["image"],
                                 atol=1e-4)
      assert source.views[batch[f"{prefix}view"][b]] == shown["view"]
      status = {f.name: int(f.status == "present") for f in shown["findings"]}
      assert dict(zip(NAMES, batch[f"{prefix}findings"].status[b], strict=True)) == status
    mate, anchor = source[int(batch["mate_index"][b])], source[int(batch["index"][b])]
    assert mate["patient_id"] == anchor["patient_id"]
    assert batch["is_true_mate"][b] == (mate["study"] != anchor["study"])
  assert 0 < batch["is_true_mate"].sum() < 12
  assert batch["image"].min() >= -1 and batch["image"].max() <= 1
  np.testing.assert_array_equal(batch["latent"],
                                2 * np.stack([batch["index"], batch["mate_index"]], 1))


def test_every_record_once_an_epoch_across_batches(source):
  loader = make_loader(source, batch_size=5, seed=0, num_epochs=3, mates=False, with_images=False)
  batches = list(loader)
  assert len(batches) == 3 * COUNT // 5 and "image" not in batches[0]
  index = np.concatenate([batch["index"] for batch in batches])
  assert sorted(index[:COUNT]) == sorted(index[COUNT:2 * COUNT]) == list(range(COUNT))
  assert (index[:COUNT] != index[COUNT:2 * COUNT]).any()


def test_resume_in_the_middle_of_an_epoch(source):
  arguments = {"batch_size": 6, "seed": 1}
  whole = take(make_loader(source, **arguments), 9)
  loader = make_loader(source, **arguments)
  first = list(itertools.islice(loader, 4))
  state = json.loads(json.dumps(loader.get_state()))
  loader.close()
  resumed = make_loader(source, **arguments, read_threads=0)
  next(resumed)  # Whatever it did before, it goes where it is told.
  resumed.set_state(state)
  assert_equal(first + take(resumed, 5), whole)
  with pytest.raises(ValueError, match="seed was 1, is 2"):
    make_loader(source, batch_size=6, seed=2).set_state(state)
  with pytest.raises(ValueError, match="batch_size"):
    make_loader(source, batch_size=12, seed=1).set_state(state)


def test_workers_and_threads_do_not_change_the_batches(path, source):
  arguments = {"batch_size": 6, "seed": 1, "attach": double_index}
  expected = take(make_loader(source, **arguments, read_threads=0), 7)
  fresh = open_split(path, "train", cache=False)
  assert_equal(take(make_loader(fresh, **arguments, read_threads=3, prefetch=4), 7), expected)
  loader = make_loader(fresh, **arguments, num_workers=2, read_threads=1, prefetch=4)
  first = list(itertools.islice(loader, 3))
  state = loader.get_state()
  loader.close()
  assert_equal(first, expected[:3])
  loader = make_loader(source, **arguments)  # Begun with workers, continued without.
  loader.set_state(state)
  assert_equal(take(loader, 4), expected[3:])


def test_shards_are_parts_of_the_global_batch(source):
  whole = take(make_loader(source, batch_size=8, seed=2), 4)
  parts = [take(make_loader(source, batch_size=8, seed=2, shard_index=i, shard_count=2), 4)
           for i in range(2)]
  for batch, *pieces in zip(whole, *parts, strict=True):
    assert_equal(jax.tree.map(lambda *a: np.concatenate(a), *pieces), batch)


def test_weights(source):
  weights = (source.index.findings.status[:, 0] == 1).astype(float)
  batches = take(make_loader(source, batch_size=COUNT, seed=0, weights=weights), 2)
  assert all((batch["findings"].status[:, 0] == 1).all() for batch in batches)


def test_eval_batches_pad_and_mask(source):
  batches = list(eval_batches(source, 10))
  index = np.concatenate([batch["index"][batch["mask"]] for batch in batches])
  assert np.array_equal(index, np.arange(COUNT))
  assert [len(batch["mask"]) for batch in batches] == [10, 10, 10]
  assert np.array_equal(batches[2]["index"][3:], np.full(7, COUNT - 1))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"batch_size": 6, "shard_count": 4}, "multiple"),
    ({"batch_size": 6, "shard_index": 2, "shard_count": 2}, "shard_index"),
    ({"batch_size": COUNT + 1, "num_epochs": 1}, "no batch"),
    ({"batch_size": 6, "weights": np.zeros(COUNT)}, "weights"),
    ({"batch_size": 6, "weights": np.ones(3)}, "weights")])
def test_sizes_that_do_not_fit(source, arguments, message):
  with pytest.raises(ValueError, match=message):
    make_loader(source, seed=0, **arguments)


def test_attach_must_not_replace_a_column(source):
  loader = make_loader(source, batch_size=4, seed=0, attach=lambda i, m: {"index": i})
  with pytest.raises(ValueError, match="index"):
    next(loader)
