"""A fresh convolutional probe: can the findings be read from these latents?

A small network is trained to its plateau on latents of training patients with a class-balanced
binary cross-entropy for each finding, and judged by others on patients it has never seen. A
latent that is used as a sample is probed as a sample: a new draw every epoch, one a test image.
All probes of one battery see inputs of one shape (a mask says which channels they may read), so
one program is compiled for all.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cdjax.core import rng
from cdjax.core.types import Array, Posterior, PyTree

_BATCH, _LEARNING_RATE, _DROP, _PATIENCE = 128, 2e-3, 0.2, 3
# Shares of the steps before which no plateau counts (a weak leak is not found at once) and after
# which the learning rate drops in any case.
_LEAST, _FULL_RATE = 0.4, 0.8
_WEIGHT_DECAY = 1.0   # times the learning rate; less of it overfits and finds weak leaks less often
_VALIDATION_SHARE = 0.15


@flax.struct.dataclass
class Latents:
  """What is probed: a grid of Gaussian channels, and a Gaussian code for the whole image.

  Attributes:
    grid: posterior `[N, h, w, C]`.
    code: posterior `[N, A]`; A may be 0.
  """

  grid: Posterior
  code: Posterior


@flax.struct.dataclass
class View:
  """What one probe may read of `Latents`.

  Attributes:
    grid: `[C]` float, 1 for the channels it sees, 0 for the others.
    code: `[A]` float, the same.
    sampled: `[]` float, 1 for samples of the posterior, 0 for its mean.
  """

  grid: Array
  code: Array
  sampled: Array


class Conv3x3(nn.Module):
  """A 3×3 convolution with ReLU, written as a product of patches.

  Inside `lax.scan` XLA leaves its fast convolutions on CPU: this is 15 times faster there.
  """

  features: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: Array) -> Array:
    height, width, s = *x.shape[1:3], self.stride
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [x[:, i:i + height:s, j:j + width:s] for i in range(3) for j in range(3)]
    return nn.relu(nn.Dense(self.features)(jnp.concatenate(patches, -1)))


class ProbeNet(nn.Module):
  """Three 3×3 convolutions (one of them strided) with coordinates, pooled, to K logits."""

  findings: int
  width: int = 40

  @nn.compact
  def __call__(self, x: Array) -> Array:
    rows, columns = (jnp.linspace(-1.0, 1.0, size) for size in x.shape[1:3])
    places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1)
    x = jnp.concatenate([x, jnp.broadcast_to(places, (*x.shape[:3], 2))], -1)
    x = Conv3x3(self.width)(x)
    x = Conv3x3(self.width, stride=2)(x)
    x = Conv3x3(self.width)(x)
    # A small finding is a maximum, a large one a mean.
    return nn.Dense(self.findings)(jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1))


def _spread(q: Posterior, sampled: Array) -> tuple[Array, Array]:
  """Mean and standard deviation of each channel over images and places, of draws or of means."""
  axes = tuple(range(q.mean.ndim - 1))
  variance = q.mean.var(axes) + sampled * jnp.exp(q.logvar).mean(axes)
  return q.mean.mean(axes), jnp.sqrt(jnp.maximum(variance, 1e-12))


def _inputs(key: Array, latents: Latents, view: View, spread: PyTree) -> Array:
  """The probe's standardised input `[B, h, w, C + A]`: one draw, unseen channels 0."""
  parts = []
  for name, mask in (("grid", view.grid), ("code", view.code)):
    q, (centre, scale) = getattr(latents, name), spread[name]
    noise = jax.random.normal(rng.stream(key, name), q.mean.shape)
    z = q.mean + view.sampled * jnp.exp(0.5 * q.logvar) * noise
    parts.append((z - centre) / scale * mask)
  grid, code = parts
  code = jnp.broadcast_to(code[:, None, None], (*grid.shape[:3], code.shape[-1]))
  return jnp.concatenate([grid, code], -1)


def _loss(net: ProbeNet, params: PyTree, inputs: Array, labels: Array, balance: Array) -> Array:
  """Class-balanced cross-entropy, scalar; `balance [2, K]` weighs absent and present."""
  logits = net.apply(params, inputs)
  losses = optax.sigmoid_binary_cross_entropy(logits, labels)
  return (losses * jnp.where(labels > 0.5, balance[1], balance[0])).mean()


