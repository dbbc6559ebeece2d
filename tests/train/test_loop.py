"""The loop: what it writes, when it stops, what it refuses to go on with."""

import json
import logging
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from PIL import Image

from cdjax.core.trees import tree_fingerprint
from cdjax.train.init_from import load_stage
from cdjax.train.metrics import image_grid
from cdjax.train.stop import Stopped


def rows(workdir):
  path = workdir / toy.STAGE / "metrics.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()]


class Forbidden:
  """A loader that must not be touched."""

  def __iter__(self):
    raise AssertionError("the loader was used")


def test_a_run_writes_what_it_should_and_is_done_once(tmp_path):
  config = toy.make_config(eval_every=6)
  seen = []

  def eval_fn(params, step):
    seen.append(step)
    return {"size": float(jnp.abs(params["up"]["kernel"]).mean()),
            "images": {"grid": np.linspace(0, 1, 10 * 4 * 4).reshape(10, 4, 4, 1)}}

  params = toy.train(tmp_path, config=config, eval_fn=eval_fn, data_fingerprint="d")
  folder = tmp_path / toy.STAGE
  training = [row for row in rows(tmp_path) if "loss" in row]
  assert [row["step"] for row in training] == [3, 6, 9, 12]
  assert {"loss", "grad_norm", "learning_rate", "fit", "size", "steps_per_second"} <= set(
      training[0])
  np.testing.assert_allclose([row["loss"] for row in training],
                             [row["fit"] + 1e-3 * row["size"] for row in training], rtol=1e-5)
  assert training[-1]["loss"] < 0.8 * training[0]["loss"]
  # Rates of the first three steps: 1/3, 2/3 and 3/3 of the peak; a row has their mean.
  np.testing.assert_allclose(training[0]["learning_rate"], 1e-2 * 2 / 3, rtol=1e-6)
  assert seen == [6, 12]
  assert [row["step"] for row in rows(tmp_path) if "eval/size" in row] == [6, 12]
  pixels = np.asarray(Image.open(folder / "samples" / "grid_0000012.png"))
  assert pixels.shape == (9, 39) and pixels.max() == 255
  assert list((folder / "events").glob("events.out.tfevents.*"))
  assert toy.checkpoint_steps(tmp_path) == [10, 12]  # every 5 and the last; two are kept

  record = json.loads((folder / "config.json").read_text())
  assert record["stage"]["learning_rate"] == 1e-2 and record["data_fingerprint"] == "d"
  assert record["packages"]["jax"] == jax.__version__
  done = json.loads((folder / "done.json").read_text())
  assert done["steps"] == 12 and done["fingerprint"] == tree_fingerprint(params)
  loaded, _ = load_stage(tmp_path, toy.STAGE)
  toy.assert_equal(loaded, params)

  again = toy.train(tmp_path, config=config, loader=Forbidden(), data_fingerprint="d")
  toy.assert_equal(again, params)


def test_sigterm_saves_and_says_so(tmp_path):
  def before(index):
    if index == 7:
      os.kill(os.getpid(), signal.SIGTERM)

  handler = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Stopped, match=r"stopped at step 7 of 12; saved in .*7") as caught:
    toy.train(tmp_path, loader=toy.Loader(before=before))
  assert caught.value.exit_code == 143
  assert toy.checkpoint_steps(tmp_path) == [5, 7]
  assert signal.getsignal(signal.SIGTERM) is handler


def test_sigterm_in_the_last_step_stops_before_the_next_stage(tmp_path):
  def eval_fn(params, step):
    os.kill(os.getpid(), signal.SIGTERM)
    return {}

  with pytest.raises(Stopped, match="after its last step; it is done") as caught:
    toy.train(tmp_path, eval_fn=eval_fn)
  assert caught.value.exit_code == 143
  loaded, _ = load_stage(tmp_path, toy.STAGE)
  toy.assert_equal(toy.train(tmp_path, loader=Forbidden()), loaded)


