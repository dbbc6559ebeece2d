"""Lets the findings of a study change the healthy layers."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from cdjax.data.phantom import lesions, rare_lesions
from cdjax.data.phantom.geometry import Maps, Shape, pick, sides_of
from cdjax.data.phantom.lesions import Lesion
from cdjax.data.phantom.pathology import Pathology
from cdjax.data.phantom.thorax import Layers

# Cardiomegaly is a larger heart, nothing more: `geometry.shape_of` draws it.
PAINTERS: dict[str, Callable[[Shape, Maps, Lesion, Layers], Layers]] = {
    "consolidation": lesions.consolidation,
    "pleural_effusion": lesions.effusion,
    "nodule": lesions.nodule,
    "pneumothorax": lesions.pneumothorax,
    "mass": rare_lesions.mass,
    "atelectasis": rare_lesions.atelectasis,
    "pulmonary_edema": rare_lesions.edema,
    "emphysema": rare_lesions.emphysema,
    "pulmonary_fibrosis": rare_lesions.fibrosis,
    "pleural_thickening": rare_lesions.pleural_thickening,
    "hiatal_hernia": rare_lesions.hiatal_hernia,
    "fracture": rare_lesions.fracture,
    "pneumoperitoneum": rare_lesions.pneumoperitoneum,
}


def paint(
    shape: Shape, m: Maps, pathology: Pathology, layers: Layers, vocabulary: Sequence[str]
) -> Layers:
  """Lets every finding of the vocabulary change the layers."""
  for k, name in enumerate(vocabulary):
    if name not in PAINTERS:
      continue
    present = pathology.present[k].astype(jnp.float32)
    side = pathology.side[k]
    lesion = Lesion(
        amount=pathology.severity[k] * present,
        here=present * pick(m.left, jnp.where(side == 0, jnp.ones(2), sides_of(side))),
        zone=pathology.zone[k].astype(jnp.int32),
        h=pathology.hidden[k])
    layers = PAINTERS[name](shape, m, lesion, layers)
  return layers
