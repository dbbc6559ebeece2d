"""Reads the text of an XLA program: computations, instructions, shapes, groups of devices.

The text is what `Lowered.as_text("hlo")` and `Compiled.as_text()` give; its grammar:
https://openxla.org/xla/operation_semantics and xla/hlo/parser.
"""

import dataclasses
import math
import re

import numpy as np

_BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
         "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\](\{[^}]*\})?")


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of a shape.

  Attributes:
    dims: its sizes.
    bytes: without padding.
    on_chip: it lies in the core's own memory, not in HBM.
  """

  dims: tuple[int, ...]
  bytes: int
  on_chip: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
  """`%name = shape opcode(operands), attributes`; `shape` has one array, a tuple several."""

  name: str
  opcode: str
  shape: tuple[Array, ...]
  operands: tuple[str, ...]
  literal: str
  attributes: str
  is_root: bool

  def attribute(self, name: str) -> str:
    """The word or the braces after `name=`; "" where there are none."""
    match = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^\s,]+)", self.attributes)
    return match[1] if match else ""

  def computations(self) -> list[str]:
    """Names of the computations that `calls`, `to_apply`, `body` and branches name."""
    found = re.findall(r"\b(?:calls|to_apply|body|true_computation|false_computation)="
                       r"%?([\w.\-]+)", self.attributes)
    for names in re.findall(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}",
                            self.attributes):
      found += [name.strip().lstrip("%") for name in names.split(",")]
    return found


@dataclasses.dataclass(frozen=True)
class Module:
  """Computations by name, each its instructions by name, in order; `entry` is where it starts."""

  computations: dict[str, dict[str, Instruction]]
  entry: str


def parse_shape(text: str) -> tuple[Array, ...]:
  """Arrays of `f32[2,3]{1,0:T(8,128)S(1)}` or of a tuple of such."""
  arrays = []
  for kind, dims, layout in _ARRAY.findall(text):
    sizes = tuple(int(size) for size in dims.split(",") if size)
    bits = _BITS.get(kind, 8 if kind.startswith("f8") else 0)
    arrays.append(Array(sizes, math.prod(sizes) * bits // 8, "S(1)" in layout))
  return tuple(arrays)


def _closing(text: str, start: int) -> int:
  """Index of the bracket that closes the one at `start`."""
  depth = 0
  for i in range(start, len(text)):
    if text[i] in "({[":
      depth += 1
    elif text[i] in ")}]":
      depth -= 1
      if depth == 0:
        return i
  raise ValueError(f"no closing bracket in {text[start:start + 80]!r}")


def _split(text: str) -> list[str]:
  """Splits at the commas outside of brackets."""
  parts, depth, begin = [], 0, 0
  for i, char in enumerate(text):
    depth += (char in "({[") - (char in ")}]")
    if char == "," and depth == 0:
      parts.append(text[begin:i])
      begin = i + 1
  return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


def parse_instruction(line: str) -> Instruction:
  """One line of a computation.

  Raises:
    ValueError: it is not an instruction.
  """
  name, equals, rest = line.strip().partition(" = ")
  if not equals:
    raise ValueError(f"not an instruction: {line[:80]!r}")
  is_root, name = name.startswith("ROOT "), name.removeprefix("ROOT ").lstrip("%")
  rest = re.sub(r"/\*index=\d+\*/", "", rest)
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
  shape, rest = rest[:end], rest[end:].lstrip()
  begin = rest.index("(")
  end = _closing(rest, begin)
  literal = rest[begin + 1:end]
  operands = tuple(part.split()[-1].lstrip("%") for part in _split(literal))
  return Instruction(name, rest[:begin], parse_shape(shape), operands, literal, rest[end + 1:],
                     is_root)


def parse_module(text: str) -> Module:
  """All computations of a program.

  Raises:
    ValueError: the text has no entry.
  """
  computations: dict[str, dict[str, Instruction]] = {}
  entry, current = "", None
  for line in text.splitlines():
    if line.startswith("}"):
      current = None
    elif line.endswith("{") and not line.startswith((" ", "HloModule")):
      name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
      current = computations[name] = {}
      entry = name if line.startswith("ENTRY ") else entry
    elif current is not None and " = " in line:
      instruction = parse_instruction(line)
      current[instruction.name] = instruction
  if not entry:
    raise ValueError("the text of the program has no ENTRY computation")
  return Module(computations, entry)


def trip_count(module: Module, loop: Instruction) -> int | None:
  """How often a while loop runs, if it counts from 0 to a constant as `lax.scan`'s do."""
  match = re.search(r'known_trip_count[^\d]*(\d+)', loop.attributes)
  if match:
    return int(match[1])
  condition = loop.attribute("condition").lstrip("%")
  limits = []
  for name in [condition, *(called for inner in module.computations[condition].values()
                            for called in inner.computations())]:
    instructions = module.computations[name].values()
    limits += [int(inner.literal) for inner in instructions if inner.opcode == "constant"
               and inner.literal.lstrip("-").isdigit()]
  return max(limits) if limits else None


def replica_groups(instruction: Instruction) -> np.ndarray | None:
  """Groups of devices that a collective runs in, `[groups, size]`; None where it says nothing.

  Reads `{{0,1},{2,3}}`, `[2,4]<=[4,2]T(1,0)` and `mesh['a'=2,'b'=4], device_ids=(…) {'b'}`.
  """
  text = instruction.attributes
  match = re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(([^)]*\)?)\))? \{([^}]*)\}",
                    text)
  if match:
    axes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
    sizes = [int(size) for size in axes.values()]
    ids = _iota(match[2]) if match[2] else np.arange(math.prod(sizes))
    taken = [list(axes).index(axis) for axis in re.findall(r"'([^']+)'", match[3])]
    kept = [i for i in range(len(sizes)) if i not in taken]
    ids = ids.reshape(sizes).transpose([*kept, *taken])
    return ids.reshape(-1, math.prod(sizes[i] for i in taken))
  match = re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\[[\d,]*\](?:T\([\d,]*\))?)", text)
  if match:
    return _iota(match[3]).reshape(int(match[1]), int(match[2]))
  match = re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", text)
  if match:
    found = re.findall(r"\{([\d, ]+)\}", match[1])
    groups = [[int(i) for i in group.split(",")] for group in found]
    return np.array(groups) if groups and len({len(group) for group in groups}) == 1 else None
  return None


def _iota(text: str) -> np.ndarray:
  """`[4,2]T(1,0)`: 0, 1, … in that shape, transposed, flat."""
  dims, order = re.fullmatch(r"\[([\d,]*)\](?:T\(([\d,]*)\))?", text.strip()).groups()
  sizes = [int(size) for size in dims.split(",")]
  ids = np.arange(math.prod(sizes)).reshape(sizes)
  return ids.transpose([int(i) for i in order.split(",")]).ravel() if order else ids.ravel()
