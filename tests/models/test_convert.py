"""Weight conversion: exact round trips, the published names, and errors that say what is wrong."""

import subprocess
import sys

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from cdjax.models.autoencoder_kl import AutoencoderKL
from cdjax.models.convert import flax_to_torch, load_safetensors, torch_to_flax
from cdjax.models.unet import UNet2DCondition


def unet_template(extra=0):
  model = UNet2DCondition(
      in_channels=2, out_channels=2, extra_in_channels=extra, block_out_channels=(8, 16),
      attention_blocks=(True, False), layers_per_block=1, num_heads=2, cross_attention_dim=6,
      norm_num_groups=4)
  return jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 4, 4, 2 + extra)),
                        np.zeros(1), np.zeros((1, 3, 6)))["params"]


def autoencoder_template():
  model = AutoencoderKL(block_out_channels=(8, 12), layers_per_block=1, norm_num_groups=4)
  return jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8, 8, 3)))["params"]


TEMPLATES = {"unet": unet_template, "autoencoder": autoencoder_template}


def random_params(template):
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda p: rng.normal(size=p.shape).astype(p.dtype), nn.meta.unbox(template))


@pytest.mark.parametrize("name", TEMPLATES)
def test_round_trip_through_a_file_is_exact(name, tmp_path):
  template = TEMPLATES[name]()
  params = random_params(template)
  save_file(flax_to_torch(params), tmp_path / "weights.safetensors")
  for path in (tmp_path / "weights.safetensors", tmp_path):
    back, notes = torch_to_flax(load_safetensors(path), template)
    assert notes == []
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_names_and_layouts_are_the_published_ones():
  params = random_params(unet_template())
  state = flax_to_torch(params)
  attention = params["down_blocks_0"]["attentions_0"]
  block = attention["transformer_blocks_0"]
  prefix = "down_blocks.0.attentions.0"
  np.testing.assert_array_equal(     # a convolution: HWIO → OIHW
      state[f"{prefix}.proj_in.weight"][:, :, 0, 0], attention["proj_in"]["kernel"][0, 0].T)
  np.testing.assert_array_equal(
      state["conv_in.weight"][5, 1, 2, 0], params["conv_in"]["kernel"][2, 0, 1, 5])
  np.testing.assert_array_equal(     # a dense layer: (in, out) → (out, in)
      state[f"{prefix}.transformer_blocks.0.attn2.to_out.0.weight"],
      block["attn2"]["to_out_0"]["kernel"].T)
  np.testing.assert_array_equal(
      state[f"{prefix}.transformer_blocks.0.ff.net.0.proj.bias"], block["ff"]["net_0"]["proj"][
        "bias"])
  np.testing.assert_array_equal(
      state["time_embedding.linear_1.weight"], params["time_embedding"]["linear_1"]["kernel"].T)
  np.testing.assert_array_equal(
      state["up_blocks.0.upsamplers.0.conv.bias"],
      params["up_blocks_0"]["upsamplers_0"]["conv"]["bias"])
  assert {k for k in flax_to_torch(random_params(autoencoder_template())) if "mid_block.att" in k
          and k.startswith("encoder")} == {
    f"encoder.mid_block.attentions.0.{layer}.{kind}" for kind in ("weight", "bias")
    for layer in ("group_norm", "to_q", "to_k", "to_v", "to_out.0")}


def test_old_attention_names_of_autoencoder_files_are_read():
  template = autoencoder_template()
  params = random_params(template)
  old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
  state = {}
  for key, value in flax_to_torch(params).items():
    for new_name, old_name in old.items():
      key = key.replace(f"attentions.0.{new_name}.", f"attentions.0.{old_name}.")
    state[key] = value
  assert any(".proj_attn." in key for key in state)
  back, notes = torch_to_flax(state, template)
  jax.tree.map(np.testing.assert_array_equal, back, params)
  assert len(notes) == 16   # four layers, weight and bias, encoder and decoder
  assert any("decoder.mid_block.attentions.0.key.bias" in note for note in notes)


