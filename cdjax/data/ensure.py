"""The data set that a configuration names: a phantom made on first use, or a prepared folder."""

from collections.abc import Sequence
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from cdjax.data.phantom import phantom_records, population_size
from cdjax.data.source import Split, open_split
from cdjax.data.staging import read_info
from cdjax.data.write import write_dataset
from cdjax.findings.extract import extract_findings
from cdjax.sharding.hosts import primary_first

_VALIDATION_SHARE = 10   # one validation patient for so many training patients


def ensure_dataset(config: ConfigDict, workdir: str | Path) -> Path:
  """Returns the folder of the data set, making the phantom's in `workdir/data` if it is not there.

  For a prepared folder the configuration's vocabulary, resolution and number of views become the
  data set's own.

  Raises:
    ValueError: unknown `data.source`, or a configuration that contradicts the prepared folder.
    FileNotFoundError: `data.path` is no prepared data set.
  """
  data = config.data
  if data.source == "phantom":
    return _ensure_phantom(config, Path(workdir) / "data")
  if data.source != "prepared":
    raise ValueError(f"data.source={data.source!r}; expected 'phantom' or 'prepared'")
  if not data.path:
    raise ValueError("data.source is 'prepared' but data.path is empty; give the folder that "
                     "`cdjax prepare --output` made, e.g. --config.data.path=FOLDER")
  info = read_info(data.path)
  if info["resolution"] != data.resolution:
    raise ValueError(f"{data.path} holds images of {info['resolution']} px, the configuration asks "
                     f"for data.resolution={data.resolution}; prepare again or change the key")
  with config.unlocked():
    data.vocabulary = tuple(info["vocabulary"])
    config.autoencoder.model.num_views = max(len(info["views"]), 1)
  return Path(data.path)


def _ensure_phantom(config: ConfigDict, folder: Path) -> Path:
  data, phantom = config.data, config.data.phantom
  law = {name: phantom[name] for name in (
      "seed", "max_studies", "single_study_share", "healthy_share", "multiple_share")}
  law |= {name: tuple(phantom[name]) for name in ("frequencies", "held_out_combinations")}
  held_out = max(phantom.patients // _VALIDATION_SHARE, 4)
  patients = {"train": phantom.patients, "validation": held_out}
  counted = {name: law[name] for name in ("seed", "max_studies", "single_study_share")}

  if phantom.findings_from not in ("truth", "reports"):
    raise ValueError(f"data.phantom.findings_from={phantom.findings_from!r}; expected 'truth' or "
                     "'reports'")

  def records(split):   # not started where the data set is there already
    population = dict(patients=patients[split], split=split)
    made = phantom_records(resolution=data.resolution, bits=data.bits,
                           vocabulary=tuple(data.vocabulary), **population, **law)
    if phantom.findings_from == "reports":
      made = (as_reported(record, data.vocabulary) for record in made)
    yield from tqdm(made, total=population_size(**population, **counted),
                    desc=f"phantom {split}", unit="images")

  fingerprint = primary_first(lambda: write_dataset(
      {split: records(split) for split in patients}, folder, vocabulary=data.vocabulary,
      resolution=data.resolution, bits=data.bits,
      info={"phantom": law | {"patients": phantom.patients,
                              "findings_from": phantom.findings_from}}, reuse=True))
  logging.info("phantom of %d patients in %s, fingerprint %s", phantom.patients, folder,
               fingerprint[:12])
  return folder


def as_reported(record: dict, vocabulary: Sequence[str]) -> dict:
  """The record with the findings that its report states; what that does not mention is absent."""
  read = [finding for finding in extract_findings(record["report"]) if finding.name in vocabulary]
  # "No left effusion, a small right one": of a name, what is there counts.
  there = {finding.name for finding in read if finding.status != "absent"}
  return record | {"findings": [
      finding for finding in read if finding.status != "absent" or finding.name not in there]}


def open_training_split(config: ConfigDict, workdir: str | Path) -> Split:
  """The training split of the configuration's data set."""
  return open_split(ensure_dataset(config, workdir), "train")
