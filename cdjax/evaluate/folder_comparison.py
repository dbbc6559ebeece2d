"""Two folders of images against each other: anybody's real ones, anybody's synthetic ones.

Features come first, then one phase for each extractor and for the diversity of each folder; every
phase's result is kept, so that an interrupted comparison goes on where it was.
"""

import concurrent.futures
import dataclasses
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from cdjax.data import folder as folders
from cdjax.data.folder import ImageFolder
from cdjax.data.quarantine import count_kinds
from cdjax.evaluate import ms_ssim
from cdjax.evaluate.features import Extractor
from cdjax.evaluate.fidelity import SUBSETS, fidelity_by_group, fidelity_metrics, subset_size
from cdjax.evaluate.folder_features import (
    FolderFeatures,
    Reading,
    finish_features,
    folder_features,
)
from cdjax.evaluate.folder_groups import finding_tiers, make_groups, unknown_places
from cdjax.evaluate.manifold import NEIGHBOURS
from cdjax.evaluate.privacy import (
    COMPARED,
    QUANTILE,
    check_other_patients,
    half_of_patients,
    privacy_metrics,
    some_rows,
)
from cdjax.evaluate.resume import fingerprint_of, resumed

SUITES = ("quick", "full")
FORMAT = 1   # of the kept results; another number when the same features would give others
_PAIRS = {"quick": 200, "full": 1000}   # of MS-SSIM
_GROUP_SUBSETS = {"quick": 10, "full": 100}   # of the kernel distance of a group

# Told of (what is done, how many images).
Progress = Callable[[str, int], None]


@dataclasses.dataclass(frozen=True)
class Settings:
  """How much is measured.

  Attributes:
    suite: "quick", or "full": more pairs and subsets, and real against real.
    least: images of each folder that a group needs.
    seed: of every random choice.
    reading: how files are read.
  """

  suite: str
  least: int
  seed: int
  reading: Reading


