"""Starting from a checkpoint in part, and the report of it."""

import jax
import numpy as np
import pytest
import toy

from cdjax.train.checkpoint import finish_checkpoints, open_checkpoints, save_checkpoint
from cdjax.train.init_from import init_from, load_stage
from cdjax.train.optimizer import make_optimizer
from cdjax.train.state import make_state


def tree(offset, **shapes):
  return {name: {"kernel": np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + offset}
          for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A workdir whose stage "autoencoder" has a checkpoint with an average of its own."""
  workdir = tmp_path_factory.mktemp("source")
  tx = make_optimizer(toy.make_config()[toy.STAGE])
  params = jax.device_put(tree(0, encoder=(4, 3), decoder=(3, 4), old=(2,)))
  state = make_state(params, tx).replace(
      ema_params=jax.device_put(tree(0.5, encoder=(4, 3), decoder=(3, 4), old=(2,))))
  with open_checkpoints(workdir / "autoencoder" / "checkpoints", 1) as manager:
    save_checkpoint(manager, state, step=3, position={}, record={})
    finish_checkpoints(manager)
  return workdir


@pytest.mark.parametrize("below", ["", "autoencoder", "autoencoder/checkpoints",
                                   "autoencoder/checkpoints/3"])
def test_takes_the_average_of_what_fits_and_reports_the_rest(source, below):
  params = jax.device_put(tree(100, encoder=(4, 3), decoder=(3, 5), new=(2, 2)))
  found, report = init_from(source / below, params, stage="autoencoder")
  toy.assert_equal(found["encoder"], tree(0.5, encoder=(4, 3))["encoder"])  # ema, not params
  toy.assert_equal({k: found[k] for k in ("decoder", "new")},
                   {k: params[k] for k in ("decoder", "new")})
  assert report.taken == ("encoder/kernel",)
  assert report.shape_mismatch == (("decoder/kernel", (3, 4), (3, 5)),)
  assert report.missing == ("new/kernel",) and report.unused == ("old/kernel",)
  assert report.excluded == ()
  for words in ("took 1 parameters", "source (3, 4), here (3, 5)", "new/kernel", "old/kernel"):
    assert words in str(report)


def test_the_expression_chooses(source):
  params = jax.device_put(tree(100, encoder=(4, 3), decoder=(3, 4)))
  found, report = init_from(source, params, "decoder/.*", stage="autoencoder")
  assert report.taken == ("decoder/kernel",) and report.excluded == ("encoder/kernel",)
  toy.assert_equal(found["encoder"], params["encoder"])
  with pytest.raises(ValueError, match="nothing to take"):
    init_from(source, params, "decode", stage="autoencoder")  # the whole path must match
  with pytest.raises(ValueError, match="not a regular expression"):
    init_from(source, params, "(", stage="autoencoder")


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"has no checkpoint; looked in .*diffusion"):
    init_from(tmp_path, tree(0, a=(1,)), stage="diffusion")
  with pytest.raises(FileNotFoundError, match="train the stage 'diffusion' first"):
    load_stage(tmp_path, "diffusion")


def test_a_stage_starts_from_it(tmp_path):
  toy.train(tmp_path / "a")
  trained, config = load_stage(tmp_path / "a", toy.STAGE)
  assert config["diffusion"]["learning_rate"] == 1e-2
  still = toy.make_config(init_from=str(tmp_path / "a"), init_include="up/.*", num_train_steps=1,
                          learning_rate=0.0)
  started = toy.train(tmp_path / "b", config=still)
  toy.assert_equal(started["up"], trained["up"])
  assert np.abs(started["down"]["kernel"] - trained["down"]["kernel"]).max() > 1e-3
  assert (tmp_path / "b" / toy.STAGE / "init_from.json").exists()
