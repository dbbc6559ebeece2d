"""What a compiled program does on one chip: operations, memory traffic, collectives.

XLA's own analysis counts the body of a loop once; here it counts as often as it runs, so that a
sampler's or an accumulating step's numbers are those of the whole call.
"""

import collections
import dataclasses
import math
import re

import numpy as np

from cdjax.sharding.hlo import Instruction, Module, replica_groups, trip_count

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
               "ragged-all-to-all", "collective-broadcast")
# What goes to another slice over the hosts' network; XLA makes it of a larger collective.
BETWEEN_SLICES = "between-slices"
# Instructions that move nothing: names for, or parts of, what others made.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
         "call", "after-all", "optimization-barrier", "partition-id", "replica-id", "iota",
         "add-dependency", "domain", "opt-barrier"}
_KERNEL_FLOPS = re.compile(r'"cost_estimate":\{"flops":"(\d+)"')   # what a kernel says of itself
_SLICES = {"dynamic-slice", "slice", "gather"}


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective, as one chip sees it.

  Attributes:
    kind: one of `COLLECTIVES`, or `BETWEEN_SLICES`.
    group: chips that take part together.
    bytes: that the chip sends in a ring: `2(k-1)/k` of an all-reduce's array, `(k-1)/k` of the
      whole array of a gather, scatter or exchange, all of it of a permutation.
    times: how often it runs in a call.
    result_bytes: of its result on one chip.
  """

  kind: str
  group: int
  bytes: float
  times: int
  result_bytes: int


@dataclasses.dataclass
class Cost:
  """Of one call on one chip.

  Attributes:
    flops: of matrix multiplications and convolutions, two for a multiplication and addition, and
      of kernels that say theirs.
    bytes: read from and written to HBM, without padding.
    collectives: all of them.
    unknown_loops: loops whose number of rounds is not in the program; they count once.
  """

  flops: float = 0.0
  bytes: float = 0.0
  collectives: list[Collective] = dataclasses.field(default_factory=list)
  unknown_loops: int = 0

  def sent(self, *, between_slices: bool) -> float:
    """Bytes that a chip sends, inside its slice or between slices."""
    return sum(c.bytes * c.times for c in self.collectives
               if (c.kind == BETWEEN_SLICES) == between_slices)

  def by_kind(self) -> dict[str, dict[str, float]]:
    """Kind → how often it runs and what a chip sends for it."""
    found: dict[str, dict[str, float]] = collections.defaultdict(lambda: {"count": 0, "bytes": 0.0})
    for c in self.collectives:
      found[c.kind]["count"] += c.times
      found[c.kind]["bytes"] += c.bytes * c.times
    return dict(found)


def program_cost(module: Module) -> Cost:
  """Counts what a program of `parse_module` does."""
  cost = Cost()
  seen: set[tuple] = set()

  def walk(name: str, times: int, loop: str, fused: bool) -> None:
    instructions = module.computations[name]
    for instruction in instructions.values():
      kind = instruction.opcode.removesuffix("-start")
      if kind in COLLECTIVES:
        # A gather that is spread over several fusions is in each of them, under one number.
        number = instruction.attribute("channel_id") or f"{name}/{instruction.name}"
        key = (loop, kind, number, instruction.shape)
        if key not in seen:
          seen.add(key)
          cost.collectives.append(_collective(instruction, kind, instructions, times, name))
      elif instruction.opcode == "send" and "megascale" in instruction.attributes:
        size = instruction.shape[0].bytes
        cost.collectives.append(Collective(BETWEEN_SLICES, 2, size, times, size))
      elif instruction.opcode in ("dot", "convolution"):
        cost.flops += times * _flops(instruction, instructions)
      elif said := _KERNEL_FLOPS.search(instruction.attributes):
        cost.flops += times * float(said[1])
      if not fused:
        cost.bytes += times * _traffic(instruction, instructions, module)
      if instruction.opcode == "while":
        rounds = trip_count(module, instruction)
        cost.unknown_loops += rounds is None
        body = instruction.attribute("body").lstrip("%")
        walk(body, times * (1 if rounds is None else rounds), f"{loop}/{instruction.name}", False)
      elif instruction.opcode in ("call", "conditional", "fusion", "async-start"):
        for called in instruction.computations():
          if called in module.computations:
            walk(called, times, loop, fused or instruction.opcode == "fusion")

  walk(module.entry, 1, "", False)
  return cost


def _collective(instruction: Instruction, kind: str, instructions: dict[str, Instruction],
                times: int, computation: str) -> Collective:
  groups = replica_groups(instruction)
  size = groups.shape[1] if groups is not None else 2
  operands = sum(array.bytes for name in instruction.operands if name in instructions
                 for array in instructions[name].shape)
  result = sum(array.bytes for array in instruction.shape)
  if instruction.opcode.endswith("-start") and kind != "all-reduce":
    result -= operands   # an asynchronous one's result holds its operands too
  if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
    kind = "reduce-scatter"   # a fusion of both
  share = (size - 1) / size
  sent = {"all-reduce": 2 * share * result, "reduce-scatter": share * operands,
          "all-gather": share * result, "all-to-all": share * result}.get(kind, result)
  return Collective(kind, size, sent, times, result)


def _traffic(instruction: Instruction, instructions: dict[str, Instruction],
             module: Module) -> float:
  """Bytes of HBM that an instruction outside of a fusion reads and writes."""
  opcode = instruction.opcode
  if opcode in _FREE or opcode.endswith("-done"):
    return 0.0
  far = lambda shape: sum(array.bytes for array in shape if not array.on_chip)
  if opcode in ("copy-start", "slice-start"):   # (destination, source, …)
    return far(instruction.shape[:1]) + min(far(instruction.shape[1:2]), instruction.shape[0].bytes)
  if opcode in _SLICES:
    return 2.0 * far(instruction.shape)
  if opcode == "dynamic-update-slice":
    return 2.0 * far(instructions[instruction.operands[1]].shape)
  read = [far(instructions[name].shape) if name in instructions else 0.0
          for name in instruction.operands]
  written = far(instruction.shape)
  if opcode == "fusion" and (called := instruction.computations()):
    inner = module.computations.get(called[0], {})
    read, written = _fusion_traffic(inner, read, written)
  return sum(read) + written


def _fusion_traffic(inner: dict[str, Instruction], read: list[float], written: float
                    ) -> tuple[list[float], float]:
  """A fusion that slices an operand reads the slice; one that updates a slice writes that."""
  uses = collections.defaultdict(list)
  for instruction in inner.values():
    for position, name in enumerate(instruction.operands):
      uses[name].append((instruction, position))
  for instruction in inner.values():
    if instruction.opcode == "parameter":
      number, users = int(instruction.literal), uses[instruction.name]
      if users and all(user.opcode in _SLICES and position == 0 for user, position in users):
        read[number] = min(read[number], sum(a.bytes for user, _ in users for a in user.shape))
      elif users and all(user.opcode == "dynamic-update-slice" and position == 0
                         for user, position in users):
        read[number] = 0.0
    if instruction.is_root and instruction.opcode == "dynamic-update-slice":
      update = inner[instruction.operands[1]]
      written = min(written, sum(array.bytes for array in update.shape))
  return read, written


def _flops(instruction: Instruction, instructions: dict[str, Instruction]) -> float:
  """Twice the multiplications of a `dot` or a `convolution`; those with padding do not count."""
  left, right = (instructions[name].shape[0].dims for name in instruction.operands[:2])
  out = instruction.shape[0].dims
  if instruction.opcode == "dot":
    contracted = instruction.attribute("lhs_contracting_dims").strip("{}")
    return 2.0 * math.prod(out) * math.prod(
        left[int(i)] for i in contracted.split(",") if i.strip())
  lhs, _, labels = instruction.attribute("dim_labels").partition("_")
  rhs, _, res = labels.partition("->")
  spatial = sorted(set(lhs) - {"b", "f"})
  window = instruction.attributes.partition("window={")[2].partition("}")[0]
  fields = dict(part.split("=") for part in window.split())

  def spread(key, default):
    if key not in fields:
      return [default] * len(spatial)
    return [[int(number) for number in item.split("_")] for item in fields[key].split("x")]

  pairs = 1
  for i, (stride, pad, before, within) in enumerate(zip(
      spread("stride", [1]), spread("pad", [0, 0]), spread("lhs_dilate", [1]),
      spread("rhs_dilate", [1]), strict=True)):
    label = spatial[i]
    place = (np.arange(out[res.index(label)])[:, None] * stride[0] - pad[0]
             + np.arange(right[rhs.index(label)])[None] * within[0])
    size = (left[lhs.index(label)] - 1) * before[0] + 1
    pairs *= int(((place >= 0) & (place < size) & (place % before[0] == 0)).sum())
  # The kernel's "i" is the input's features of one group, the result's "b" the batch of one.
  return 2.0 * pairs * out[res.index("b")] * out[res.index("f")] * right[rhs.index("i")]
