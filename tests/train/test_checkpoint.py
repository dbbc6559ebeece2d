"""Checkpoints: exact, whole, and what happens when one of them, or the disk, is not."""

import errno
import logging
import shutil

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from toy import assert_equal

from cdjax.train.checkpoint import (
    finish_checkpoints,
    load_params,
    open_checkpoints,
    restore_newest,
    save_checkpoint,
)
from cdjax.train.state import make_state

TX = optax.adamw(1e-3)


def make(seed: int, width: int = 300):
  key = jax.random.key(seed)
  state = make_state({"layer": {"kernel": jax.random.normal(key, (width, 50))}}, TX)
  return state.replace(step=state.step + seed)


def abstract(state):
  return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def fill(folder, steps, keep=3):
  with open_checkpoints(folder, keep) as manager:
    for step in steps:
      save_checkpoint(manager, make(step), step=step, position={"data": [str(step)]}, record={})
    finish_checkpoints(manager)


def truncate(checkpoint):
  """Cuts every file of the arrays to half, as a disk that filled or died would leave them."""
  files = [path for path in (checkpoint / "state").rglob("*")
           if path.is_file() and path.parent.name == "d"]
  assert files
  for path in files:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def test_what_was_saved_comes_back_though_the_state_was_donated(tmp_path):
  state = jax.jit(lambda: make(1, width=20_000))()  # 4 MB an array: written while steps go on
  expected = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
  step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
  with open_checkpoints(tmp_path / "c", 2) as manager:
    save_checkpoint(manager, state, step=1, position={"data": ["here"]}, record={})
    shapes = abstract(state)
    for _ in range(5):
      state = step(state)
    finish_checkpoints(manager)
    restored, position, number = restore_newest(manager, shapes)
  assert_equal(restored, expected)
  assert (position, number) == ({"data": ["here"]}, 1)


def test_the_newest_are_kept_and_load_without_shardings(tmp_path):
  fill(tmp_path / "c", [1, 2, 3, 4], keep=2)
  assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "4"]
  params, source = load_params(tmp_path / "c")
  assert source.name == "4"
  assert isinstance(params["layer"]["kernel"], np.ndarray)
  assert_equal(params, make(4).ema_params)
  assert_equal(load_params(tmp_path / "c" / "3")[0], make(3).ema_params)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["arrays", "metadata", "position"])
def test_a_damaged_newest_falls_back_and_is_named(tmp_path, caplog, damage):
  folder = tmp_path / "c"
  fill(folder, [5, 10])
  if damage == "arrays":
    truncate(folder / "10")
  elif damage == "metadata":
    (folder / "10" / "state" / "_METADATA").write_text("{")
  else:
    shutil.rmtree(folder / "10" / "position")
  with open_checkpoints(folder, 3) as manager, caplog.at_level(logging.WARNING, "cdjax"):
    state, position, step = restore_newest(manager, abstract(make(0)))
    assert step == 5 and position == {"data": ["5"]}
    assert_equal(state, make(5))
    assert any(str(folder / "10") in record.getMessage() for record in caplog.records)
    # The step can be saved anew, and the damaged one is still there to be looked at.
    save_checkpoint(manager, make(11), step=10, position={}, record={})
    finish_checkpoints(manager)
    assert_equal(restore_newest(manager, abstract(make(0)))[0], make(11))
  assert (folder / "10.unreadable").is_dir()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_step_can_be_damaged_again(tmp_path):
  folder = tmp_path / "c"
  fill(folder, [5, 10])
  for again in ("10.unreadable", "10.unreadable-2", "10.unreadable-3"):
    (folder / "10" / "checksums.json").unlink()
    with open_checkpoints(folder, 3) as manager:
      assert restore_newest(manager, abstract(make(0)))[2] == 5
      assert (folder / again).is_dir()
      save_checkpoint(manager, make(10), step=10, position={}, record={})
      finish_checkpoints(manager)
      with pytest.raises(RuntimeError, match="step 10 was not saved"):
        save_checkpoint(manager, make(10), step=10, position={}, record={})


@pytest.mark.parametrize("error", [
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), MemoryError()])
def test_a_device_that_fails_damages_no_checkpoint(tmp_path, monkeypatch, error):
  def restore(*args, **kwargs):
    raise error

  fill(tmp_path / "c", [5])
  with open_checkpoints(tmp_path / "c", 3) as manager:
    monkeypatch.setattr(manager, "restore", restore)
    with pytest.raises(type(error)):
      restore_newest(manager, abstract(make(0)))
  assert [path.name for path in (tmp_path / "c").iterdir()] == ["5"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_none_readable_is_an_error_and_changes_nothing(tmp_path):
  folder = tmp_path / "c"
  fill(folder, [5, 10])
  with open_checkpoints(folder, 3) as manager, pytest.raises(ValueError, match="none of the"):
    restore_newest(manager, abstract(make(0, width=7)))  # another model, not a damaged file
  assert sorted(path.name for path in folder.iterdir()) == ["10", "5"]
  truncate(folder / "5")
  truncate(folder / "10")
  with pytest.raises(ValueError, match=r"(?s)none of the checkpoints.*10: .*5: "):
    load_params(folder)


def test_no_checkpoint(tmp_path):
  with open_checkpoints(tmp_path / "c", 1) as manager:
    assert restore_newest(manager, abstract(make(0))) is None
  with pytest.raises(FileNotFoundError, match="no checkpoint in"):
    load_params(tmp_path / "c")
  with pytest.raises(ValueError, match="keep_checkpoints=0"):
    open_checkpoints(tmp_path / "c", 0)


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("RESOURCE_EXHAUSTED: Failed to write 134342 bytes: No space left on device"),
])
def test_a_full_disk_says_what_to_do_and_keeps_what_is_whole(tmp_path, monkeypatch, error):
  folder = tmp_path / "c"
  fill(folder, [5])

  async def write(*args, **kwargs):
    raise error

  handler = ocp.type_handlers.ArrayHandler
  with open_checkpoints(folder, 3) as manager:
    with monkeypatch.context() as patch:
      patch.setattr(handler, "serialize", write)
      with pytest.raises(OSError, match="the disk is full") as caught:
        save_checkpoint(manager, make(10), step=10, position={}, record={})
        finish_checkpoints(manager)
    assert caught.value.errno == errno.ENOSPC and str(folder) in str(caught.value)
  with open_checkpoints(folder, 3) as manager:
    assert restore_newest(manager, abstract(make(0)))[2] == 5
