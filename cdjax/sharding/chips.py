"""TPUs that are not there: what their chips can do, and their devices for compiling ahead of time.

Numbers of a chip are those of its page in https://cloud.google.com/tpu/docs (v4, v5e, v5p, v6e);
what a chip has of the network between slices is its share of its pod's or its host's.
"""

import dataclasses
import importlib.util
import os
import re

import jax


@dataclasses.dataclass(frozen=True)
class Chip:
  """What one chip can do.

  Attributes:
    hbm: bytes of memory.
    flops: bfloat16 operations a second at most.
    hbm_bandwidth: bytes a second.
    ici_bandwidth: bytes a second that all links to its neighbours together take in one direction.
    ici_axes: dimensions of the torus; each has two of the links.
    dcn_bandwidth: bytes a second between slices, a chip's share of its host's network.
  """

  hbm: float
  flops: float
  hbm_bandwidth: float
  ici_bandwidth: float
  ici_axes: int
  dcn_bandwidth: float

  @property
  def ring_bandwidth(self) -> float:
    """Bytes a second that a chip sends in a ring along one axis of the torus, both ways round."""
    return self.ici_bandwidth / self.ici_axes


CHIPS = {
    "v4": Chip(32 * 2**30, 275e12, 1228e9, 300e9, 3, 6.25e9),
    "v5e": Chip(16 * 2**30, 197e12, 819e9, 200e9, 2, 3.125e9),
    "v5p": Chip(95 * 2**30, 459e12, 2765e9, 600e9, 3, 6.25e9),
    "v6e": Chip(32 * 2**30, 918e12, 1638e9, 400e9, 2, 12.5e9),
}

# Compiling needs no TPU, and libtpu must not look for one, nor for others that use it.
_ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
                "TPU_WORKER_HOSTNAMES": "localhost"}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices to compile for.

  Attributes:
    name: "v5e:16x16".
    slices: how many of them.
    chip: of which kind.
    chips: in all slices together.
    devices: what jax calls devices; one or two a chip.
  """

  name: str
  slices: int
  chip: Chip
  chips: int
  devices: list[jax.Device]

  @property
  def cores_a_chip(self) -> int:
    """Devices a chip; they share its memory and its links."""
    return len(self.devices) // self.chips


def parse_topology(name: str) -> tuple[Chip, int]:
  """The kind of chip and the number of chips in "v5e:16x16".

  Raises:
    ValueError: another form, or an unknown kind.
  """
  match = re.fullmatch(r"(v\w+):(\d+(?:x\d+){1,2})", name)
  if not match or match[1] not in CHIPS:
    raise ValueError(f"topology {name!r}; expected KIND:AxB or KIND:AxBxC with KIND one of "
                     f"{', '.join(CHIPS)}, e.g. v5e:16x16 or v5p:4x4x8")
  chips = 1
  for size in match[2].split("x"):
    chips *= int(size)
  return CHIPS[match[1]], chips


def describe_topology(name: str, slices: int = 1) -> Topology:
  """The devices of a TPU topology, for compiling ahead of time.

  Args:
    name: kind and shape, e.g. "v5e:16x16".
    slices: how many of these, joined by the data centre's network.

  Raises:
    ImportError: libtpu, the compiler, is not installed.
    ValueError: no such topology.
  """
  chip, chips = parse_topology(name)
  if slices < 1:
    raise ValueError(f"slices={slices}; expected 1 or more")
  if importlib.util.find_spec("libtpu") is None:
    raise ImportError("compiling for TPUs needs libtpu, though no TPU: "
                      "pip install 'cdjax[tpu-compile]' (Linux x86-64 only)")
  for key, value in _ENVIRONMENT.items():
    os.environ.setdefault(key, value)
  from jax.experimental import topologies

  options = {"num_slices": slices} if slices > 1 else {}
  try:
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=name, **options).devices
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(f"libtpu does not know the topology {name!r}: "
                     f"{str(error).splitlines()[0]}") from error
  return Topology(name, slices, chip, chips * slices, list(devices))
