"""Stage 1's objective: reconstruction at a price in nats, in groups (DESIGN section 3).

Every batch holds B groups: an anchor and a mate of the same patient. Each sick image is rebuilt
from the *mate's* identity and its own pathology (group supervision; Ge et al., arXiv:2009.06586),
each healthy one from its own identity and the null pathology. The loss of an image is a bound on
its code length in nats; each KL weight is a price of information.

A mate's identity is never exactly where the image is, and a pathology slot that is paid for its
error only learns to redraw outlines of the body by a fraction of a pixel, which a diffusion then
redraws at random. The prior `minimality` makes that dear, and `outline_shift` pays little for it.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.images import from_unit, ssim, to_unit, warp
from cdjax.core.rng import stream
from cdjax.core.types import UNKNOWN, Array, FindingsArrays, Posterior
from cdjax.losses.anchor import null_pathology
from cdjax.losses.findings import findings_loss, location_loss, severity_loss
from cdjax.losses.identity import identity_contrastive
from cdjax.losses.independence import explained, gradient_reversal, hsic
from cdjax.losses.invariance import invariance
from cdjax.losses.kl import kl_to_standard_normal, posterior_sample
from cdjax.losses.minimality import sparse_change
from cdjax.losses.perceptual import perceptual_distance
from cdjax.losses.reconstruction import gaussian_nll, l1
from cdjax.losses.swap import swap_slots
from cdjax.models.acquisition import CODE_SIZE, apply_acquisition, compose_acquisition
from cdjax.models.classifier import feature_grids, make_classifier
from cdjax.models.disentangled import LocalLinear, make_autoencoder
from cdjax.models.heads import LatentEmbedding, LatentFindingsHead
from cdjax.train.objectives.anomalies import lay_anomalies
from cdjax.train.objectives.credit import credited
from cdjax.train.objectives.mirrored import mirrored_terms
from cdjax.train.objectives.swaps import cycle_swap_terms, same_findings_terms

_CODE_SIGMA = 0.1   # of the likelihood of an acquisition code
_TURN_FROM, _TURN_FULLY = 0.6, 0.8   # shares of training at which turned lesions begin to count
_ANATOMY = (0.1, 0.08, 3.0, 3.0)   # augmentation at most: radians, log scale, pixels at 64 px


@flax.struct.dataclass
class Group:
  """A batch of groups laid out flat: image i and image i + B (mod 2B) are mates.

  Attributes:
    x: `[2B, H, W, 1]`.
    findings: `[2B, K]`.
    view: `[2B]` int32.
    true_mate: `[2B]` bool; False: the mate is another acquisition of the same image.
  """

  x: Array
  findings: FindingsArrays
  view: Array
  true_mate: Array


def expose(x: Array, code: Array, *, max_shift: float) -> Array:
  """Images `[B, H, W, 1]` in [-1, 1] under a further acquisition `[B, CODE_SIZE]`."""
  return from_unit(apply_acquisition(to_unit(x), code, max_shift=max_shift))


def augment_acquisition(key: jax.Array, x: Array, *, max_shift: float) -> Array:
  """Another acquisition of the same study: `x` `[B, H, W, 1]` in [-1, 1] with a random code."""
  code = jax.random.normal(key, (x.shape[0], CODE_SIZE))
  return expose(x, code, max_shift=max_shift)


def augment_anatomy(key: jax.Array, x: Array, strength: float) -> Array:
  """Turns, scales and shifts all images of a patient alike: `x` `[2B, H, W, 1]`, mates B apart."""
  draw = strength * jax.random.uniform(key, (x.shape[0] // 2, 4), minval=-1.0, maxval=1.0)
  angle, scale, down, right = jnp.tile(draw, (2, 1)).T * jnp.array(_ANATOMY)[:, None]
  return warp(x, angle, jnp.exp(scale), jnp.stack([down, right], -1) * x.shape[1] / 64.0)


def make_group(batch: dict, key: jax.Array, *, max_shift: float, augment: float = 0.0,
               anomalies: float = 0.0) -> Group:
  """Lays a batch out as groups; a mate that is the same image gets a new acquisition.

  Args:
    batch: of `make_loader`.
    key: of acquisitions and augmentation.
    max_shift: see `apply_acquisition`.
    augment: strength of `augment_anatomy`; a Python number.
    anomalies: share of images with a made-up change, see `lay_anomalies`; a Python number.
  """
  true_mate = batch["is_true_mate"]
  again = augment_acquisition(key, batch["mate_image"], max_shift=max_shift)
  mate = jnp.where(true_mate[:, None, None, None], batch["mate_image"], again)
  both = lambda a, b: jnp.concatenate([a, b])
  x = both(batch["image"], mate)
  findings = jax.tree.map(both, batch["findings"], batch["mate_findings"])
  if augment:
    x = augment_anatomy(stream(key, "anatomy"), x, augment)
  if anomalies:
    x, findings = lay_anomalies(stream(key, "anomalies"), x, findings, anomalies)
  return Group(
      x=x,
      findings=findings,
      view=both(batch["view"], batch["mate_view"]),
      true_mate=both(true_mate, true_mate),
  )


def of_mate(tree):
  """Every leaf `[2B, ...]` with each image's mate in its place."""
  return jax.tree.map(lambda a: jnp.roll(a, a.shape[0] // 2, axis=0), tree)


def contrast(embedding: Array, true_mate: Array) -> Array:
  """Mates against everybody else, `[2B]` nats; `embedding` `[2B, D]`, `true_mate` `[2B]` bool."""
  anchor, mate = jnp.split(embedding, 2)
  return jnp.tile(identity_contrastive(anchor, mate, jnp.split(true_mate, 2)[0]), 2)


def equivariance_terms(key: jax.Array, x: Array, code: Array, encode: Callable, *,
                       max_shift: float) -> Array:
  """An image exposed again, by a known acquisition, must have the composed code: `[N]` in nats.

  Args:
    key: draws the acquisitions.
    x: `[N, H, W, 1]` in [-1, 1].
    code: means of q(z_acq|x), `[N, CODE_SIZE]`.
    encode: image -> such means.
    max_shift: of the model.
  """
  then = 0.5 * jax.random.normal(key, code.shape).at[:, 1].set(0.0)
  again = encode(expose(x, then, max_shift=max_shift))
  error = again - compose_acquisition(code, then, max_shift=max_shift)
  return 0.5 * jnp.sum((error / _CODE_SIGMA) ** 2, -1)


def side_by_side(slots: Posterior) -> Posterior:
  """Slots `[N, h, w, n, c]` as channels, `[N, h, w, n·c]`."""
  return jax.tree.map(lambda a: a.reshape(*a.shape[:3], -1), slots)


def make_modules(config: ConfigDict) -> dict[str, nn.Module]:
  """The autoencoder and those heads whose losses have a weight."""
  loss, k = config.autoencoder.loss, len(config.data.vocabulary)
  modules = {"autoencoder": make_autoencoder(config.autoencoder.model)}
  if loss.findings or loss.location or loss.severity:
    modules["findings_head"] = LatentFindingsHead(k)
  if loss.independence_reversal:
    modules["adversary"] = LatentFindingsHead(k)
  if loss.patient_reversal:
    modules["patient_adversary"] = LocalLinear(
        config.autoencoder.model.slot_channels,
        nn.initializers.variance_scaling(0.1, "fan_in", "normal", batch_axis=(0, 1)))
  if loss.identity:
    modules["identity_head"] = LatentEmbedding()
  return modules


def init_params(config: ConfigDict, key: jax.Array) -> dict:
  """Parameters of every module, boxed with their logical axes; jittable."""
  modules, size = make_modules(config), config.data.resolution
  x = jnp.zeros((1, size, size, 1))
  model = modules["autoencoder"]
  params = {"autoencoder": model.init(stream(key, "autoencoder"), x, key)["params"]}
  encoding = model.apply({"params": nn.unbox(params["autoencoder"])}, x, method="encode")
  inputs = {
      "findings_head": encoding.pathology, "patient_adversary": side_by_side(encoding.identity),
      "adversary": encoding.identity, "identity_head": encoding.identity,
  }
  for name in sorted(modules.keys() - {"autoencoder"}):
    params[name] = modules[name].init(stream(key, name), inputs[name].mean)["params"]
  return params


def make_loss_fn(config: ConfigDict) -> Callable:
  """Returns `loss_fn(params, frozen, batch, rng, step) -> (loss, aux)` of stage 1.

  `frozen` is `{"classifier": its parameters}` where `loss.perceptual` has a weight, else {}.
  The loss is in nats per pixel. aux holds every term before its weight, in nats an image.
  """
  cfg, weights = config.autoencoder, config.autoencoder.loss
  modules = make_modules(config)
  reader = make_classifier(config.classifier.model, len(config.data.vocabulary))
  price_steps = max(weights.price_warmup * cfg.num_train_steps, 1.0)

  def loss_fn(params, frozen, batch, rng, step):
    apply = lambda name, *args, **kw: modules[name].apply({"params": params[name]}, *args, **kw)
    encode = lambda x: apply("autoencoder", x, method="encode")
    decode = lambda z, code, view: apply("autoencoder", z, code, view, method="decode")

    progress = jnp.minimum(step / price_steps, 1.0)
    price = weights.price_start + (1.0 - weights.price_start) * progress
    group = make_group(batch, stream(rng, "augment"), max_shift=cfg.model.max_shift,
                       augment=cfg.augment, anomalies=cfg.anomalies)
    sick = ~group.findings.healthy
    null = ~sick if weights.null_anchor else jnp.zeros_like(sick)
    encoding = encode(group.x)
    take = posterior_sample if cfg.model.sample_latents else lambda _, posterior: posterior.mean
    z = null_pathology(take(stream(rng, "slots"), encoding.slots), null)
    z_id, z_path = z[..., :-1, :], z[..., -1, :]
    code = take(stream(rng, "acquisition"), encoding.acquisition)

    # A sick image never teaches its own identity what its lesion looks like: it is rebuilt from
    # the mate's, or, for want of a mate, from its own with the gradient stopped.
    share = jax.random.uniform(stream(rng, "swap"), sick.shape) < weights.swap_same_patient
    swapped = sick & share & group.true_mate
    stopped = sick & share & ~group.true_mate
    everyone = jnp.arange(sick.shape[0])
    z_used = swap_slots(z, jnp.where(swapped, of_mate(everyone), everyone), slots=slice(0, -1))
    frozen_id = z_used.at[..., :-1, :].set(jax.lax.stop_gradient(z_used[..., :-1, :]))
    z_used = jnp.where(stopped[:, None, None, None, None], frozen_id, z_used)
    layers = apply("autoencoder", z_used, group.view, method="paint")
    x_hat = apply("autoencoder", credited(layers, weights), code, method="observe")

    anchor = jnp.where(null, weights.null_anchor, 1.0)
    unit, unit_hat = to_unit(group.x), to_unit(x_hat)
    terms = {"reconstruction": anchor * gaussian_nll(unit, unit_hat, sigma=weights.sigma)}
    pixels = group.x[0].size
    if weights.reconstruction_l1:
      terms["reconstruction_l1"] = anchor * l1(unit, unit_hat, sigma=weights.sigma)
    if weights.ssim:
      terms["ssim"] = anchor * (1.0 - ssim(unit, unit_hat)) * pixels
    if weights.perceptual:
      seen_as = functools.partial(feature_grids, reader, frozen["classifier"])
      distance = perceptual_distance(seen_as(group.x), seen_as(x_hat))
      terms["perceptual"] = anchor * distance * pixels
    terms["kl_identity"] = kl_to_standard_normal(encoding.identity)
    terms["kl_pathology"] = jnp.where(null, 0.0, kl_to_standard_normal(encoding.pathology))
    terms["kl_acquisition"] = kl_to_standard_normal(encoding.acquisition)
    if weights.invariance:
      terms["invariance"] = invariance(
          encoding.identity, of_mate(encoding.identity), group.true_mate)
    if weights.acquisition_equivariance:
      terms["acquisition_equivariance"] = equivariance_terms(
          stream(rng, "expose"), group.x, encoding.acquisition.mean,
          lambda x: apply("autoencoder", x, method="encode_acquisition").mean,
          max_shift=cfg.model.max_shift)
    if weights.acquisition_invariance:
      # The same study with somebody else's lesion has the same acquisition.
      lent = layers.replace(lesion=jnp.roll(layers.lesion, 1, 0),
                            opacity=jnp.roll(layers.opacity, 1, 0))
      made = jax.lax.stop_gradient(apply("autoencoder", lent, code, method="observe"))
      terms["acquisition_invariance"] = invariance(
          encoding.acquisition, apply("autoencoder", made, method="encode_acquisition"),
          jnp.ones_like(sick))

    if weights.minimality:
      change = 0.5 * layers.opacity * (layers.lesion - jax.lax.stop_gradient(layers.film))
      terms["minimality"] = sparse_change(change, scale=weights.minimality_scale)

    if "findings_head" in modules:
      logits = apply("findings_head", z_path)
      terms["findings"] = findings_loss(logits.status, group.findings.status)
      terms["location"] = location_loss(logits.side, logits.zone, group.findings)
      terms["severity"] = severity_loss(logits.severity, group.findings)
    if weights.independence_reversal:
      logits = apply("adversary", gradient_reversal(z_id))
      terms["independence_reversal"] = findings_loss(logits.status, group.findings.status)
    if weights.independence_hsic:
      known = (group.findings.status != UNKNOWN).all(-1)
      terms["independence_hsic"] = hsic(
          z_id, group.findings.present.astype(jnp.float32), valid=known, normalised=True)
    if weights.patient_reversal:
      mate = jax.lax.stop_gradient(of_mate(side_by_side(encoding.identity).mean))
      guess = gradient_reversal(apply("patient_adversary", mate))
      terms["patient_reversal"] = jnp.where(
          sick & group.true_mate, explained(encoding.pathology, guess), 0.0)
    if weights.identity:
      embedding = apply("identity_head", z_id)
      terms["identity"] = contrast(embedding, group.true_mate)
    if weights.swap_same_findings:
      terms["swap_same_findings"] = same_findings_terms(
          stream(rng, "same_findings"), group, encoding, z_used, code, decode,
          sigma=weights.sigma)
    if weights.cycle_swap:
      terms["cycle_swap"] = cycle_swap_terms(
          stream(rng, "cycle"), group, null, encoding, z, code, encode, decode,
          sigma=weights.sigma)

    # Early on the model does not know yet what of an image is lesion.
    turn = (step / cfg.num_train_steps - _TURN_FROM) / (_TURN_FULLY - _TURN_FROM)
    if weights.mirror:
      terms["mirror"] = mirrored_terms(
          stream(rng, "mirror"), group, layers, z_used, code, apply, take,
          weights=weights, price=price)

    priced = {"kl_identity", "kl_pathology", "kl_acquisition", "invariance",
              "acquisition_invariance", "minimality"}
    factor = {name: price for name in priced} | {"mirror": jnp.clip(turn, 0.0, 1.0)}
    total = sum(
        weights[name] * factor.get(name, 1.0) * term.mean()
        for name, term in terms.items() if name in weights and name != "null_anchor")
    aux = {name: term.mean() for name, term in terms.items()}
    error = jnp.mean((unit - jnp.clip(unit_hat, 0.0, 1.0)) ** 2)
    aux["psnr"] = -10.0 * jnp.log10(error)
    return total / pixels, aux

  return loss_fn
