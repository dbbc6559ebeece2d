"""From questions and answers to the keys of METRICS, as statistics over patients.

RMSE is taken per image, then averaged, macro over target findings; PSNR comes from the mean of
MSE. The judge's rates are divided by its rates on the exact answers, or have them subtracted where
the ideal is 0. Yardsticks stand under `baseline/copy/`, `baseline/swap_nearest/`,
`ceiling/nuisance/`, `ceiling/judge/` and `ceiling/autoencoder/` with the key's own name (the
leading `counterfactual/` dropped).
"""

from collections.abc import Callable, Sequence

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate import judged
from cdjax.evaluate.bootstrap import Statistic, divide, macro, mean, spearman
from cdjax.evaluate.image_metrics import gradient_energy, pairwise_rmse, psnr_statistic, rmse, ssim
from cdjax.evaluate.judged import Judgement
from cdjax.evaluate.questions import Questions

Statistics = dict[str, Statistic]


def _over(ours: Statistic, ceiling: Statistic) -> Statistic:
  return lambda weights: divide(ours(weights), ceiling(weights))


def _above(ours: Statistic, ceiling: Statistic) -> Statistic:
  return lambda weights: ours(weights) - ceiling(weights)


def image_statistics(questions: Questions, images: Array) -> Statistics:
  """Errors of answers `[N, S, S]` against the exact ones: gain, RMSE, PSNR, SSIM.

  `gain_inside` is (copy − ours) / (copy − nuisance) of the RMSE inside the mask: 0 for the factual
  image, 1 for the renderer with another hidden draw.
  """
  q = questions

  def inside(answer):
    return macro(rmse(answer, q.exact, q.mask), q.target)

  copy, nuisance, ours = inside(q.x), inside(q.nuisance), inside(images)
  return {
      "gain_inside": lambda w: divide(copy(w) - ours(w), copy(w) - nuisance(w)),
      "rmse_inside": ours,
      "rmse_outside": macro(rmse(images, q.exact, ~q.mask), q.target),
      "psnr": psnr_statistic(rmse(images, q.exact)),
      "ssim": mean(ssim(images, q.exact)),
  }


def _rates(
    questions: Questions, judgement: Judgement, vocabulary: Sequence[str]
) -> dict[str, Statistic]:
  """The judge's raw rates on answers to `replace` questions."""
  q = questions
  values = {
      "finding": judged.asked_seen(judgement, q.do_findings),
      "side": judged.place_right(judgement, q.do_findings, q.target, "side", vocabulary=vocabulary),
      "zone": judged.place_right(judgement, q.do_findings, q.target, "zone", vocabulary=vocabulary),
      "factual_left": judged.factual_left(judgement, q.findings, q.do_findings),
      "unasked": judged.unasked(judgement, q.do_findings),
  }
  return {key: macro(value, q.target) for key, value in values.items()}


def judged_statistics(
    questions: Questions, judgement: Judgement, ceiling: Judgement, *, vocabulary: Sequence[str]
) -> Statistics:
  """finding, side, zone over the judge's ceiling; factual_left and unasked above it.

  Args:
    questions: `replace` questions.
    judgement: of the answers.
    ceiling: of the exact answers.
    vocabulary: K finding names.
  """
  ours = _rates(questions, judgement, vocabulary)
  best = _rates(questions, ceiling, vocabulary)
  return {
      key: (_above if key in ("factual_left", "unasked") else _over)(ours[key], best[key])
      for key in ours
  }


