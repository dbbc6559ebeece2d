"""The contact sheet of questions whose exact answers are known."""

from collections.abc import Sequence

import jax
import numpy as np

from cdjax.evaluate.workdir import Showcase
from cdjax.findings import arrays_to_findings, render_findings
from cdjax.report.figures import contact_sheet, grey, signed

COLUMNS = ("factual", "pseudo-healthy", "counterfactual", "another answer", "exact",
           "answer - factual", "answer - exact")


def showcase_sheet(showcase: Showcase, vocabulary: Sequence[str], *, size: int = 128) -> np.ndarray:
  """Factual · pseudo-healthy · two counterfactuals · exact · differences, `[H, W, 3]` uint8."""
  words = lambda arrays: [
      render_findings([f for f in row if f.status == "present"], digits=2)
      for row in arrays_to_findings(jax.tree.map(np.asarray, arrays), vocabulary)]
  rows, labels = [], []
  for i, (before, after) in enumerate(zip(
      words(showcase.findings), words(showcase.do_findings), strict=True)):
    images = (showcase.factual[i], showcase.healthy[i], showcase.counterfactual[i],
              showcase.another[i], showcase.exact[i])
    answer = showcase.counterfactual[i]
    rows.append([*map(grey, images), signed(answer - showcase.factual[i]),
                 signed(answer - showcase.exact[i])])
    labels.append(f"{before}  ->  {after}")
  return contact_sheet(rows, columns=COLUMNS, labels=labels, size=size)
