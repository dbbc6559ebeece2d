"""What each part of the method is worth: the quickstart's phantom, one switch a row.

Command: `cdjax ablate --config configs/ablations.py --workdir DIR [--only full,no_swaps]`; one row
alone: `cdjax train --config configs/ablations.py:no_swaps --workdir DIR`.

The rows have two thirds of the quickstart's training; a row is meant to stay below ten minutes on 2
CPU cores. Rows share every stage that their switch does not touch. The rows that decide have three
training seeds. Not yet measured.
"""

from cdjax.core.config import base_config
from cdjax.core.presets import NO_DISENTANGLEMENT

_NO_INVARIANCE = {"autoencoder.loss.invariance": 0.0,
                  "autoencoder.loss.acquisition_invariance": 0.0}
# Row: (what is different, the keys that make it so, training seeds).
ROWS = {
    "full": ("the whole method", {}, 3),
    "no_disentanglement": ("plain latent diffusion, edited by inversion and back",
                           NO_DISENTANGLEMENT | {"counterfactual.strength": 0.7}, 3),
    # Group supervision.
    "no_null_anchor": ("healthy images keep their own pathology slot",
                       {"autoencoder.loss.null_anchor": 0.0}, 3),
    "no_swaps": ("rebuilt from their own identity, never a mate's",
                 {"autoencoder.loss.swap_same_patient": 0.0}, 3),
    "half_swaps": ("rebuilt from own or mate's identity, half and half",
                   {"autoencoder.loss.swap_same_patient": 0.5}, 1),
    "cycle": ("cycle swaps besides", {"autoencoder.loss.cycle_swap": 1.0}, 1),
    # Independence.
    "no_invariance": ("no price on what mates' identities disagree in", _NO_INVARIANCE, 3),
    "reversal": ("gradient reversal instead of invariance",
                 _NO_INVARIANCE | {"autoencoder.loss.independence_reversal": 10.0}, 1),
    "hsic": ("HSIC instead of invariance",
             _NO_INVARIANCE | {"autoencoder.loss.independence_hsic": 1000.0}, 1),
    "invariance_1": ("invariance at weight 1", {"autoencoder.loss.invariance": 1.0}, 1),
    "invariance_20": ("invariance at weight 20", {"autoencoder.loss.invariance": 20.0}, 1),
    "means": ("latents used as means, not as samples",
              {"autoencoder.model.sample_latents": False}, 1),
    # Architecture.
    "not_causal": ("identity slots see the pathology", {"autoencoder.model.causal": False}, 1),
    "one_decoder": ("one decoder for everything, no opacity",
                    {"autoencoder.model.lesion_channels": ()}, 1),
    "turned_lesions": ("the autoencoder learns turned lesions too",
                       {"autoencoder.loss.mirror": 0.25}, 1),
    "no_acquisition": ("no acquisition code", {"autoencoder.model.acquisition": False}, 1),
    "no_place": ("side, zone and severity neither learnt nor told",
                 {"autoencoder.loss.location": 0.0, "autoencoder.loss.severity": 0.0,
                  "diffusion.condition.findings": "labels"}, 1),
    # Conditions of the diffusion.
    "own_identity": ("the denoiser is shown the same image's identity",
                     {"diffusion.condition.identity": "own"}, 3),
    "target_draws": ("the denoiser learns draws of the pathology, not their means",
                      {"diffusion.target_noise": 1.0}, 1),
    "no_mirror": ("no lesion is shown on its other side", {"diffusion.mirror_share": 0.0}, 1),
    "no_identity": ("the denoiser is shown no identity",
                    {"diffusion.condition.identity": "none"}, 1),
    "class_only": ("told the names of the findings only",
                   {"diffusion.condition.findings": "labels",
                    "diffusion.condition.region_map": False}, 1),
    "no_region_map": ("told side and zone, but not as a map",
                      {"diffusion.condition.region_map": False}, 1),
    # The counterfactual.
    "residual_none": ("no residual", {"counterfactual.residual": "none"}, 1),
    "residual_plain": ("all of the residual everywhere", {"counterfactual.residual": "plain"}, 1),
    "residual_masked": ("no residual where the image changes",
                        {"counterfactual.residual": "masked"}, 1),
    "invert_never": ("always fresh pathology noise", {"counterfactual.invert": "never"}, 1),
    "invert_always": ("always the abducted pathology noise",
                      {"counterfactual.invert": "always"}, 1),
    "no_guidance": ("no guidance", {"counterfactual.guidance_findings": 1.0}, 1),
}


def get_config(arg: str = "full"):
  """Returns the row's configuration."""
  name = arg or "full"
  if name not in ROWS:
    raise ValueError(f"configs/ablations.py:{arg}; expected one of {', '.join(ROWS)}")
  c = base_config()
  c.name = f"ablation-{name}"
  # Combinations that training never shows: `unseen/finding` asks for them.
  c.data.phantom.held_out_combinations = ("consolidation left upper", "nodule right lower")
  c.stages = "judge,autoencoder,diffusion"
  c.autoencoder.num_train_steps = 700
  c.autoencoder.eval_every = 0
  c.diffusion.num_train_steps = 400
  c.diffusion.eval_every = 0
  c.evaluate.interventions = 128
  c.evaluate.composition = 32
  c.evaluate.composition_10 = 16
  c.evaluate.probe_steps = 1000
  c.update_from_flattened_dict(ROWS[name][1])
  return c