def replace_statistics(
    questions: Questions,
    answers: Array,
    *,
    encoded: Array | None,
    nearest: Array | None = None,
    judge: Callable[[Array], Judgement] | None,
    vocabulary: Sequence[str],
) -> Statistics:
  """All keys of `replace` questions: `counterfactual/*`, `sharpness/inside` and the yardsticks.

  Args:
    questions: N questions.
    answers: `[N, S, S]` in [0, 1].
    encoded: the autoencoder's ceiling `[N, S, S]`, or None.
    nearest: from `baselines.nearest_with_findings`, or None.
    judge: images `[N, S, S]` → judgement, or None.
    vocabulary: K finding names.
  """
  q = questions
  shown = {"counterfactual/": answers, "baseline/copy/": q.x, "ceiling/nuisance/": q.nuisance}
  if encoded is not None:
    shown["ceiling/autoencoder/"] = encoded
  if nearest is not None:
    shown["baseline/swap_nearest/"] = nearest
  out = {}
  exact = judge(q.exact) if judge else None
  for prefix, images in shown.items():
    out |= {prefix + key: value for key, value in image_statistics(q, images).items()}
    if judge:
      rates = judged_statistics(q, judge(images), exact, vocabulary=vocabulary)
      out |= {prefix + key: value for key, value in rates.items()}
  if judge:
    best = _rates(q, exact, vocabulary)
    out |= {"ceiling/judge/" + key: value for key, value in best.items()}
  out["sharpness/inside"] = _over(macro(gradient_energy(answers, q.new_mask), q.target),
                                  macro(gradient_energy(q.exact, q.new_mask), q.target))
  return out


def healthy_statistics(
    questions: Questions, answers: Array, *, judge: Callable[[Array], Judgement] | None
) -> Statistics:
  """`healthy/*` of `remove` questions: RMSE inside the old mask over copy's, and judged free."""
  q = questions
  copy = macro(rmse(q.x, q.exact, q.old_mask), q.target)
  ours = macro(rmse(answers, q.exact, q.old_mask), q.target)
  out = {
      "healthy/left_inside": _over(ours, copy),
      "healthy/psnr": psnr_statistic(rmse(answers, q.exact)),
      "baseline/copy/healthy/psnr": psnr_statistic(rmse(q.x, q.exact)),
  }
  if judge:
    rate = {name: macro(judged.free(judge(images)), q.target)
            for name, images in (("ours", answers), ("copy", q.x), ("exact", q.exact))}
    out["healthy/judged"] = _over(rate["ours"], rate["exact"])
    out["baseline/copy/healthy/judged"] = _over(rate["copy"], rate["exact"])
    out["ceiling/judge/healthy/judged"] = rate["exact"]
  return out


def severity_statistics(
    questions: Questions,
    answers: Array,
    *,
    encoded: Array | None,
    judge: Callable[[Array], Judgement] | None,
) -> Statistics:
  """`severity/*`: PSNR to the exact answer, and the judged severity against the asked one.

  Spearman's correlation and the mean absolute error are taken within each finding, then averaged;
  they are not divided by the judge's own on the exact answers, which stand beside them.
  """
  q = questions
  asked = q.do_findings.severity[np.arange(len(q)), q.target]
  shown = {"severity/": answers, "baseline/copy/severity/": q.x}
  if encoded is not None:
    shown["ceiling/autoencoder/severity/"] = encoded
  out = {prefix + "psnr": psnr_statistic(rmse(images, q.exact))
         for prefix, images in shown.items()}
  if judge:
    shown["ceiling/judge/severity/"] = q.exact
    for prefix, images in shown.items():
      read = judged.severity_of(judge(images), q.target)
      out[prefix + "spearman"] = spearman(asked, read, q.target)
      out[prefix + "mae"] = macro(np.abs(read - asked), q.target)
  return out


def asked_statistics(
    questions: Questions, answers: Array, *, judge: Callable[[Array], Judgement], key: str
) -> Statistics:
  """All asked findings seen, over the ceiling: `multi/finding` and `unseen/finding`."""
  q = questions
  rate = {name: macro(judged.asked_seen(judge(images), q.do_findings), q.target)
          for name, images in (("ours", answers), ("copy", q.x), ("exact", q.exact))}
  return {
      key: _over(rate["ours"], rate["exact"]),
      f"baseline/copy/{key}": _over(rate["copy"], rate["exact"]),
      f"ceiling/judge/{key}": rate["exact"],
  }


def diversity_statistics(questions: Questions, answers: Array, draws: Array) -> Statistics:
  """`diversity/ratio`: pairwise RMSE inside the mask among answers, over that of hidden draws.

  Args:
    questions: N questions.
    answers: `[N, A, S, S]`, A answers to each.
    draws: `[N, A, S, S]`, the renderer's hidden draws.
  """
  q = questions
  return {"diversity/ratio": _over(macro(pairwise_rmse(answers, q.mask), q.target),
                                   macro(pairwise_rmse(draws, q.mask), q.target))}
