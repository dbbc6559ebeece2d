"""Records to a prepared data set: shards, an index of what is in them, `dataset.json`.

    OUTPUT/dataset.json      fingerprint, vocabulary, views, resolution, bits, counts, versions
    OUTPUT/radiographs/…     ArrayRecord shards of the TFDS builder
    OUTPUT/index/SPLIT.npz   patients, studies, views, findings as arrays, in the shards' order
"""

import collections
import hashlib
import importlib.metadata
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cdjax.core.types import ABSENT, PRESENT, FindingsArrays
from cdjax.data.image_io import encode_png, pixel_dtype
from cdjax.data.staging import DATASET_FILE, read_info, staged_output
from cdjax.findings import (
  Finding,
  canonical_name,
  finding_from_dict,
  finding_to_dict,
  findings_to_arrays,
)

FORMAT = 1
SPLITS = ("train", "validation", "test")
UNLISTED = ("absent", "unknown")
_VERSIONS = ("cdjax", "tensorflow-datasets", "array-record", "numpy", "pillow", "pydicom")


class NoRecordsError(ValueError):
  """There was nothing to write."""


def write_dataset(records: Mapping[str, Iterable[dict]], output: str | Path, *,
                  vocabulary: Sequence[str], resolution: int, bits: int,
                  info: Mapping | None = None, unlisted: str = "absent", reuse: bool = False,
                  overwrite: bool = False) -> str:
  """Writes a data set that `open_split` reads; all of it or nothing.

  Args:
    records: split ("train", "validation", "test") to dicts with
      `image` `[resolution, resolution]` uint8 or uint16, dense is bright;
      `image_id`, `patient_id` str; `study` int, the order within the patient;
      `findings` list of `Finding`, [] for healthy, None where nobody labelled the image;
      optional: `report`, `view`, `sex` str, `age` in years or None, and
      `png`, the image's PNG bytes where they were made already.
    output: the folder to make.
    vocabulary: canonical names; a finding outside of it is an error.
    resolution: side of the images in pixels.
    bits: 8 or 16.
    info: anything that JSON can hold, e.g. the configuration that made the records.
    unlisted: "absent" or "unknown": what a finding of the vocabulary is that a labelled image does
      not list.
    reuse: where `output` holds a data set that was asked for with equal arguments, return at once
      and leave `records` alone. For records that are a function of `info`, as the phantom's are.
    overwrite: replace a data set with other content.

  Returns:
    The fingerprint: SHA-256 over the records' content, whatever their order.

  Raises:
    FileExistsError: `output` holds other data and `overwrite` is False.
    ValueError: a record does not fit.
  """
  request = {"vocabulary": list(vocabulary), "resolution": resolution, "bits": bits,
             "unlisted": unlisted, "info": json.loads(json.dumps(info or {}))}
  if reuse and (Path(output) / DATASET_FILE).is_file():
    there = read_info(output)
    if there["request"] == request:
      return there["fingerprint"]
  with staged_output(output, request=request, overwrite=overwrite) as folder:
    write_records(records, folder, vocabulary=vocabulary, resolution=resolution, bits=bits,
                  unlisted=unlisted, info=info, request=request)
  return read_info(output)["fingerprint"]


def write_records(records: Mapping[str, Iterable[dict]], folder: Path, *,
                  vocabulary: Sequence[str], resolution: int, bits: int, unlisted: str,
                  info: Mapping | None, request: Mapping) -> dict:
  """`write_dataset` into a folder that exists and is empty; returns the `dataset.json`.

  Raises:
    NoRecordsError: there is no record at all.
    ValueError: a record does not fit.
  """
  from cdjax.data.builder import write_array_records

  vocabulary = tuple(canonical_name(name) for name in vocabulary)
  if len(set(vocabulary)) < len(vocabulary) or not vocabulary:
    raise ValueError(f"vocabulary={vocabulary}; expected at least one name, each once")
  if unknown := set(records) - set(SPLITS):
    raise ValueError(f"splits {sorted(unknown)}; expected some of {SPLITS}")
  digests: list[bytes] = []
  seen: set[str] = set()

  def examples(split: str) -> Iterator[dict]:
    for record in records[split]:
      example, digest = _encode(record, split, vocabulary, resolution, bits, unlisted)
      if record["image_id"] in seen:
        raise ValueError(f"image_id={record['image_id']!r} occurs twice")
      seen.add(record["image_id"])
      digests.append(digest)
      yield example

  streams = {}
  for split in sorted(records, key=SPLITS.index):
    stream = examples(split)
    if (first := next(stream, None)) is not None:  # TFDS refuses empty splits.
      streams[split] = itertools.chain([first], stream)
  if not streams:
    raise NoRecordsError("no record to write")
  write_array_records(streams, folder, resolution=resolution, bits=bits)
  header = json.dumps([FORMAT, vocabulary, resolution, bits])
  fingerprint = hashlib.sha256(header.encode() + b"".join(sorted(digests))).hexdigest()
  views, splits = _write_indices(folder, list(streams), vocabulary)
  result = {
      "format": FORMAT, "fingerprint": fingerprint, "vocabulary": list(vocabulary),
      "views": list(views), "resolution": resolution, "bits": bits, "unlisted": unlisted,
      "splits": splits, "versions": {n: importlib.metadata.version(n) for n in _VERSIONS
                                     if _installed(n)},
      "info": dict(info or {}), "request": dict(request)}
  (folder / DATASET_FILE).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n",
                                     encoding="utf-8")
  return result


