"""Self-attention over many places on a TPU, tile by tile.

Written out, the weights of 4,096 places for each other are the largest arrays of a UNet, and moving
them to memory and back bounds its step. Dao et al., "FlashAttention", arXiv:2205.14135; the kernel
is JAX's own.
"""

import functools

import jax
from jax.experimental.pallas.ops.tpu.flash_attention import BlockSizes, flash_attention

from cdjax.core.types import Array
from cdjax.sharding.logical import resolve_spec

MIN_PLACES = 1024   # fewer are not worth a kernel
_TILE = 512
_LANES = 128


def fits_tiles(q: Array, k: Array) -> bool:
  """Whether `attend_by_tiles` takes queries and keys `[B, T, N, D]` of these shapes, and pays."""
  places, width = q.shape[1], q.shape[3]
  return (places >= MIN_PLACES and q.shape == k.shape and places % _TILE == 0
          and width <= _LANES)


def attend_by_tiles(q: Array, k: Array, v: Array, *, tile: int = _TILE) -> Array:
  """Scaled dot-product attention, `[B, T, N, D]` each; T is a multiple of `tile`.

  On a mesh every device does its own examples and heads.
  """
  sizes = {field: tile for field in BlockSizes.__dataclass_fields__} | {"block_b": 1}
  kernel = functools.partial(flash_attention, sm_scale=q.shape[-1] ** -0.5,
                             block_sizes=BlockSizes(**sizes))

  def attend(*arrays):
    return kernel(*(a.swapaxes(1, 2) for a in arrays)).swapaxes(1, 2)

  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and mesh.size > 1:
    spec = resolve_spec(("batch", None, "heads", None), q.shape, mesh)
    # The kernel does not say over which axes its results differ, which is what is checked.
    attend = jax.shard_map(attend, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec,
                           check_vma=False)
  return attend(q, k, v)