def compare_folders(
    real: ImageFolder,
    synthetic: ImageFolder,
    extractors: Sequence[Extractor],
    settings: Settings,
    *,
    held_out: ImageFolder | None = None,
    parts: Path | None = None,
    batch_size: int = 32,
    pool: concurrent.futures.Executor | None = None,
    progress: Progress = lambda what, images: None,
) -> dict:
  """Fidelity, coverage, diversity and privacy of synthetic images, the first two also by group.

  Args:
    real: of one folder.
    synthetic: of the other.
    extractors: at least one; their names differ.
    settings: how much is measured.
    held_out: real images of other patients, which the generator never saw; the real ones are then
      taken for those it was trained on. None: privacy is not measured.
    parts: folder in which features and results are kept, or None.
    batch_size: images of each call of an extractor.
    pool: of processes that read, or None.
    progress: told of the work done.

  Returns:
    Flat keys → `{"value", "low", "high", "n"}`, as `fidelity_metrics` names them;
    `reference/…` of two halves of the real patients (suite "full"), cut to the same number of
    images where they have more; `ms_ssim/real/…` and `ms_ssim/synthetic/…`; `privacy/EXTRACTOR/…`
    as `privacy_metrics` names them, and `privacy/compared`, how many of the real images copies are
    looked for among; `unusable_share/real` and `/synthetic`, of the files that cannot be used; and
    beside them `seed`, `suite`, `machine`, `images`, `forms` (how many files of each kind and
    depth), `extractors`, `kid_subsets`, `kid_subset_size` by the number of images, `unusable`,
    `notes` and `left_out`.

  Raises:
    ValueError: no usable image, 5 or fewer of a folder, two extractors of one name, or a patient
      who is among the real and the held-out images.
  """
  names = [extractor.name for extractor in extractors]
  if len(set(names)) < len(names) or not names:
    raise ValueError(f"extractors {names}; expected at least one, each once")
  reading = settings.reading
  extractors = [dataclasses.replace(e, read=str(reading)) for e in extractors]
  began = time.perf_counter()
  folders_of = {"real": real, "synthetic": synthetic}
  if held_out is not None:
    folders_of["held_out"] = held_out
    check_other_patients(*_patients_apart(real, held_out))
  sets, states, unusable = {}, {}, []
  for kind, folder in folders_of.items():
    state = states[kind] = folder_features(
        folder, extractors, reading, kept=None if parts is None else parts / kind,
        batch_size=batch_size, pool=pool,
        on_images=lambda count, kind=kind: progress(f"{kind} images", count))
    sets[kind] = finish_features(state, folder)
    unusable += [{"set": kind, "image": folder.names[number], "reason": reason}
                 for number, reason in state.broken]
    unusable += [{"set": kind, "image": problem.image, "reason": f"row {problem.row}: "
                  f"{problem.reason}"} for problem in folder.problems]
  seconds = {"seconds/features": time.perf_counter() - began}

  common = [FORMAT, dataclasses.asdict(settings)]
  prints = {kind: state.fingerprint for kind, state in states.items()}
  phases: dict[str, tuple[Callable[[], dict], list]] = {}
  for extractor in extractors:
    a, b = (sets[kind][1][extractor.name] for kind in ("real", "synthetic"))
    phases[extractor.name] = (
        lambda a=a, b=b, e=extractor: _fidelity(real, synthetic, sets, a, b, e, settings),
        [prints["real"], prints["synthetic"], _labels(real), _labels(synthetic)])
  for kind, folder in (("real", real), ("synthetic", synthetic)):
    phases[f"diversity-{kind}"] = (
        lambda folder=folder, kind=kind: {"metrics": _diversity(
            folder, sets[kind][0], kind, settings), "left_out": []},
        [prints[kind]])
  if held_out is not None:
    for extractor in extractors:
      phases[f"privacy-{extractor.name}"] = (
          lambda name=extractor.name: _privacy(folders_of, sets, name, settings),
          [prints, *(folder.patient.tolist() for folder in folders_of.values())])
  metrics, left_out = {}, _no_groups(real, synthetic)
  if held_out is None:
    left_out.append("privacy/*: needs real images that the generator never saw (--held-out)")
  for name, (compute, depends) in phases.items():
    progress(name, 0)
    path = None if parts is None else parts / f"{name}.json"
    result = resumed(path, fingerprint_of(name, common, depends), lambda c=compute: _timed(c))
    metrics |= result["metrics"]
    left_out += result["left_out"]
    seconds[f"seconds/{name}"] = result["seconds"]
  for kind, folder in folders_of.items():
    metrics[f"unusable_share/{kind}"] = _plain(
        len(states[kind].broken) / len(folder), len(folder))
  metrics |= {key: _plain(value, 1) for key, value in seconds.items()}
  return metrics | {
      "suite": settings.suite, "seed": settings.seed,
      "images": {kind: {"folder": len(folder), "used": len(sets[kind][0])}
                 for kind, folder in folders_of.items()},
      "extractors": {e.name: {"digest": e.digest, "size": e.size, "file": e.file}
                     for e in extractors},
      "kid_subsets": {"all": SUBSETS, "group": _GROUP_SUBSETS[settings.suite]},
      "kid_subset_size": {count: subset_size(int(count)) for count in sorted(
          {key.removeprefix("reference/").split("/")[2] for key in metrics
           if key.removeprefix("reference/").startswith("kid/")}, key=int)},
      "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, jax on "
                 f"{jax.devices()[0].device_kind}",
      "forms": {kind: dict(sorted(state.forms.items())) for kind, state in states.items()},
      "unusable": unusable,
      "notes": _notes(folders_of, states, settings),
      "left_out": list(dict.fromkeys(left_out)),
  }


def _timed(compute: Callable[[], dict]) -> dict:
  began = time.perf_counter()
  return compute() | {"seconds": time.perf_counter() - began}


def _plain(value: float, n: int) -> dict:
  return {"value": value, "low": None, "high": None, "n": n}


def _labels(folder: ImageFolder) -> list | None:
  """What groups are made of."""
  return None if folder.rows is None else [dataclasses.astuple(row) for row in folder.rows]


def _no_groups(real: ImageFolder, synthetic: ImageFolder) -> list[str]:
  """Why there are no groups, or not all."""
  missing = [kind for kind, folder in (("real", real), ("synthetic", synthetic))
             if folder.rows is None]
  if missing:
    return [f"groups: no manifest of the {' and the '.join(missing)} images"]
  return [f"{place}/*: the manifest of the {kind} images does not say it"
          for kind, folder in (("real", real), ("synthetic", synthetic))
          for place in unknown_places(folder.rows)]


def _notes(folders_of: dict[str, ImageFolder], states: dict[str, FolderFeatures],
           settings: Settings) -> list[str]:
  """What somebody who reads the numbers should know of the folders."""
  notes, real, held_out = [], folders_of["real"], folders_of.get("held_out")
  for kind, folder in folders_of.items():
    for name, count in count_kinds(folder.unknown).items():
      first = next(problem for problem in folder.unknown if problem.kind == name)
      notes.append(f"{name}: {count} cells of the {kind} manifest cannot be read and count as "
                   f"empty, e.g. row {first.row}: {first.reason}")
  if settings.suite == "full" and real.rows is None:
    notes.append("reference/*: without a manifest of the real images its halves are of images, not "
                 "of patients; a patient in both makes them look more alike than they are")
  if "held_out" in states and (real.rows is None or held_out.rows is None):
    notes.append("privacy/*: without manifests of the real and the held-out images nobody knows "
                 "whether a patient is in both")
  said = {kind: ", ".join(f"{count} {form}" for form, count in sorted(state.forms.items()))
          for kind, state in states.items()}
  if states["real"].forms.keys() != states["synthetic"].forms.keys():
    notes.append(f"the files differ in kind or depth, which a network may see: real "
                 f"{said['real']}; synthetic {said['synthetic']}")
  return notes