def _installed(name: str) -> bool:
  """Whether a distribution is installed; cdjax itself may run from its source folder."""
  return any(True for _ in importlib.metadata.distributions(name=name))


def _encode(record: Mapping, split: str, vocabulary: tuple[str, ...], resolution: int, bits: int,
            unlisted: str) -> tuple[dict, bytes]:
  """The example of the builder's features, and the digest of its content."""
  image, name = record["image"], record["image_id"]
  if image.shape != (resolution, resolution) or image.dtype != pixel_dtype(bits):
    raise ValueError(f"{name}: image is {image.dtype} {image.shape}; expected "
                     f"{np.dtype(pixel_dtype(bits))} {(resolution, resolution)}")
  age = record.get("age")
  example = {
      "image_id": name, "patient_id": record["patient_id"], "study": int(record["study"]),
      "findings": findings_to_json(
          complete_findings(record["findings"], vocabulary, unlisted)),
      "report": record.get("report") or "", "view": record.get("view") or "",
      "sex": record.get("sex") or "", "age": math.nan if age is None else float(age)}
  digest = hashlib.sha256(json.dumps([split, example], sort_keys=True).encode())
  digest.update(np.ascontiguousarray(image).data)
  example["image"] = record.get("png") or encode_png(image)
  return example, digest.digest()


def complete_findings(findings: Sequence[Finding] | None, vocabulary: Sequence[str],
                      unlisted: str) -> list[Finding]:
  """Says "absent" where the label set implies it, so that what a record omits is unknown.

  Args:
    findings: what is listed; [] says that the image is healthy, whatever `unlisted` is; None that
      nobody labelled it.
    vocabulary: canonical names.
    unlisted: "absent" or "unknown".

  Returns:
    The findings, then the absent ones that they or `unlisted` imply.
  """
  if findings is None:
    return []
  status = findings_to_arrays([findings], vocabulary,
                              unlisted=unlisted if findings else "absent").status[0]
  said = {finding.name for finding in findings
          if not (finding.status == "absent" and (finding.laterality or finding.zones))}
  return [*findings, *(Finding(name, status="absent")
                       for name, value in zip(vocabulary, status, strict=True)
                       if value == ABSENT and name not in said)]


def findings_to_json(findings: Sequence[Finding]) -> str:
  """A JSON list without the keys that say nothing."""
  return json.dumps([{key: value for key, value in finding_to_dict(finding).items()
                      if value is not None and value != []} for finding in findings])


def findings_from_json(text: str) -> list[Finding]:
  """The inverse of `findings_to_json`."""
  return [finding_from_dict(values) for values in json.loads(text)]


def _write_indices(folder: Path, splits: Sequence[str], vocabulary: Sequence[str]
                   ) -> tuple[tuple[str, ...], dict]:
  """Reads the shards back and writes what training needs before it touches an image.

  Returns:
    The views that occur, and the counts of each split.
  """
  from cdjax.data.builder import read_array_records

  (folder / "index").mkdir()
  columns = {}
  for split in splits:
    rows = collections.defaultdict(list)
    for example in read_array_records(folder, split):
      for key in ("image_id", "patient_id", "study", "view", "findings"):
        rows[key].append(example[key])
    columns[split] = rows
  views = tuple(sorted({view.decode() for rows in columns.values() for view in rows["view"]}))
  counts = {}
  for split, rows in columns.items():
    patients = sorted(set(rows["patient_id"]))
    number = {patient: i for i, patient in enumerate(patients)}
    findings = findings_to_arrays([findings_from_json(text) for text in rows["findings"]],
                                  vocabulary, unlisted="unknown")
    patient = np.array([number[p] for p in rows["patient_id"]], np.int32)
    study = np.array(rows["study"], np.int64)
    np.savez(folder / "index" / f"{split}.npz", image_id=np.array(rows["image_id"]),
             patient=patient, study=study,
             view=np.array([views.index(view.decode()) for view in rows["view"]], np.int32),
             status=findings.status, severity=findings.severity, side=findings.side,
             zone=findings.zone)
    counts[split] = _count(patient, study, findings, vocabulary)
  return views, counts


def _count(patient: np.ndarray, study: np.ndarray, findings: FindingsArrays,
           vocabulary: Sequence[str]) -> dict:
  """Images, patients and findings of one split."""
  per_patient = np.bincount(np.unique(np.stack([patient, study]), axis=1)[0])
  present = findings.status == PRESENT
  return {
      "images": len(patient), "patients": len(per_patient),
      "patients_with_several_studies": int((per_patient > 1).sum()),
      "healthy_images": int(findings.healthy.sum()),
      "unlabelled_images": int((findings.status < 0).all(-1).sum()),
      "findings": {name: {"images": int(present[:, k].sum()),
                          "patients": len(np.unique(patient[present[:, k]]))}
                   for k, name in enumerate(vocabulary)}}
