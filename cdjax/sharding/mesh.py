"""The device mesh: three axes, of which one may fill."""

from collections.abc import Mapping, Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# data: replicas of the model. fsdp: replicas too, but the parameters are spread over them and
# gathered when used. tensor: parts of one layer.
AXES = ("data", "fsdp", "tensor")


def mesh_shape(sizes: Mapping[str, int], num_devices: int) -> tuple[int, int, int]:
  """Sizes of `AXES` with the one -1, if any, filled so that the product is `num_devices`.

  Raises:
    ValueError: unknown or missing axis, more than one -1, or sizes that do not fit.
  """
  if set(sizes) != set(AXES):
    raise ValueError(f"mesh axes {sorted(sizes)}; expected exactly {sorted(AXES)}")
  shape = [int(sizes[axis]) for axis in AXES]
  text = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
  if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
    raise ValueError(f"mesh {text}; expected positive sizes, at most one of them -1 (it fills)")
  known = 1
  for size in shape:
    known *= size if size != -1 else 1
  if -1 in shape:
    if num_devices % known:
      raise ValueError(f"mesh {text} does not divide {num_devices} devices")
    shape[shape.index(-1)] = num_devices // known
  elif known != num_devices:
    raise ValueError(f"mesh {text} needs {known} devices; there are {num_devices}. "
                     f"Set one axis to -1 to fill")
  return tuple(shape)


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh over the devices (default: all), axes as in `AXES`, sharding decided by the compiler.

  Args:
    sizes: axis → size, e.g. `config.mesh`; one of them may be -1.
    devices: which devices; default all of every process.

  Raises:
    ValueError: sizes that do not fit, see `mesh_shape`; TPU slices that the axis data does not
      divide over: between slices only replicas of the model, which talk once a step.
  """
  devices = jax.devices() if devices is None else list(devices)
  shape, types = mesh_shape(sizes, len(devices)), (AxisType.Auto,) * len(AXES)
  slices = len({getattr(device, "slice_index", 0) for device in devices})
  if slices == 1:
    # A torus like 8 × 8 × 8 has no axes that make 16: one of them is split.
    return Mesh(mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True), AXES,
                axis_types=types)
  if shape[0] % slices:
    raise ValueError(f"mesh data={shape[0]} over {slices} slices; expected a multiple of {slices}")
  inside = (shape[0] // slices, *shape[1:])
  return Mesh(mesh_utils.create_hybrid_device_mesh(
      inside, (slices, 1, 1), devices=devices, allow_split_physical_axes=True), AXES,
              axis_types=types)


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of what every device has whole."""
  return NamedSharding(mesh, PartitionSpec())


def compiler_options(mesh: Mesh) -> dict[str, int] | None:
  """XLA's options for programs whose parameters are spread over a mesh; None: its defaults.

  Left alone, the TPU's compiler gathers a layer's parameters piece by piece while it multiplies,
  and reads and writes the layer's whole result once for every piece: for images, where results are
  much larger than parameters, that is most of the step.
  """
  if mesh.devices.flat[0].platform != "tpu":
    return None
  return {"xla_jf_spmd_threshold_for_windowed_einsum_mib": 1 << 20}