def _fidelity(real, synthetic, sets, a, b, extractor, settings) -> dict:
  """All measures of one extractor: overall, the reference, and by group."""
  measure = lambda a, b, **how: fidelity_metrics(a, b, extractor=extractor, seed=settings.seed,
                                                 **how)
  total = min(len(a), len(b))
  metrics = {key: _plain(value, total) for key, value in measure(a, b).items()}
  left_out = []
  if settings.suite == "full":
    first = half_of_patients(real.patient[sets["real"][0]], seed=settings.seed)
    # At the N of the comparison where the halves are large enough: the bias of a distance is N's.
    size = min(first.sum(), (~first).sum(), total)
    if size > NEIGHBOURS:
      metrics |= {f"reference/{key}": _plain(value, int(size))
                  for key, value in measure(a[first], a[~first], most=total).items()}
    else:
      left_out.append(f"reference/*: {size} real images in the smaller half of the patients")
  if real.rows is not None and synthetic.rows is not None:
    used = [[folder.rows[number] for number in sets[kind][0]]
            for kind, folder in (("real", real), ("synthetic", synthetic))]
    tier = finding_tiers(used[0])
    groups = [make_groups(rows, tier) for rows in used]
    values, more = fidelity_by_group(
        a, b, *groups, extractor=extractor, least=settings.least, seed=settings.seed,
        subsets=_GROUP_SUBSETS[settings.suite])
    # The number of images is the third part of a name: metric/extractor/number/…
    metrics |= {key: _plain(value, int(key.split("/")[2])) for key, value in values.items()}
    left_out += more
  return {"metrics": metrics, "left_out": left_out}


def _patients_apart(real: ImageFolder, held_out: ImageFolder) -> tuple[np.ndarray, np.ndarray]:
  """Whose the images are; without both manifests nobody knows who is in both folders."""
  if real.rows is not None and held_out.rows is not None:
    return real.patient, held_out.patient
  return tuple(np.array([f"{kind} {name}" for name in folder.patient])
               for kind, folder in (("real", real), ("held out", held_out)))


def _privacy(folders_of: dict[str, ImageFolder], sets, name: str, settings: Settings) -> dict:
  """Copies and membership in the space of one extractor; the real images count as trained on."""
  rows = {kind: numbers for kind, (numbers, _) in sets.items()}
  features = {kind: by_name[name] for kind, (_, by_name) in sets.items()}
  chosen = some_rows(len(features["real"]), COMPARED, seed=settings.seed)
  train_patient, held_out_patient = _patients_apart(folders_of["real"], folders_of["held_out"])
  metrics = privacy_metrics(
      features["synthetic"], features["real"][chosen], features["held_out"], space=name,
      synthetic_patient=folders_of["synthetic"].patient[rows["synthetic"]],
      train_patient=train_patient[rows["real"]][chosen],
      held_out_patient=held_out_patient[rows["held_out"]],
      quantile=max(QUANTILE, 1 / len(features["held_out"])), seed=settings.seed)
  metrics["privacy/compared"] = _plain(len(chosen), len(features["real"]))
  return {"metrics": metrics, "left_out": []}


def _diversity(folder: ImageFolder, numbers: np.ndarray, kind: str, settings: Settings) -> dict:
  """MS-SSIM of random pairs; only the images of the pairs are read."""
  pairs = ms_ssim.random_pairs(len(numbers), _PAIRS[settings.suite], seed=settings.seed)
  reading, values = settings.reading, []
  for start in range(0, len(pairs), 32):
    images = [np.stack([folders.read_pixels(
        folder.root, folder.names[number], resolution=reading.resolution, fit=reading.fit)
        for number in numbers[column]]) for column in pairs[start:start + 32].T]
    values.append(ms_ssim.ms_ssim(*(part.astype(np.float32) / 255 for part in images)))
  values = np.concatenate(values).astype(np.float64)
  end = f"{kind}/{len(pairs)}/{reading}"
  return {f"ms_ssim/{end}": _plain(float(values.mean()), len(pairs)),
          f"ms_ssim_sd/{end}": _plain(float(values.std(ddof=1)) if len(values) > 1 else 0.0,
                                      len(pairs))}