@pytest.mark.parametrize("bad_step", [2, 4, 12])
def test_a_number_that_is_not_finite_names_step_and_term(tmp_path, bad_step):
  def loss_fn(params, frozen, batch, rng, step):
    loss, aux = toy.loss_fn(params, frozen, batch, rng, step)
    price = jnp.where(step + 1 == bad_step, jnp.nan, 1.0) * aux["size"]
    return loss + price, aux | {"price": price}

  with pytest.raises(FloatingPointError, match=rf"step {bad_step}: price not finite"):
    toy.train(tmp_path, loss_fn=loss_fn)
  assert all(step < bad_step for step in toy.checkpoint_steps(tmp_path))
  assert all(row["step"] < bad_step for row in rows(tmp_path))


def test_a_gradient_alone_can_be_the_one(tmp_path):
  def loss_fn(params, frozen, batch, rng, step):
    loss, aux = toy.loss_fn(params, frozen, batch, rng, step)
    zero = (params["up"]["bias"] * 0).sum()
    return loss + jnp.sqrt(zero * jnp.where(step == 3, 1.0, 0.0) + jnp.where(step == 3, 0., 1.)
                           ), aux  # the slope of the root at 0 is infinite

  with pytest.raises(FloatingPointError, match="step 4: grad_norm not finite"):
    toy.train(tmp_path, loss_fn=loss_fn)


def test_another_shape_is_an_error_that_names_it(tmp_path):
  class Ragged(toy.Loader):
    def __next__(self):
      batch = super().__next__()
      return {"x": batch["x"][:8]} if self.index == 4 else batch

  with pytest.raises(RuntimeError, match=r"traced again.*x: float32\[16, 64\] → float32\[8, 64\]"):
    toy.train(tmp_path, loader=Ragged())


def test_a_loader_that_ends_or_disagrees_is_an_error(tmp_path):
  class Short(toy.Loader):
    def __next__(self):
      if self.index == 4:
        raise StopIteration
      return super().__next__()

  with pytest.raises(ValueError, match="without end"):
    toy.train(tmp_path, loader=Short())

  class Uneven(toy.Loader):
    def __next__(self):
      return super().__next__() | {"index": np.arange(3)}

  with pytest.raises(ValueError, match=r"one size along their first axis.*index"):
    toy.train(tmp_path, loader=Uneven())


def test_another_configuration_is_refused_but_logging_may_change(tmp_path, caplog):
  def interrupt(index):
    if index == 6:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(Stopped):
    toy.train(tmp_path, loader=toy.Loader(before=interrupt), data_fingerprint="a")
  changed = toy.make_config(learning_rate=0.5, num_train_steps=20)
  changed.seed = 3
  with pytest.raises(ValueError) as caught:
    toy.train(tmp_path, config=changed, data_fingerprint="b", loader=Forbidden())
  for words in ("diffusion.learning_rate: 0.01 → 0.5", "num_train_steps: 12 → 20", "seed: 0 → 3",
                "fingerprint of the data: 'a' → 'b'", "init_from="):
    assert words in str(caught.value)
  assert "frozen" not in str(caught.value)
  with pytest.raises(ValueError, match="fingerprint of the frozen parameters"):
    toy.train(tmp_path, data_fingerprint="a", frozen={"scale": toy.frozen()["scale"] + 1})
  free = toy.make_config(log_every=4, checkpoint_every=6, keep_checkpoints=3)
  free.data.num_workers = 2
  with caplog.at_level(logging.INFO, "cdjax"):
    toy.train(tmp_path, config=free, data_fingerprint="a")
  assert any("going on from step 6 of 12" in record.getMessage() for record in caplog.records)


def test_a_grid_places_every_image():
  images = np.stack([np.full((2, 4), value) for value in (0.2, 0.4, 0.6)])
  grid = image_grid(images, columns=2)
  assert grid.shape == (5, 9)
  for value, place in ((51, grid[:2, :4]), (102, grid[:2, 5:]), (153, grid[3:, :4])):
    assert (place == value).all()
  assert grid.sum() == 8 * (51 + 102 + 153)  # lines and the empty place are black
  assert image_grid(np.ones((2, 2, 3))).shape == (2, 2, 3)
  with pytest.raises(ValueError, match="expected"):
    image_grid(np.ones((1, 2, 2, 4)))
