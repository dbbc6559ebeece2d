"""How strongly an answer follows the findings that were asked for: one scale, or one a finding."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays


def findings_guidance(cfg: ConfigDict, do_findings: FindingsArrays) -> Array | float:
  """The guidance scale of the asked findings `[B, K]`: a number, or `[B]` with a scale by finding.

  Raises:
    ValueError: `guidance_by_finding` has not one scale for each finding.
  """
  if not len(cfg.guidance_by_finding):
    return cfg.guidance_findings
  scales, size = jnp.asarray(cfg.guidance_by_finding, jnp.float32), do_findings.status.shape[-1]
  if scales.shape != (size,):
    raise ValueError(f"counterfactual.guidance_by_finding={tuple(cfg.guidance_by_finding)}; "
                     f"expected () or a scale for each of {size} findings")
  largest = jnp.where(do_findings.present, scales, -jnp.inf).max(-1)
  return jnp.where(do_findings.any_present, largest, cfg.guidance_findings)
