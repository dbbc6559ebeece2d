"""A few held-out radiographs of a run as files, to ask about: images, their list, their reports."""

import csv
from pathlib import Path

import numpy as np

from cdjax.data.source import Split
from cdjax.findings import render_findings
from cdjax.report.figures import save_png


def write_examples(split: Split, folder: Path, *, healthy: int = 2) -> list[Path]:
  """Writes one image of each finding by itself and some without any, each of another patient.

  Args:
    split: of held-out patients.
    folder: to make; gets NAME.png, NAME.txt (the report, where there is one) and list.csv, which
      `cdjax prepare` and `cdjax counterfactual --manifest` take.
    healthy: how many without any finding.

  Returns:
    The images' files: healthy ones first, then the findings in the vocabulary's order.
  """
  present = np.asarray(split.index.findings.present)
  single = present.sum(-1) == 1
  wanted = [(f"healthy-{i}", ~present.any(-1)) for i in range(1, healthy + 1)]
  wanted += [(name, single & present[:, k]) for k, name in enumerate(split.vocabulary)]
  folder.mkdir(parents=True, exist_ok=True)
  taken, rows, paths = set(), [], []
  for name, fits in wanted:
    found = next((i for i in np.flatnonzero(fits) if split.index.patient[i] not in taken), None)
    if found is None:
      continue
    taken.add(split.index.patient[found])
    record = split[int(found)]
    full = np.iinfo(record["image"].dtype).max
    path = folder / f"{name}.png"
    save_png(path, np.round(record["image"] * (255 / full)).astype(np.uint8),
             {"source": record["image_id"]})
    if record["report"]:
      path.with_suffix(".txt").write_text(record["report"] + "\n", encoding="utf-8")
    shown = [finding for finding in record["findings"] if finding.status == "present"]
    rows.append((path.name, record["patient_id"], record["study"],
                 render_findings(shown, digits=2)))
    paths.append(path)
  with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("image", "patient_id", "study", "findings"), *rows])
  return paths
