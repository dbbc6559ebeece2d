"""The layout of configs/mimic_cxr_large.py:512, whose denoiser has Stable Diffusion's size."""

import math

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from cdjax.core.config import load_config
from cdjax.core.trees import named_leaves
from cdjax.sharding.logical import MIN_SHARDED_BYTES
from cdjax.sharding.mesh import AXES
from cdjax.train import ahead

BLOCK = "denoiser/unet/down_blocks_1/attentions_0/transformer_blocks_0"
SPECS = {   # name: shape, and what splits it where fsdp=16 and where fsdp=4, tensor=4
    "diffusion": {
        "denoiser/unet/conv_in/kernel": (
            (3, 3, 22, 320), P(None, None, None, ("tensor", "fsdp")),
            P(None, None, None, ("tensor", "fsdp"))),   # 22 channels divide over neither
        "denoiser/unet/mid_block/resnets_0/conv1/kernel": (
            (3, 3, 1280, 1280), P(None, None, "fsdp", "tensor"), P(None, None, "fsdp", "tensor")),
        f"{BLOCK}/attn1/to_q/kernel": ((640, 640), P("fsdp", "tensor"), P("fsdp", "tensor")),
        f"{BLOCK}/attn2/to_k/kernel": ((768, 640), P("fsdp", "tensor"), P("fsdp", "tensor")),
        f"{BLOCK}/attn1/to_out_0/kernel": ((640, 640), P("tensor", "fsdp"), P("tensor", "fsdp")),
        f"{BLOCK}/ff/net_0/proj/kernel": ((640, 5120), P("fsdp", "tensor"), P("fsdp", "tensor")),
        f"{BLOCK}/ff/net_2/kernel": ((2560, 640), P("tensor", "fsdp"), P("tensor", "fsdp")),
        f"{BLOCK}/norm1/scale": ((640,), P(), P()),   # a vector
        "denoiser/findings/name_zone": ((40, 768), P(None, "fsdp"), P(None, "fsdp")),
        "denoiser/unet/conv_out/kernel": (   # 46 KB: too small to split
            (3, 3, 320, 4), P(), P())},
    "autoencoder": {
        "autoencoder/decoder/conv_in/kernel": (
            (3, 3, 12, 512), P(None, None, None, ("tensor", "fsdp")),
            P(None, None, "fsdp", "tensor")),
        "autoencoder/encoder/mid_block/attentions_0/to_q/kernel": (
            (512, 512), P("fsdp", "tensor"), P("fsdp", "tensor")),
        "autoencoder/linear_decoder/place_kernel": (
            (64, 64, 12, 64), P(None, None, None, ("tensor", "fsdp")),
            P(None, None, "fsdp", "tensor")),
        "autoencoder/linear_decoder/bias": (
            (64, 64, 64), P(None, None, "fsdp"), P(None, None, "fsdp")),
        "autoencoder/linear_encoder/bias": ((64, 64, 24), P(), P(None, None, "fsdp"))}}
MILLIONS = {"diffusion": 859.66, "autoencoder": 70.40}
# Of 64 KiB and more, and whole. The bias's 24 features do not divide over 16 devices; its rows and
# columns are named as those of feature maps, which no mesh axis splits. 384 KiB.
WHOLE = {("autoencoder", (16, 16, 1)): {"autoencoder/linear_encoder/bias"}}


@pytest.mark.parametrize("stage", SPECS)
@pytest.mark.parametrize("sizes", [(16, 16, 1), (16, 4, 4)])
def test_the_large_model_is_spread_over_a_slice(stage, sizes):
  mesh = AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3)
  state = ahead.abstract_stage(load_config("configs/mimic_cxr_large.py:512"), stage, mesh)
  params = named_leaves(state.params)
  found = {name: (params[name].shape, params[name].sharding.spec) for name in SPECS[stage]}
  assert found == {name: (shape, specs[sizes == (16, 4, 4)])
                   for name, (shape, *specs) in SPECS[stage].items()}
  count = sum(math.prod(leaf.shape) for leaf in params.values())
  assert round(count / 1e6, 2) == MILLIONS[stage]
  whole = {name for name, leaf in params.items()
           if leaf.sharding.shard_shape(leaf.shape) == leaf.shape
           and leaf.size * leaf.dtype.itemsize >= MIN_SHARDED_BYTES}
  assert whole == WHOLE.get((stage, sizes), set())
  # The average and the moments lie as the parameters do: Adam's two, Muon's one.
  leaves = jax.tree_util.tree_leaves_with_path(state)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    copies = [other.sharding.spec for where, other in leaves[1 + len(params):]
              if where[-len(path):] == path and other.shape == leaf.shape]
    assert len(copies) >= 2 and set(copies) == {leaf.sharding.spec}, path
