"""Independence of two variables: by an adversary (gradient reversal) or by a statistic (HSIC)."""

import functools

import jax
import jax.numpy as jnp

from cdjax.core.types import Array, Posterior


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gradient_reversal(x: Array, scale: float = 1.0) -> Array:
  """The identity, whose gradient is multiplied by `-scale`.

  Put between a representation and a classifier: the classifier learns to read it, and the
  representation learns not to be read. Beware: an adversary at chance proves little; a fresh probe
  may still read everything (DESIGN section 10). Measure with a fresh probe.

  Args:
    x: any array.
    scale: a Python number.

  References:
    Ganin et al. 2016, arXiv:1505.07818, section 4.
  """
  del scale
  return x


def _forward(x, scale):
  del scale
  return x, None


def _backward(scale, residual, cotangent):
  del residual
  return (-scale * cotangent,)


gradient_reversal.defvjp(_forward, _backward)


def explained(posterior: Posterior, guess: Array, *, least: float = 0.05) -> Array:
  """How much of a posterior's mean somebody guesses, in units of its noise: `[B]` nats.

  `½ Σ (mean² − (mean − guess)²) / variance`, the log-likelihood that the guess is worth over
  guessing 0. With `gradient_reversal` around the guess, who guesses learns to raise it and who is
  guessed learns to lower it.

  Args:
    posterior: `[B, ...]`; its variance gets no gradient.
    guess: of the mean's shape.
    least: floor of the variance, so that a few sharp elements are not all that counts.
  """
  variance = jnp.maximum(jax.lax.stop_gradient(jnp.exp(posterior.logvar)), least)
  worth = 0.5 * (2.0 * posterior.mean * guess - guess**2) / variance
  return worth.reshape(len(worth), -1).sum(-1)


def _gram(x: Array, valid: Array) -> Array:
  """Gaussian Gram matrix `[B, B]`; width from the median distance of different examples."""
  x = x.reshape(x.shape[0], -1).astype(jnp.float32)
  square = ((x[:, None] - x[None]) ** 2).sum(-1)
  pair = valid[:, None] & valid[None] & ~jnp.eye(len(x), dtype=bool)
  # Labels often repeat, which makes the median of all distances 0: take that of unequal pairs.
  # With none, x is constant, its centred Gram matrix is 0, and any width will do.
  distinct = pair & (square > 1e-12)
  width = jax.lax.stop_gradient(jnp.nanmedian(jnp.where(distinct, square, jnp.nan)))
  width = jnp.where(distinct.any(), width, 1.0)
  return jnp.exp(-0.5 * square / width)


def _centred(gram: Array, valid: Array) -> Array:
  """`H K H` over the valid examples; rows and columns of the others are 0."""
  weight = valid / jnp.maximum(valid.sum(), 1)
  rows = jnp.matmul(gram, weight, precision="highest")
  centred = gram - rows[:, None] - rows[None] + weight @ rows
  return centred * valid[:, None] * valid[None]


def hsic(x: Array, y: Array, *, valid: Array | None = None, normalised: bool = False) -> Array:
  """Hilbert-Schmidt independence criterion of x and y over the batch, shared out to examples.

  The biased estimate `tr(K H L H) / m²` of Gretton et al., eq. 4 with 1/m² for 1/(m-1)²: Gaussian
  kernels `exp(-d² / 2w)`, w the median of d² over unequal pairs (no gradient). It is 0 or more,
  and of order 1/m, not 0, for independent data.

  Args:
    x: `[B, ...]`, flattened; e.g. sampled identity slots. The gradient is with respect to both.
    y: `[B, ...]`, e.g. findings as numbers.
    valid: `[B]` bool, examples that count (labels known); default all.
    normalised: divide by `sqrt(HSIC(x, x) HSIC(y, y))` (centred kernel alignment): 0 to 1.

  Returns:
    `[B]`: its mean over the valid examples is the estimate; 0 for the others.

  References:
    Gretton et al. 2005, "Measuring statistical dependence with Hilbert-Schmidt norms".
  """
  valid = jnp.ones(x.shape[0], bool) if valid is None else jnp.asarray(valid, bool)
  k, l = _centred(_gram(x, valid), valid), _centred(_gram(y, valid), valid)
  count = jnp.maximum(valid.sum(), 1)
  each = (k * l).sum(-1) / count
  if not normalised:
    return each
  # Floored inside the root: its gradient at 0 is infinite.
  scale = jnp.sqrt(jnp.maximum((k * k).sum() * (l * l).sum(), 1e-12)) / count**2
  return each / scale
