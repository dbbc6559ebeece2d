"""The exact counterfactual: abduction is given, because the phantom knows its causes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cdjax.core.types import PRESENT, FindingsArrays
from cdjax.data.phantom.pathology import Pathology, pathology_from_findings


def exact_counterfactual(
    key: jax.Array, pathology: Pathology, do: FindingsArrays, *, vocabulary: Sequence[str]
) -> Pathology:
  """The pathology of the same study had the findings been `do`.

  Anatomy, acquisition and sensor noise are other arguments of `render` and stay as they are. A
  finding present before and after keeps its own hidden draw, a new one gets a fresh draw.

  Args:
    key: for the hidden draws of new findings and for what `do` leaves open.
    pathology: the factual one.
    do: the whole set of findings after the intervention, leaves `[K]`.
    vocabulary: K finding names.

  Returns:
    The counterfactual pathology. A kept finding whose severity, side or zone `do` leaves open keeps
    its own.
  """
  kept = pathology.present & (jnp.asarray(do.status) == PRESENT)
  severity = jnp.asarray(do.severity)
  do = do.replace(
      severity=jnp.where(kept & (severity < 0), pathology.severity, severity),
      side=jnp.where(kept & (jnp.asarray(do.side) == 0), pathology.side, do.side),
      zone=jnp.where(kept & (jnp.asarray(do.zone) == 0), pathology.zone, do.zone),
  )
  after = pathology_from_findings(do, key, vocabulary=vocabulary)
  return after.replace(hidden=jnp.where(kept[:, None], pathology.hidden, after.hidden))
