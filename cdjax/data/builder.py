"""The TFDS builder behind every prepared data set; ArrayRecord files, no TensorFlow.

Without TensorFlow an Image feature takes PNG bytes only, and TFDS cannot decode 16-bit PNGs, so
both directions are done by `image_io`.
"""

import contextlib
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer as tfds_writer
from tensorflow_datasets.proto import tf_example_pb2

NAME = "radiographs"
VERSION = "1.0.0"


class CanonicalWriter(tfds_writer.ExampleWriter):
  """Writes equal examples as equal bytes.

  An example is a protocol buffer with a map, whose order differs between processes.
  """

  def write(self, path, examples):
    """Writes (key, serialised example) pairs, in their order, with the map sorted."""
    return super().write(path, (
        (key, tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True))
        for key, data in examples))


class Radiographs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Grey square radiographs with findings and what is known of patient and study.

  It only writes, and is not registered: by name, `tfds.data_source("radiographs", data_dir=OUTPUT)`
  then reads what was written, in any process and without TensorFlow.
  """

  VERSION = tfds.core.Version(VERSION)
  url_infos = None  # Nothing is downloaded, so there are no checksums to look for.

  def __init__(self, *, examples: Mapping[str, Iterable[dict]], resolution: int, bits: int,
               **kwargs):
    """`examples` maps a split to its examples, in the form of the features."""
    self._examples = examples
    self._resolution = resolution
    self._bits = bits
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features
    return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict({
        "image": features.Image(shape=(self._resolution, self._resolution, 1),
                                dtype=np.uint8 if self._bits == 8 else np.uint16,
                                encoding_format="png"),
        "image_id": features.Text(),
        "patient_id": features.Text(),
        "study": np.int64,           # order of the study within the patient
        "findings": features.Text(),  # JSON list, see cdjax.findings.finding_to_dict
        "report": features.Text(),
        "view": features.Text(),     # "" where unknown
        "sex": features.Text(),      # "" where unknown
        "age": np.float32,           # years; nan where unknown
    }))

  def _example_writer(self) -> tfds_writer.ExampleWriter:
    return CanonicalWriter(file_format=self.info.file_format)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {split: self._generate_examples(split) for split in self._examples}

  def _generate_examples(self, split: str):
    for example in self._examples[split]:
      yield example["image_id"], example


def write_array_records(examples: Mapping[str, Iterable[dict]], folder: Path, *, resolution: int,
                        bits: int) -> None:
  """Writes all splits; TFDS shuffles each by a hash of the image ids, so order does not matter."""
  tfds.disable_progress_bar()
  builder = Radiographs(examples=examples, resolution=resolution, bits=bits,
                        data_dir=os.fspath(folder))
  with contextlib.redirect_stdout(io.StringIO()):  # It announces a download.
    builder.download_and_prepare(file_format="array_record",
                                 download_dir=os.fspath(folder / "downloads"))
  shutil.rmtree(folder / "downloads")


def read_array_records(folder: Path, split: str) -> Sequence[dict[str, Any]]:
  """Random access to a split's examples; images stay PNG bytes, texts stay bytes."""
  builder = tfds.builder_from_directory(os.fspath(folder / NAME / VERSION))
  return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
