"""How long a step must take at least: the slowest of computing, memory and links.

Williams et al., "Roofline", doi:10.1145/1498765.1498785. `ASSUMPTIONS` says what is left out.
"""

import dataclasses

from cdjax.sharding.chips import Chip
from cdjax.sharding.cost import Cost

ASSUMPTIONS = (
    "matrix multiplications, convolutions and kernels that say how much they compute (the forward "
    "pass of attention does, its backward pass does not) run at the chip's bfloat16 peak; nothing "
    "else counts",
    "operations are those of the compiled program: what remat computes a second time counts, so "
    "the share of the peak is that of the hardware; that of the model's own operations is smaller",
    "memory traffic is every operand and result of a fusion once, without padding, at full speed",
    "a collective is a ring along one axis of the torus; collectives do not overlap each other",
    "the bound: computing, memory and links overlap fully; the sum: they do not overlap at all",
)


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds of a call on one chip.

  Attributes:
    compute: of matrix multiplications and convolutions at peak.
    memory: of the traffic to HBM.
    links: of collectives inside a slice.
    network: of what goes between slices.
  """

  compute: float
  memory: float
  links: float
  network: float

  @property
  def bound(self) -> float:
    """Where everything overlaps: no step is faster."""
    return max(dataclasses.astuple(self))

  @property
  def total(self) -> float:
    """Where nothing overlaps."""
    return sum(dataclasses.astuple(self))

  @property
  def bound_by(self) -> str:
    """What takes longest."""
    parts = dataclasses.asdict(self)
    return max(parts, key=parts.get)

  @property
  def utilisation(self) -> tuple[float, float]:
    """Share of the chip's peak, with nothing and with everything overlapped."""
    if not self.bound:
      return 0.0, 0.0
    return self.compute / self.total, self.compute / self.bound


def estimate(cost: Cost, chip: Chip, cores_a_chip: int = 1) -> Roofline:
  """The roofline of a program whose `cost` is that of one device.

  Args:
    cost: of `program_cost`.
    chip: what it runs on.
    cores_a_chip: devices that share a chip.
  """
  share = 1 / cores_a_chip
  return Roofline(
      compute=cost.flops / (chip.flops * share),
      memory=cost.bytes / (chip.hbm_bandwidth * share),
      links=cost.sent(between_slices=False) / (chip.ring_bandwidth * share),
      network=cost.sent(between_slices=True) / (chip.dcn_bandwidth * share))
