"""The phantom as a prepared data set: any number of patients, any resolution, with its reports."""

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from cdjax.data.decoded import DecodedImages, decoded_images
from cdjax.data.image_io import decode_png, encode_png
from cdjax.data.options import Options
from cdjax.data.phantom import FIVE, check_vocabulary, phantom_records, population_size
from cdjax.data.staging import DATASET_FILE, read_info, restore_output, staged_output
from cdjax.data.write import SPLITS, write_records
from cdjax.findings import canonical_name, finding_from_dict, finding_to_dict

NAME = "phantom"
_LENGTH = struct.Struct(">I")


def prepare_phantom(output: str | Path, *, patients: int, frequencies: Sequence[float] = (),
                    **options) -> tuple[dict, bool]:
  """Renders a population and writes it as `prepare` writes radiographs.

  A killed run leaves what it rendered in `.NAME.decoded` beside the output; the next one goes on
  from there and gives the same shards.

  Args:
    output: the folder to make.
    patients: of all splits; each has one to four studies.
    frequencies: relative frequency of each finding of the vocabulary; () for equal ones.
    **options: of `Options`; `vocabulary` () is the quickstart's five findings, `seed` that of the
      population. Nothing is read or decoded, so that `fit` and `workers` do not count.

  Returns:
    The `dataset.json`, and whether `output` held the same data before.

  Raises:
    ValueError: an option is not possible.
    FileExistsError, OSError: see `staged_output`.
  """
  options, output = Options(**options), Path(output)
  vocabulary = check_vocabulary(tuple(map(canonical_name, options.vocabulary)) or FIVE)
  held_out = {"validation": round(patients * options.val_share),
              "test": round(patients * options.test_share)}
  counts = {"train": patients - sum(held_out.values()), **held_out}
  if min(counts.values()) < 0 or counts["train"] < 1:
    raise ValueError(f"--patients {patients} --val-share {options.val_share} --test-share "
                     f"{options.test_share}; expected shares >= 0 that leave someone to train on")
  if len(frequencies) not in (0, len(vocabulary)) or any(value < 0 for value in frequencies):
    raise ValueError(f"--frequencies {','.join(map(str, frequencies))}; expected one number >= 0 "
                     f"for each of {', '.join(vocabulary)}")
  law = {"seed": options.seed, "resolution": options.resolution, "bits": options.bits,
         "vocabulary": list(vocabulary), "frequencies": [float(value) for value in frequencies]}
  request = {"dataset": NAME, "patients": counts, **law}
  restore_output(output)
  before = read_info(output) if (output / DATASET_FILE).is_file() else None
  if before and before["request"] == request:   # a population is a function of what was asked
    return before, True
  sizes = {split: population_size(patients=counts[split], seed=options.seed, split=split)
           for split in SPLITS if counts[split]}
  with (staged_output(output, request=request, overwrite=options.overwrite) as folder,
        decoded_images(output) as rendered,
        tqdm(total=sum(sizes.values()), unit="image", desc=NAME, disable=None) as bar):
    records = {split: _records(law, split, counts[split], size, rendered, bar)
               for split, size in sizes.items()}
    info = write_records(
        records, folder, vocabulary=vocabulary, resolution=options.resolution, bits=options.bits,
        unlisted="absent", request=request, info={"source": "prepare", "dataset": NAME})
  return info, False


def _records(law: dict, split: str, patients: int, size: int, rendered: DecodedImages, bar: tqdm
             ) -> Iterator[dict]:
  """One split's `size` records; those of an earlier run are not rendered again."""
  start = 0
  while start < size and (record := _kept(rendered, _key(law, split, start), law["bits"])):
    start += 1
    bar.update()
    yield record
  if start == size:
    return
  for index, record in enumerate(
      phantom_records(**law, patients=patients, split=split, start=start), start):
    record["png"] = encode_png(record["image"])
    rendered.put(_key(law, split, index), _packed(record))
    bar.update()
    yield record


def _key(law: dict, split: str, index: int) -> bytes:
  """What a rendered record is known by: patients do not depend on how many there are."""
  return hashlib.sha256(json.dumps([law, split, index], sort_keys=True).encode()).digest()


def _packed(record: dict) -> bytes:
  """A record as bytes: length of the text, text, PNG."""
  said = {key: value for key, value in record.items() if key not in ("image", "png")}
  said["findings"] = [finding_to_dict(finding) for finding in record["findings"]]
  text = json.dumps(said).encode()
  return _LENGTH.pack(len(text)) + text + record["png"]


def _kept(rendered: DecodedImages, key: bytes, bits: int) -> dict | None:
  """The record of an earlier run; None where there is none, or a damaged one."""
  data = rendered.get(key) if key in rendered else None
  if data is None:
    return None
  end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
  record, png = json.loads(data[_LENGTH.size:end]), data[end:]
  record["findings"] = [finding_from_dict(values) for values in record["findings"]]
  return record | {"image": decode_png(png, bits), "png": png}
