"""What there is to look at of an evaluated run: a page, the contact sheet, the slots' effects."""

from collections.abc import Mapping
from pathlib import Path

from cdjax.core.provenance import package_versions
from cdjax.evaluate.trained import Trained
from cdjax.evaluate.workdir import make_effects, make_showcase
from cdjax.report.figures import save_png
from cdjax.report.interactions import effect_sheet, interaction_tables
from cdjax.report.page import metrics_table, picture, write_page
from cdjax.report.showcase import showcase_sheet


def write_run_report(folder: Path, trained: Trained, metrics: Mapping, *, title: str, measured: str,
                     spread: str = "95 % interval") -> None:
  """Writes `report.html`, `contact_sheet.png` and `effects.png`.

  Args:
    folder: where to.
    trained: the run; of a phantom.
    metrics: `evaluate_phantom`'s result, or `mean_over_runs`' of several.
    title: of the page.
    measured: what the numbers are over.
    spread: what `low` and `high` of the metrics are.
  """
  seed = metrics["seed"]
  provenance = {"model": trained.fingerprint, "seed": seed}
  sheet = showcase_sheet(make_showcase(trained, seed=seed), trained.vocabulary)
  save_png(folder / "contact_sheet.png", sheet, provenance)
  changes = make_effects(trained, seed=seed)
  slots = []   # a model without slots has no section of them
  if changes is not None:
    names = [f"identity {i + 1}" for i in range(len(changes) - 1)] + ["pathology"]
    effects = effect_sheet(changes, names)
    save_png(folder / "effects.png", effects, provenance)
    slots = [("What each slot does", picture(effects, "effect of each slot")),
             ("What each part of the latent holds", interaction_tables(metrics))]
  plain = {k: v for k, v in metrics.items() if not k.startswith("interactions/")}
  write_page(
      folder / "report.html", title=title,
      sections=[("Questions with known answers", picture(sheet, "contact sheet")),
                (f"Measured on {measured}", metrics_table(plain, spread=spread)), *slots],
      provenance={"model": trained.fingerprint, "machine": metrics["machine"],
                  "versions": package_versions(), "config": trained.config.to_dict()})
