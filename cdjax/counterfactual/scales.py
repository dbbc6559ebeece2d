"""How strongly an answer follows the findings that were asked for."""

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


def question_guidance(cfg: ConfigDict, findings: FindingsArrays, do_findings: FindingsArrays
                      ) -> Array:
  """The guidance scale of each question, `[B]`.

  A finding that stays keeps its abducted noise, which belongs to the plain conditional flow: where
  nothing is changed there is no guidance, so that the image comes back; where its place or severity
  is, `cfg.guidance_kept`; where a finding comes or goes, `findings_guidance`.

  Args:
    cfg: `config.counterfactual`.
    findings: factual, `[B, K]`.
    do_findings: asked, `[B, K]`.
  """
  present = do_findings.present
  same_set = (findings.present == present).all(-1)
  alike = [(getattr(findings, name) == getattr(do_findings, name)) | ~present
           for name in ("side", "zone", "severity")]
  unchanged = same_set & jnp.stack(alike).all((0, -1))
  scale = jnp.where(same_set, cfg.guidance_kept, findings_guidance(cfg, do_findings))
  return jnp.where(unchanged, 1.0, scale)
