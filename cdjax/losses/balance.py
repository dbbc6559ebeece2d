"""How much a class of few examples counts: weights from the number of its training examples.

`inverse_sqrt`: n^(-1/2) (Mahajan et al., arXiv:1805.00932). `effective_number`: (1 − β) / (1 −
β^n), one over the number of examples that do not overlap (Cui et al., "Class-Balanced Loss Based on
Effective Number of Samples", arXiv:1901.05555); β = 0 weighs nothing, β → 1 by 1/n.
"""

from collections.abc import Sequence

import numpy as np

from cdjax.core.types import ABSENT, PRESENT, Array

BALANCES = ("none", "inverse_sqrt", "effective_number")


def class_weights(counts: Sequence[int] | Array, kind: str, *, beta: float = 0.999) -> np.ndarray:
  """Weight of one example of each class; the scale has no meaning.

  Args:
    counts: examples of each class, `[C]`.
    kind: one of `BALANCES`; "none" is 1 for all.
    beta: of the effective number, in [0, 1).

  Returns:
    `[C]` float64; 0 for classes without examples.

  Raises:
    ValueError: unknown kind, or a beta outside [0, 1).
  """
  counts = np.asarray(counts, np.float64)
  if kind not in BALANCES:
    raise ValueError(f"balance {kind!r}; expected one of {', '.join(BALANCES)}")
  if not 0 <= beta < 1:
    raise ValueError(f"class_beta={beta}; expected at least 0 and below 1")
  there = np.maximum(counts, 1.0)
  weights = {"none": np.ones_like(there), "inverse_sqrt": there**-0.5,
             "effective_number": (1 - beta) / (1 - beta**there)}[kind]
  return np.where(counts > 0, weights, 0.0)


def example_weights(status: Array, kind: str, *, beta: float = 0.999) -> np.ndarray:
  """How often each image is drawn, so that those of rare findings come more often.

  An image counts by the rarest finding that it shows; images that show none are a class too.

  Args:
    status: `[N, K]`, PRESENT, ABSENT or UNKNOWN.
    kind, beta: of `class_weights`.

  Returns:
    `[N]` float64, positive.
  """
  present = np.asarray(status) == PRESENT
  free = ~present.any(1)
  weights = class_weights([*present.sum(0), free.sum()], kind, beta=beta)
  rarest = np.where(present, weights[:-1], 0.0).max(1)
  return np.where(free, weights[-1], rarest)


def positive_weights(status: Array, kind: str, *, beta: float = 0.999) -> np.ndarray:
  """Weight of the positive term of each finding's cross-entropy, the negative term's being 1.

  Presence and absence of a finding are two classes; the ratio of their weights is taken.

  Args:
    status: `[N, K]`.
    kind, beta: of `class_weights`.

  Returns:
    `[K]` float32; 1 where one of the two never occurs.
  """
  status = np.asarray(status)
  counts = np.stack([(status == PRESENT).sum(0), (status == ABSENT).sum(0)])
  present, absent = class_weights(counts, kind, beta=beta)
  usable = (present > 0) & (absent > 0)
  return np.where(usable, present / np.where(usable, absent, 1.0), 1.0).astype(np.float32)
