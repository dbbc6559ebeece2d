"""Our modules against diffusers' with random PyTorch weights, float32, CPU (extra `[parity]`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.models.autoencoder_kl import AutoencoderKL
from cdjax.models.convert import torch_to_flax
from cdjax.models.unet import UNet2DCondition

pytestmark = pytest.mark.parity
# Measured: 4e-6. A wrong epsilon in the UNet's norms moves the output by 2e-5 only.
TOLERANCE = 1e-5

# (diffusers' arguments, ours, height and width of the image)
AUTOENCODERS = {
  "sd_like": (
    dict(block_out_channels=(16, 32, 32), layers_per_block=2, norm_num_groups=8),
    dict(block_out_channels=(16, 32, 32), layers_per_block=2, norm_num_groups=8),
    (16, 24)),
  "no_attention_no_quant": (
    dict(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, latent_channels=8,
         mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False),
    dict(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, latent_channels=8,
         mid_attention=False, quant_conv=False, post_quant_conv=False),
    (20, 12)),
  "grey_deep": (
    dict(in_channels=1, out_channels=1, block_out_channels=(8, 16, 24, 24), layers_per_block=3,
         norm_num_groups=8, use_post_quant_conv=False),
    dict(in_channels=1, out_channels=1, block_out_channels=(8, 16, 24, 24), layers_per_block=3,
         norm_num_groups=8, post_quant_conv=False),
    (32, 16)),
}

CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
UNETS = {   # ours; (diffusers' keys are derived), height and width of the latent
  "sd15_like": (
    dict(block_out_channels=(16, 32, 32), attention_blocks=(True, True, False), num_heads=4,
         cross_attention_dim=12, norm_num_groups=8, layers_per_block=2),
    (8, 12)),
  "sd2_like": (
    dict(block_out_channels=(16, 32), attention_blocks=(False, True), num_heads=(2, 8),
         cross_attention_dim=10, norm_num_groups=4, layers_per_block=1, linear_projection=True,
         transformer_layers=(1, 2)),
    (8, 8)),
  "odd_size_mixed": (
    dict(in_channels=3, out_channels=6, block_out_channels=(8, 16, 24),
         attention_blocks=(True, False, True), num_heads=(1, 2, 3), cross_attention_dim=7,
         norm_num_groups=4, layers_per_block=3, flip_sin_to_cos=False, freq_shift=1),
    (7, 10)),
}


def randomise(module, seed):
  """Weights and biases of a size that keeps activations O(1) and lets every one matter."""
  import torch

  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, parameter in module.named_parameters():
      noise = torch.randn(parameter.shape, generator=generator)
      if parameter.ndim > 1:
        parameter.copy_(noise / np.sqrt(parameter[0].numel()))
      else:   # the scale of a norm, or a bias
        parameter.copy_(0.2 * noise + (0 if name.endswith("bias") else 1))
  return module.eval()


def arrays_of(module):
  return {name: value.numpy() for name, value in module.state_dict().items()}


def nchw(x):
  import torch

  return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def assert_close(ours, theirs):
  """Largest difference below the tolerance, on values that are O(1) and not constant."""
  theirs = np.moveaxis(theirs.detach().numpy(), 1, -1)
  assert ours.shape == theirs.shape
  assert 0.1 < theirs.std() < 20
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoder_kl(name):
  import diffusers
  import torch

  theirs_args, ours_args, (height, width) = AUTOENCODERS[name]
  number = len(theirs_args["block_out_channels"])
  theirs = randomise(diffusers.AutoencoderKL(
      down_block_types=("DownEncoderBlock2D",) * number,
      up_block_types=("UpDecoderBlock2D",) * number, **theirs_args), seed=1)
  ours = AutoencoderKL(**ours_args)
  rng = np.random.default_rng([1, number])
  x = rng.normal(size=(2, height, width, ours.in_channels)).astype(np.float32)
  template = jax.eval_shape(ours.init, jax.random.key(0), x)["params"]
  params, notes = torch_to_flax(arrays_of(theirs), template)
  assert notes == []

  with torch.no_grad():
    expected = theirs.encode(nchw(x)).latent_dist
    posterior = ours.apply({"params": params}, x, method="encode")
    assert_close(posterior.mean, expected.mean)
    assert_close(posterior.logvar, expected.logvar)
    z = rng.normal(size=posterior.mean.shape).astype(np.float32)
    assert_close(ours.apply({"params": params}, z, method="decode"), theirs.decode(nchw(z)).sample)


def diffusers_unet(ours):
  """The diffusers model of the same configuration; their attention_head_dim is our num_heads."""
  import diffusers

  blocks = [CROSS if attention else PLAIN for attention in ours["attention_blocks"]]
  rename = dict(num_heads="attention_head_dim", linear_projection="use_linear_projection",
                transformer_layers="transformer_layers_per_block")
  same = {rename.get(k, k): v for k, v in ours.items() if k != "attention_blocks"}
  return diffusers.UNet2DConditionModel(
      down_block_types=tuple(down for down, _ in blocks),
      up_block_types=tuple(up for _, up in reversed(blocks)), **same)


@pytest.mark.parametrize("name", UNETS)
def test_unet(name):
  import torch

  arguments, (height, width) = UNETS[name]
  theirs, ours = randomise(diffusers_unet(arguments), seed=2), UNet2DCondition(**arguments)
  rng = np.random.default_rng([2, height, width])
  x = rng.normal(size=(3, height, width, ours.in_channels)).astype(np.float32)
  t = np.array([0, 481, 999])
  context = rng.normal(size=(3, 5, ours.cross_attention_dim)).astype(np.float32)
  mask = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1]], bool)
  template = jax.eval_shape(ours.init, jax.random.key(0), x, t, context)["params"]
  params, notes = torch_to_flax(arrays_of(theirs), template)
  assert notes == []

  apply_fn = jax.jit(lambda *inputs: ours.apply({"params": params}, *inputs))
  for m in (None, mask):
    with torch.no_grad():
      expected = theirs(nchw(x), torch.from_numpy(t), torch.from_numpy(context),
                        encoder_attention_mask=None if m is None else torch.from_numpy(m)).sample
    assert_close(apply_fn(x, t, context, m), expected)


def test_parameter_counts_of_published_models():
  """Stable Diffusion 1.5's UNet and autoencoder, ours by eval_shape, theirs on the meta device."""
  import diffusers
  import torch

  with torch.device("meta"):
    theirs = [
      diffusers.UNet2DConditionModel(cross_attention_dim=768),
      diffusers.AutoencoderKL(
          block_out_channels=(128, 256, 512, 512), layers_per_block=2,
          down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)]
  ours = [
    jax.eval_shape(UNet2DCondition().init, jax.random.key(0), jnp.zeros((1, 8, 8, 4)),
                   jnp.zeros((1,)), jnp.zeros((1, 77, 768))),
    jax.eval_shape(AutoencoderKL().init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))]
  for module, tree in zip(theirs, ours, strict=True):
    count = sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert count == sum(p.numel() for p in module.parameters())
