"""What a noise is asked for: its terms (`noise_terms`) through the few-step guided sampler."""

from collections.abc import Callable

import flax.struct
import optax
from ml_collections import ConfigDict

from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual import noise_terms as terms
from cdjax.counterfactual.causal_model import CausalModel, CausalParams
from cdjax.counterfactual.noise import Objective, OptimisedNoise, optimize_noise
from cdjax.counterfactual.scales import findings_guidance
from cdjax.diffusion.samplers import get_sampler

TERMS = ("semantic", "appearance", "norm", "repulsion", "distance")


@flax.struct.dataclass
class NoiseTask:
  """What N noises are led by; everything standardised as the diffusion sees it.

  Attributes:
    findings: asked, `[N, K]`.
    z_id: identities, `[N, h, w, n-1, c]`, not standardised.
    place: which of them are for the same finding, side and zone, `[N]` int32.
    centroid: of that class, `[N, h, w, c]`.
    reach: how far from the healthy mean its real cases lie towards it, `[N]`.
    healthy: mean of images without finding, `[h, w, c]`.
    spread: of such classes, `[h, w, c]`: the unit of distances.
    channel_mean, channel_std: of the class's samples, `[N, c]`.
    references: real cases that no sample may copy, `[R, h, w, c]`.
    allowed: distance that a sample keeps from each of them, scalar.
  """

  findings: FindingsArrays
  z_id: Array
  place: Array
  centroid: Array
  reach: Array
  healthy: Array
  spread: Array
  channel_mean: Array
  channel_std: Array
  references: Array
  allowed: Array


def check_noise_config(counterfactual: ConfigDict, noise: ConfigDict) -> None:
  """Checks the settings of an optimisation.

  Args:
    counterfactual: `config.counterfactual`.
    noise: `config.noise`.

  Raises:
    ValueError: a stochastic sampler, or sizes that are none.
  """
  if counterfactual.sampler == "ddpm":
    raise ValueError("counterfactual.sampler='ddpm' draws new noise at every step, so that the "
                     "initial noise does not decide its sample; expected 'ddim' or 'dpmpp_2m'")
  for name, least in (("steps", 0), ("sampler_steps", 1), ("batch_size", 1), ("references", 1)):
    if noise[name] < least:
      raise ValueError(f"noise.{name}={noise[name]}; expected {least} or more")
  if noise.start not in ("mixed", "random"):
    raise ValueError(f"noise.start={noise.start!r}; expected 'mixed' or 'random'")


def make_noise_objective(model: CausalModel, params: CausalParams, task: NoiseTask, *,
                         counterfactual: ConfigDict, noise: ConfigDict) -> Objective:
  """Returns `objective(z_T [N, h, w, c]) -> (loss [N], terms)`, for `noise.optimize_noise`.

  The backward pass keeps the sampler's states and recomputes each step, so that memory hardly grows
  with their number.

  Args:
    model, params: what samples.
    task: of these N noises.
    counterfactual: `config.counterfactual`: the sampler and its guidance.
    noise: `config.noise`: steps of the sampler and the weight of each term.
  """
  check_noise_config(counterfactual, noise)
  denoise_fn = model.guided_denoise_fn(
      params, task.findings, task.z_id,
      guidance_findings=findings_guidance(counterfactual, task.findings),
      guidance_identity=counterfactual.guidance_identity,
      guidance_rescale=counterfactual.guidance_rescale)
  sample = get_sampler(counterfactual.sampler)

  def objective(z_T: Array) -> tuple[Array, dict[str, Array]]:
    z_0 = sample(denoise_fn, z_T, schedule=model.schedule, num_steps=noise.sampler_steps,
                 remat=True)
    values = {
        "semantic": terms.semantic(z_0, task.centroid, task.healthy, task.spread, task.reach),
        "appearance": terms.appearance(z_0, task.channel_mean, task.channel_std),
        "norm": terms.norm_prior(z_T),
        "repulsion": terms.repulsion(z_0, task.centroid, task.spread, task.place),
        "distance": terms.closeness(z_0 / task.spread, task.references / task.spread,
                                    allowed=task.allowed),
    }
    return sum(noise[name] * values[name] for name in TERMS), values

  return objective


def make_optimise_fn(model: CausalModel, *, counterfactual: ConfigDict, noise: ConfigDict
                     ) -> Callable[[CausalParams, Array, NoiseTask], OptimisedNoise]:
  """`optimise(params, starts [N, h, w, c], task) -> OptimisedNoise`, pure and jittable.

  Arguments as `make_noise_objective`'s.
  """
  def optimise(params: CausalParams, starts: Array, task: NoiseTask) -> OptimisedNoise:
    objective = make_noise_objective(model, params, task, counterfactual=counterfactual,
                                     noise=noise)
    return optimize_noise(objective, starts, steps=noise.steps, clip=noise.clip,
                          tx=optax.adam(noise.learning_rate), patience=noise.patience)

  return optimise
