"""Images to features: which network, at which size, from which file, and how results are named.

A distance between features means nothing without these, so that its name carries them:
`fid/inception-v3/10000/bilinear299` is of 10,000 images, resized bilinearly to 299 pixels.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.trees import tree_fingerprint
from cdjax.core.types import Array, PyTree
from cdjax.evaluate.batching import map_batches
from cdjax.models import densenet, efficientnet_lite, inception, vit
from cdjax.models.convert import load_safetensors
from cdjax.models.frozen import load_frozen

RESIZE = "bilinear"


@dataclasses.dataclass(frozen=True)
class Extractor:
  """A network that is ready to run.

  Attributes:
    name: part of the name of every result.
    size: side in pixels that images are resized to.
    fn: `[B, size, size, 1]` float32 in [0, 1] → `[B, D]`; jitted.
    digest: of the weights, "" where there are none: what kept features depend on.
    read: how files were brought to one size before, e.g. "crop256"; part of the name of every
      result, "" where images were given as arrays.
    file: name of the file of the weights, "" where there is none.
  """

  name: str
  size: int
  fn: Callable[[Array], Array]
  digest: str = ""
  read: str = ""
  file: str = ""


@dataclasses.dataclass(frozen=True)
class _Network:
  """How to build one: its module's file, the linen module from a state, and its input."""

  source: ModuleType
  make: Callable[[Mapping[str, np.ndarray]], nn.Module]
  preprocess: Callable[[Array], Array]
  size: int


def _dinov2(state: Mapping[str, np.ndarray]) -> vit.DinoV2:
  """With the grid of positions that the file has; a file without it fails by name later."""
  positions = state.get("embeddings.position_embeddings")
  if positions is None or positions.ndim != 3:
    return vit.DinoV2()
  return vit.DinoV2(positions=round((positions.shape[1] - 1) ** 0.5))


_NETWORKS = {
    "inception-v3": _Network(inception, lambda state: inception.InceptionV3(),
                             inception.preprocess, inception.SIZE),
    "densenet-121": _Network(densenet, lambda state: densenet.DenseNet121(),
                             densenet.preprocess, densenet.SIZE),
    "efficientnet-lite0": _Network(
        efficientnet_lite, lambda state: efficientnet_lite.EfficientNetLite0(),
        efficientnet_lite.preprocess, efficientnet_lite.SIZE),
    "dinov2-vit-b": _Network(vit, _dinov2, vit.preprocess, vit.SIZE),
    "rad-dino-vit-b": _Network(
        vit, _dinov2, functools.partial(vit.preprocess, colours="rad-dino"), vit.RAD_DINO_SIZE),
}
EXTRACTORS = tuple(sorted(_NETWORKS))


def load_extractor(name: str, weights: str | Path) -> Extractor:
  """A published network with the weights of a user's file.

  Args:
    name: one of `EXTRACTORS`; the module of each says where its weights come from.
    weights: a `.safetensors` file, or a folder with one.

  Raises:
    ValueError: an unknown name; a file that is no safetensors; weights that do not fit, with every
      missing, unexpected and mis-shaped key.
    FileNotFoundError: no such file.
  """
  if name not in _NETWORKS:
    raise ValueError(f"extractor={name!r}; expected one of {list(EXTRACTORS)}")
  network, state = _NETWORKS[name], load_safetensors(weights)
  module = network.make(state)
  image = jax.ShapeDtypeStruct((1, network.size, network.size, network.source.CHANNELS),
                               jnp.float32)
  template = jax.eval_shape(module.init, jax.random.key(0), image)["params"]
  params = load_frozen(state, template, unused=network.source.UNUSED)
  run = jax.jit(lambda params, x: module.apply({"params": params}, network.preprocess(x)))
  return Extractor(name, network.size, functools.partial(run, params), tree_fingerprint(params),
                   file=Path(weights).name)


def classifier_extractor(model: nn.Module, params: PyTree, *, size: int) -> Extractor:
  """The project's own classifier before its last layer.

  Args:
    model: a `models.classifier.FindingsClassifier`.
    params: trained.
    size: side in pixels that it was trained at.
  """

  @jax.jit
  def run(params, x):
    _, kept = model.apply({"params": params}, 2.0 * x - 1.0, mutable=["intermediates"])
    return kept["intermediates"]["features"][0].astype(jnp.float32)

  return Extractor("cdjax-classifier", size, functools.partial(run, params),
                   tree_fingerprint(params))


def pixel_extractor(*, size: int = 32) -> Extractor:
  """The pixels of a small image: for where there is no network. Blind to all finer detail.

  Args:
    size: side S; D is S².
  """
  return Extractor("pixels", size, jax.jit(lambda x: x.reshape(len(x), -1)))


@functools.partial(jax.jit, static_argnames=("size",))
def resize(x: Array, *, size: int) -> Array:
  """Bilinear, square, with a wider window where it shrinks, so that nothing aliases.

  Aliasing alone moves a FID by more than models differ (Parmar et al., "On Aliased Resizing and
  Surprising Subtleties in GAN Evaluation", arXiv:2104.11222). Images that are not square are
  squeezed; crop them first if that is not wanted.

  Args:
    x: `[B, H, W]`.
    size: S in pixels.

  Returns:
    `[B, S, S, 1]` float32.
  """
  x = jnp.asarray(x, jnp.float32)[..., None]
  return jax.image.resize(x, (len(x), size, size, 1), "linear", antialias=True)


def extract(extractor: Extractor, x: Array, *, batch_size: int = 32) -> np.ndarray:
  """Features of images `[N, H, W]` in [0, 1]: `[N, D]` float32.

  Raises:
    ValueError: other axes, or values outside [0, 1].
  """
  x = np.asarray(x)
  if x.ndim != 3:
    raise ValueError(f"images of shape {x.shape}; expected [N, H, W]")
  if x.size and not (x.min() >= 0 and x.max() <= 1):
    raise ValueError(f"images from {x.min()} to {x.max()}; expected [0, 1]")
  return map_batches(lambda batch: extractor.fn(resize(batch, size=extractor.size)), x,
                     batch_size=batch_size)


def metric_name(metric: str, extractor: Extractor, count: int) -> str:
  """`metric_name("fid", extractor, 10000)` → "fid/inception-v3/10000/bilinear299".

  `count` is the number of images in the smaller set.
  """
  read = f"{extractor.read}-" if extractor.read else ""
  return f"{metric}/{extractor.name}/{count}/{read}{RESIZE}{extractor.size}"