def test_missing_and_unknown_keys_are_all_listed():
  state = flax_to_torch(random_params(unet_template()))
  del state["conv_out.bias"], state["mid_block.resnets.1.norm2.weight"]
  state["text_model.embeddings"] = np.zeros(3)
  with pytest.raises(ValueError) as error:
    torch_to_flax(state, unet_template())
  for text in ("2 keys are missing", "'conv_out.bias'", "'mid_block.resnets.1.norm2.weight'",
               "1 are unknown", "'text_model.embeddings'"):
    assert text in str(error.value)


def test_shape_mismatch_names_the_key_and_both_shapes():
  state = flax_to_torch(random_params(unet_template()))
  key = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
  state[key] = np.zeros((16, 9), np.float32)
  with pytest.raises(ValueError, match=rf"{key}: \(16, 9\) in the file, \(16, 6\) in the model"):
    torch_to_flax(state, unet_template())
  state[key] = np.zeros((16, 6), np.float32)
  state["conv_in.weight"] = np.zeros((8, 5, 3, 3), np.float32)   # more channels than the model
  with pytest.raises(ValueError, match=r"conv_in.weight: \(8, 5, 3, 3\) in .* \(8, 2, 3, 3\) in"):
    torch_to_flax(state, unet_template())


def test_extra_input_channels_are_zero_and_reported():
  params = random_params(unet_template())
  wide, notes = torch_to_flax(flax_to_torch(params), unet_template(extra=3))
  assert len(notes) == 1
  assert "2 input channels in the file, 5 in the model; the last 3 start at zero" in notes[0]
  kernel = wide["conv_in"].pop("kernel")
  np.testing.assert_array_equal(kernel[:, :, :2], params["conv_in"].pop("kernel"))
  np.testing.assert_array_equal(kernel[:, :, 2:], 0)
  jax.tree.map(np.testing.assert_array_equal, wide, params)


def test_half_precision_files_become_float32_parameters():
  state = flax_to_torch(random_params(unet_template()))
  state = {name: value.astype(np.float16) for name, value in state.items()}
  params, _ = torch_to_flax(state, unet_template())
  flat = flax.traverse_util.flatten_dict(params)
  assert {v.dtype for v in flat.values()} == {np.dtype(np.float32)}
  np.testing.assert_array_equal(flat["conv_out", "bias"], state["conv_out.bias"].astype(np.float32))


@pytest.mark.parametrize("name", ["model.bin", "model.ckpt", "model.pt"])
def test_pickles_are_refused_unread(name, tmp_path):
  (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
  with pytest.raises(ValueError, match=r"only .safetensors is read.*save_file"):
    load_safetensors(tmp_path / name)


def test_files_that_are_not_there_or_not_what_they_say(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"none\.safetensors does not exist"):
    load_safetensors(tmp_path / "none.safetensors")
  with pytest.raises(FileNotFoundError, match=r"holds 0 \.safetensors files"):
    load_safetensors(tmp_path)
  (tmp_path / "broken.safetensors").write_bytes(b"not safetensors at all")
  with pytest.raises(ValueError, match="not a valid safetensors file"):
    load_safetensors(tmp_path / "broken.safetensors")


@pytest.mark.parity
def test_the_command_that_the_refusal_of_a_pickle_names_works(tmp_path):
  import torch

  # Not contiguous, as files that were converted from another layout hold them.
  state = {"a.weight": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1), "b": torch.ones(3)}
  torch.save(state, tmp_path / "weights.pth")
  with pytest.raises(ValueError) as error:
    load_safetensors(tmp_path / "weights.pth")
  command = str(error.value).split('python -c "')[1].rstrip('"')
  command = command.replace("FILE", str(tmp_path / "weights.pth"))
  subprocess.run([sys.executable, "-c", command], check=True)
  got = load_safetensors(tmp_path / "weights.pth.safetensors")
  assert got.keys() == state.keys()
  for key, value in state.items():
    np.testing.assert_array_equal(got[key], value.numpy())
