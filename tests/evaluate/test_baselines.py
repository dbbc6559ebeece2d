import numpy as np

from cdjax.core.types import FindingsArrays
from cdjax.evaluate.baselines import nearest_with_findings


def findings(rows):
  """`rows` of (status, side, zone) lists over two findings."""
  status, side, zone = (np.array(part, np.int8) for part in zip(*rows, strict=True))
  return FindingsArrays(status, np.where(status == 1, 0.5, -1.0).astype(np.float32), side, zone)


def test_the_nearest_image_that_has_the_finding_at_the_place():
  shades = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
  train = np.broadcast_to(shades[:, None, None], (5, 4, 4))
  shown = findings([
      ([0, 0], [0, 0], [0, 0]),      # healthy, and nearest to everything dark
      ([1, 1], [1, 2], [1, 1]),      # has it, with another
      ([1, 0], [2, 0], [1, 0]),      # alone, on the other side
      ([1, 0], [1, 0], [1, 0]),      # as asked
      ([1, 0], [1, 0], [1, 0]),      # as asked, farther away
  ])
  ask = lambda side, zone, k=0: findings([([1 - k, k], [side, 0], [zone, 0])])
  answer = lambda do: nearest_with_findings(train, shown, np.zeros((1, 4, 4)), do)[0, 0, 0]
  assert answer(ask(1, 1)) == shades[3]
  assert answer(ask(2, 4)) == shades[2]     # no such zone: side first
  assert answer(ask(3, 1)) == shades[2]     # no such side: alone, the nearest
  assert answer(ask(0, 0, k=1)) == shades[1]   # never alone
  none = nearest_with_findings(train[:1], findings([([0, 0], [0, 0], [0, 0])]),
                               np.zeros((1, 4, 4)), ask(1, 1))
  assert none[0, 0, 0] == shades[0]
