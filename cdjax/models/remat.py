"""What the backward pass recomputes instead of keeping it: memory against time.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax

# The costly operations: cheaper to keep than to do again.
_COSTLY = ("dot_general", "conv_general_dilated")


def _keep_costly(primitive, *args, **params) -> bool:
  del args, params
  return primitive.name in _COSTLY


# none: everything is kept. products: results of matrix multiplications and convolutions are kept,
# norms, activations and softmax are done again. full: a block keeps its inputs alone.
POLICIES = {"none": None, "products": _keep_costly,
            "full": jax.checkpoint_policies.nothing_saveable}


def rematerialise(block: type[nn.Module], policy: str, static_argnums: Sequence[int]
                  ) -> type[nn.Module]:
  """A module class whose backward pass recomputes as the policy says.

  Args:
    block: the class.
    policy: one of `POLICIES`.
    static_argnums: positions of the arguments of `__call__` that are not arrays; self is 0.

  Raises:
    ValueError: an unknown policy.
  """
  if policy not in POLICIES:
    raise ValueError(f"remat={policy!r}; expected one of {sorted(POLICIES)}")
  if policy == "none":
    return block
  return nn.remat(block, policy=POLICIES[policy], static_argnums=tuple(static_argnums))
