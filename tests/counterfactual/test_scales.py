"""Which questions are guided, and how much."""

import jax.numpy as jnp
import numpy as np

from cdjax.core.config import base_config
from cdjax.core.types import FindingsArrays
from cdjax.counterfactual.scales import question_guidance


def findings(status, side=(1, 0), severity=(0.5, -1.0)):
  of = lambda values, dtype: jnp.asarray([values], dtype)
  return FindingsArrays(of(status, jnp.int8), of(severity, jnp.float32), of(side, jnp.int32),
                        of((1, 0), jnp.int32))


def test_only_what_changes_is_guided():
  cfg = base_config().counterfactual
  cfg.guidance_findings, cfg.guidance_kept = 3.0, 1.5
  factual = findings((1, 0))
  scale = lambda asked: np.asarray(question_guidance(cfg, factual, asked))
  assert scale(factual) == 1.0
  assert scale(findings((1, 0), side=(1, 2), severity=(0.5, 0.7))) == 1.0   # details of what is not
  assert scale(findings((1, 0), severity=(0.9, -1.0))) == 1.5
  assert scale(findings((1, 0), side=(2, 0))) == 1.5
  assert scale(findings((1, 1))) == scale(findings((0, 0))) == 3.0