@functools.partial(jax.jit, static_argnames=("net", "batch"))
def _epoch(net, batch, state, rate, key, data, labels, valid, valid_labels, balance, view, spread):
  """One pass over the training latents, then the loss on the validation latents (a fixed draw)."""
  size = labels.shape[0]
  order = jax.random.permutation(rng.stream(key, "order"), size)
  steps = max(size // batch, 1)
  adam = optax.scale_by_adam(b2=0.99)

  def step(state, index):
    params, moments = state
    rows = jax.lax.dynamic_slice(order, (index * batch,), (batch,))
    inputs = _inputs(rng.stream(key, "draw", index), jax.tree.map(lambda a: a[rows], data), view,
                     spread)
    gradient = jax.grad(functools.partial(_loss, net))(params, inputs, labels[rows], balance)
    update, moments = adam.update(gradient, moments)
    params = jax.tree.map(lambda p, u: p - rate * (u + _WEIGHT_DECAY * p), params, update)
    return (params, moments), None

  state, _ = jax.lax.scan(step, state, jnp.arange(steps))
  inputs = _inputs(jax.random.key(0), valid, view, spread)
  return state, _loss(net, state[0], inputs, valid_labels, balance)


@functools.partial(jax.jit, static_argnames="net")
def _start(net, key, data, view):
  """First parameters, and how the inputs are standardised."""
  spread = {"grid": _spread(data.grid, view.sampled), "code": _spread(data.code, view.sampled)}
  first = jax.tree.map(lambda a: a[:1], data)
  return net.init(rng.stream(key, "weights"), _inputs(key, first, view, spread)), spread


@functools.partial(jax.jit, static_argnames="net")
def _predict(net, params, key, data, view, spread):
  return net.apply(params, _inputs(key, data, view, spread)) > 0


@dataclasses.dataclass(frozen=True)
class Probe:
  """A trained probe.

  Attributes:
    predict: `(key, latents) -> [M, K]` bool, one draw an image.
    loss: on the training patients that were held out; the lower the more is read.
    plateau: whether it stopped falling before the last step.
  """

  predict: Callable[[Array, Latents], np.ndarray]
  loss: float
  plateau: bool


def train_probe(
    key: Array,
    latents: Latents,
    present: Array,
    patient: Array,
    view: View,
    *,
    max_steps: int,
    on_epoch: Callable[[], None] | None = None,
) -> Probe:
  """Trains one probe until the loss on held-out training patients stops falling.

  After two fifths of `max_steps` the learning rate drops when three epochs bring nothing, at the
  latest for the last fifth; when three epochs bring nothing again training ends. The best
  parameters are kept.

  Args:
    key: of weights, order and draws.
    latents: of training patients, leading axis N.
    present: `[N, K]` bool.
    patient: `[N]` int; 15 % of the patients are held out to find the plateau.
    view: what the probe may read.
    max_steps: optimiser steps at most.
    on_epoch: called after each epoch.

  Raises:
    ValueError: fewer than two patients, so that none can be held out.
  """
  patients = np.unique(patient)
  if len(patients) < 2:
    raise ValueError(f"{len(patients)} patient in the probe's data; expected at least 2")
  shuffled = np.random.default_rng(len(patients)).permutation(patients)
  held_out = np.isin(patient, shuffled[: max(1, round(_VALIDATION_SHARE * len(patients)))])
  labels = np.asarray(present, np.float32)
  pick = lambda rows: (jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[rows]), latents),
                       jnp.asarray(labels[rows]))
  (data, train_labels), (valid, valid_labels) = pick(~held_out), pick(held_out)
  share = np.clip(labels[~held_out].mean(0), 1e-3, 1 - 1e-3)
  balance = jnp.stack([0.5 / (1 - share), 0.5 / share])
  net = ProbeNet(labels.shape[1])
  batch = min(_BATCH, len(train_labels))
  params, spread = _start(net, key, data, view)
  state = (params, optax.scale_by_adam(b2=0.99).init(params))
  best, best_params, waited, dropped, rate = np.inf, params, 0, False, _LEARNING_RATE
  epochs = max(1, max_steps // max(len(train_labels) // batch, 1))
  for epoch in range(epochs):
    state, loss = _epoch(net, batch, state, rate, rng.stream(key, "epoch", epoch), data,
                         train_labels, valid, valid_labels, balance, view, spread)
    if on_epoch is not None:
      on_epoch()
    waited += 1
    if float(loss) < best:
      best, best_params, waited = float(loss), state[0], 0
    if waited >= _PATIENCE and dropped:
      break
    tired = waited >= _PATIENCE and epoch + 1 >= _LEAST * epochs
    if not dropped and (tired or epoch + 1 == int(_FULL_RATE * epochs)):
      waited, dropped, rate = 0, True, rate * _DROP
      state = (best_params, optax.scale_by_adam(b2=0.99).init(best_params))

  def predict(key, latents):
    latents = jax.tree.map(jnp.asarray, latents)
    return np.asarray(_predict(net, best_params, key, latents, view, spread))

  return Probe(predict, best, waited >= _PATIENCE)
