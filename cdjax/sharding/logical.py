"""Logical axis names and the one table that maps them to mesh axes.

Models name the axes of parameters (`nn.with_logical_partitioning`) and of activations
(`constrain`); what a name means on a mesh is decided here and nowhere else.
"""

from collections.abc import Sequence

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from cdjax.core.types import Array

# Logical axis → mesh axes, in order of preference; () is replicated.
RULES: dict[str, tuple[str, ...]] = {
    # activations
    "batch": ("data", "fsdp"),   # examples
    "height": (),                # rows of a feature map
    "width": (),                 # columns
    "channels": (),              # features of an activation
    "slots": (),                 # latent slots at one place
    "length": (),                # tokens of a context
    # convolution kernels [h, w, in, out]
    "conv_h": (),
    "conv_w": (),
    "conv_in": ("fsdp",),
    "conv_out": ("tensor",),
    # dense kernels [in, out] and attention projections
    "embed": ("fsdp",),          # the residual width that a layer reads or writes
    "mlp": ("tensor",),          # hidden width
    "heads": ("tensor",),        # heads times head width
    "vocab": (),                 # rows of an embedding table
    "norm": (),                  # biases, scales and other vectors
}

# Axes of parameters that take "fsdp" where no other axis of the parameter can: the output of a
# kernel whose input does not divide, a bias of every place of a feature map.
SPARE = ("conv_out", "mlp", "heads", "norm")

# A parameter smaller than this is replicated: gathering it costs more than keeping it.
MIN_SHARDED_BYTES = 64 * 1024


def resolve_spec(names: Sequence[str | None], shape: Sequence[int],
                 mesh: Mesh | AbstractMesh) -> PartitionSpec:
  """The PartitionSpec of an array whose axes have these logical names.

  An axis takes the mesh axes of its rule that no earlier axis of the array has taken, as many
  of them, in order, as divide its size; none: the axis is replicated. Then, where "fsdp" is still
  free, the last axis in `SPARE` whose size it divides takes it too.

  Args:
    names: a logical name, or None, for each axis.
    shape: sizes of the axes.
    mesh: the mesh whose sizes must divide.

  Raises:
    ValueError: a name that `RULES` does not have, or as many names as axes are not given.
  """
  if len(names) != len(shape):
    raise ValueError(f"axis names {tuple(names)} for an array of shape {tuple(shape)}; "
                     f"expected {len(shape)} names")
  for name in names:
    if name is not None and name not in RULES:
      raise ValueError(f"logical axis {name!r}; expected one of {sorted(RULES)} "
                       f"(the table is cdjax.sharding.logical.RULES)")
  used: set[str] = set()
  taken: list[list[str]] = [[] for _ in names]
  left = list(shape)

  def take(i: int, axis: str) -> bool:
    if axis in used or left[i] % mesh.shape[axis]:
      return False
    used.add(axis)
    taken[i].append(axis)
    left[i] //= mesh.shape[axis]
    return True

  for i, name in enumerate(names):
    for axis in RULES.get(name, ()):
      if not take(i, axis):
        break
  for i in reversed(range(len(names))):
    if names[i] in SPARE and take(i, "fsdp"):
      break
  spec = [tuple(axes) if len(axes) > 1 else axes[0] if axes else None for axes in taken]
  while spec and spec[-1] is None:
    spec.pop()
  return PartitionSpec(*spec)


def constrain(x: Array, names: Sequence[str | None]) -> Array:
  """Tells the partitioner how an activation is laid out; the identity where no mesh is set.

  Args:
    x: any array.
    names: its logical axis names.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or "data" not in mesh.shape:
    return x
  return jax.lax.with_sharding_constraint(x, resolve_spec(names, x.shape, mesh))
