"""Asks the subject in batches of one shape, with images in [0, 1] on the outside."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from cdjax.core import rng
from cdjax.core.types import Array, FindingsArrays, Posterior
from cdjax.evaluate import judged
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.image_metrics import from_model, to_model
from cdjax.evaluate.questions import Questions
from cdjax.evaluate.subject import Subject


@dataclasses.dataclass(frozen=True)
class Answering:
  """A subject, the batch size of every call, and who is told of finished rows.

  All images are `[N, S, S]` in [0, 1]; answers are clipped to it, as an image file would be.

  Attributes:
    subject: what is asked.
    batch_size: rows of each call.
    on_rows: called with the number of rows answered.
  """

  subject: Subject
  batch_size: int
  on_rows: Callable[[int], None]

  def _map(self, fn, key, *arrays):
    return from_model(map_batches(fn, *arrays, batch_size=self.batch_size, key=key,
                                  on_batch=self.on_rows))

  def counterfactual(
      self, key: Array, x: Array, findings: FindingsArrays, do_findings: FindingsArrays
  ) -> np.ndarray:
    """The subject's answers."""
    return self._map(self.subject.counterfactual_fn, key, to_model(x), findings, do_findings)

  def answers(self, key: Array, questions: Questions, count: int) -> np.ndarray:
    """`count` answers to each question, `[N, count, S, S]`."""
    return np.stack([
        self.counterfactual(rng.stream(key, "answer", i), questions.x, questions.findings,
                            questions.do_findings) for i in range(count)], axis=1)

  def encoded(self, key: Array, questions: Questions) -> np.ndarray | None:
    """The autoencoder's ceiling; None where the subject has no `encoded_fn`."""
    q = questions
    if self.subject.encoded_fn is None:
      return None
    return self._map(self.subject.encoded_fn, key, to_model(q.x), q.findings, to_model(q.exact),
                     q.do_findings)

  def reconstruction(self, key: Array, questions: Questions) -> np.ndarray:
    """Factual images rebuilt from their own latents."""
    return self._map(self.subject.reconstruct_fn, key, to_model(questions.x), questions.findings)

  def swap(self, key: Array, questions: Questions, other: Array) -> np.ndarray:
    """Factual images with the pathology slot of the factual images of rows `other`."""
    q = questions
    theirs = jax.tree.map(lambda leaf: leaf[other], q.findings)
    return self._map(self.subject.swap_fn, key, to_model(q.x), q.findings, to_model(q.x[other]),
                     theirs)

  def null(self, key: Array, x: Array, findings: FindingsArrays, residual: bool) -> np.ndarray:
    """The null intervention through the whole path."""
    fn = lambda key, x, findings: self.subject.null_fn(key, x, findings, residual)
    return self._map(fn, key, to_model(x), findings)

  def encode(self, x: Array, findings: FindingsArrays) -> dict[str, Posterior]:
    """Posteriors of N images."""
    return map_batches(self.subject.encode_fn, to_model(x), findings, batch_size=self.batch_size,
                       on_batch=self.on_rows)

  def judge(self, x: Array) -> judged.Judgement:
    """The judge's reading of N images."""
    return judged.judge(self.subject.judge_fn, x, batch_size=self.batch_size)
