"""What each part of the latent holds, and what it does: the interactions that the paper analyses.

The parts are the identity slots, the pathology slot and the acquisition code. For each: what a
linear probe reads of every finding from it as it is used, how often it finds the patient's other
study, how many nats it holds (KL to the prior, a bound on its mutual information with the image)
and how far apart two studies of a patient are (KL between mates: what could be read of the study is
bounded by it; where they differ it is larger than what is held). Then how much the pathology
attends to each slot in T, by finding, and where in the image each slot acts.
"""

from collections.abc import Mapping, Sequence

import flax.struct
import numpy as np

from cdjax.core.types import Array, FindingsArrays, Posterior
from cdjax.evaluate.reidentification import patient_from_pathology
from cdjax.losses.kl import kl_between, kl_to_standard_normal

_RIDGE = 1.0   # of the linear probe, in units of the number of features
Parts = dict[str, Posterior]


@flax.struct.dataclass
class Studies:
  """N patients' studies as posteriors.

  Attributes:
    parts: name → posterior `[N, ...]`.
    present: `[N, K]` bool.
  """

  parts: Parts
  present: Array


def split_parts(encoded: dict[str, Posterior]) -> Parts:
  """`Subject.encode_fn`'s answer as "identity 1", ..., "pathology" and "acquisition"."""
  slot = lambda q, i: Posterior(q.mean[..., i, :], q.logvar[..., i, :])
  identity = encoded["id"]
  parts = {f"identity {i + 1}": slot(identity, i) for i in range(identity.mean.shape[-2])}
  parts["pathology"] = encoded["path"]
  return parts | ({"acquisition": encoded["acq"]} if "acq" in encoded else {})


def _features(posterior: Posterior, generator: np.random.Generator, noise: float) -> np.ndarray:
  """One draw of each row with so much of its noise, flattened."""
  mean, logvar = (np.asarray(a, np.float64) for a in (posterior.mean, posterior.logvar))
  draw = mean + noise * np.exp(0.5 * logvar) * generator.standard_normal(mean.shape)
  return draw.reshape(len(mean), -1)


def linear_probe(train: Array, train_present: Array, test: Array) -> np.ndarray:
  """What ridge regression reads of each finding.

  Args:
    train: features `[N, D]`.
    train_present: `[N, K]` bool.
    test: features `[M, D]`.

  Returns:
    `[M, K]` bool: the regression of ±1, each class having the same weight, is above 0.
  """
  mean, sd = train.mean(0), train.std(0)
  scaled = lambda x: np.append((x - mean) / np.maximum(sd, 1e-6), np.ones((len(x), 1)), 1)
  x, fresh = scaled(train), scaled(test)
  out = np.zeros((len(test), train_present.shape[1]), bool)
  for k, there in enumerate(train_present.T):
    share = there.mean()
    if not 0 < share < 1:
      continue
    weight = np.where(there, 0.5 / share, 0.5 / (1 - share))[:, None]
    gram = x.T @ (weight * x) + _RIDGE * x.shape[1] * np.eye(x.shape[1])
    target = np.where(there, 1.0, -1.0)
    out[:, k] = fresh @ np.linalg.solve(gram, x.T @ (weight[:, 0] * target)) > 0
  return out


def part_measures(train: Studies, first: Studies, second: Studies, *,
                  noise: Mapping[str, float], seed: int) -> dict[str, dict[str, np.ndarray]]:
  """What is measured of each part.

  Args:
    train: studies that the probes are fitted on.
    first, second: two studies of each of M new patients.
    noise: part → that it is used with: 0 its means, 1 draws.
    seed: of the draws.

  Returns:
    part → "read" `[M, K]` bool (findings read from the first study), "patient" `[M]` bool (the
    second study found), "nats" `[M]`, "nats_of_study" `[M]`.
  """
  out = {}
  for name, posterior in first.parts.items():
    generator = np.random.default_rng([seed, len(out)])
    other = second.parts[name]
    out[name] = {
        "read": linear_probe(_features(train.parts[name], generator, noise[name]), train.present,
                             _features(posterior, generator, noise[name])),
        "patient": patient_from_pathology(posterior, other, noise=noise[name], seed=seed),
        "nats": np.asarray(kl_to_standard_normal(posterior)),
        "nats_of_study": np.asarray(kl_between(posterior, other, symmetric=True))}
  return out


def attention_by_finding(attention: Array, places: Array, findings: FindingsArrays,
                         vocabulary: Sequence[str]) -> dict[str, np.ndarray]:
  """How much the pathology slot attends to each slot, where a finding is.

  Args:
    attention: of the pathology slot to all slots at every place, `[N, h, w, n]`.
    places: whether a place has a lesion, `[N, h, w]` bool.
    findings: `[N, K]`; patients with exactly one finding are counted.
    vocabulary: K names.

  Returns:
    finding → `[M, n]`, the mean over the lesion's places of each patient who has it alone.
  """
  present = np.asarray(findings.present)
  weight = np.asarray(places, np.float64)[..., None]
  mean = (attention * weight).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1.0)
  alone = present.sum(1) == 1
  return {name: mean[alone & present[:, k]] for k, name in enumerate(vocabulary)
          if (alone & present[:, k]).any()}
