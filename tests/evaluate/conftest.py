"""A few small questions, drawn once, and a judge that knows every picture shown."""

import jax
import numpy as np
import pytest

from cdjax.evaluate.questions import make_questions

VOCABULARY = ("consolidation", "pleural_effusion", "cardiomegaly")
SIZE = 32


def oracle_judge(*sets):
  """A judge that looks pictures up: the findings of the nearest of those it knows.

  Args:
    *sets: questions, whose factual, exact and nuisance images and findings it knows.

  Returns:
    `judge(images [N, S, S]) -> judgement`.
  """
  known = np.concatenate([image for q in sets for image in (q.x, q.exact, q.nuisance)])
  findings = [f for q in sets for f in (q.findings, q.do_findings, q.do_findings)]
  findings = jax.tree.map(lambda *leaves: np.concatenate(leaves), *findings)
  bits = lambda mask, count: (mask[..., None] >> np.arange(count)) & 1

  def judge(images):
    flat = np.asarray(images).reshape(len(images), 1, -1)
    nearest = np.abs(flat - known.reshape(1, len(known), -1)).sum(-1).argmin(1)
    f = jax.tree.map(lambda leaf: np.asarray(leaf)[nearest], findings)
    return {"finding": f.present.astype(np.float32), "side": bits(f.side, 2).astype(np.float32),
            "zone": bits(f.zone, 3).astype(np.float32), "severity": np.maximum(f.severity, 0.0)}

  return judge


@pytest.fixture(scope="session")
def asked():
  """`replace` questions."""
  return make_questions(jax.random.key(1), 24, vocabulary=VOCABULARY, size=SIZE)
