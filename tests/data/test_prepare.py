"""`prepare` as a whole: what goes in comes out, the rest is listed, nothing is half done."""

import csv
import errno
import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdjax.cli.main import main
from cdjax.data.prepare import prepare
from cdjax.data.source import open_split
from cdjax.data.staging import read_info, staged_output
from cdjax.data.tables import ManifestError
from cdjax.data.write import write_dataset
from cdjax.findings import Finding

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cxr"
SIZE = 16


def run(*args):
  return main(["prepare", *map(str, args)])


@pytest.fixture
def folder(tmp_path):
  """Twelve good images of six patients, and a manifest with bad rows among them."""
  root = tmp_path / "images"
  root.mkdir()
  rng = np.random.default_rng(0)
  findings = ["No Finding", "Mass", "Effusion|Mass", "small right effusion", "", "no mass"]
  lines = ["image,patient_id,study,findings,report,view"]
  for i in range(12):
    Image.fromarray(rng.integers(0, 256, (20, 18)).astype(np.uint8)).save(root / f"{i}.png")
    lines.append(f"{i}.png,p{i % 6},{i // 6},{findings[i // 2]},text {i},{'PA' if i % 2 else 'AP'}")
  (root / "cut.png").write_bytes((root / "0.png").read_bytes()[:60])
  Image.fromarray(np.zeros((20, 20), np.uint8)).save(root / "flat.png")
  (tmp_path / "out.png").write_bytes((root / "0.png").read_bytes())
  lines += ["cut.png,p1,5,Mass,,", "flat.png,p1,5,Mass,,", "gone.png,p1,5,Mass,,",
            "../out.png,p1,5,Mass,,", "0.png,p9,5,Mass,,", "9.png,p1,5,Wibble,,",
            "twice.png,p1,5,left mass; no mass,,"]
  (root / "twice.png").write_bytes((root / "1.png").read_bytes())
  (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
  return tmp_path


def prepared(folder, name="data", **kwargs):
  return prepare(folder / "images", folder / "m.csv", folder / name, resolution=SIZE,
                 val_share=0.2, test_share=0.2, **kwargs)


def records(path):
  return {record["image_id"]: (split, record) for split in read_info(path)["splits"]
          for record in open_split(path, split)}


def test_what_goes_in_comes_out(folder):
  info, problems, unchanged = prepared(folder)
  assert not unchanged and info == read_info(folder / "data")
  found = records(folder / "data")
  assert sorted(found) == sorted(f"{i}.png" for i in range(12))
  patients = {}
  for i in range(12):
    split, record = found[f"{i}.png"]
    patients.setdefault(record["patient_id"], set()).add(split)
    image = Image.open(folder / "images" / f"{i}.png").resize(
        (SIZE, SIZE), Image.Resampling.HAMMING, box=(0, 1, 18, 19))
    assert np.abs(record["image"] - np.asarray(image, float)).max() <= 1
    assert (record["patient_id"], record["study"]) == (f"p{i % 6}", i // 6)
    assert (record["report"], record["view"]) == (f"text {i}", "PA" if i % 2 else "AP")
  assert all(len(splits) == 1 for splits in patients.values())
  assert sorted(s["patients"] for s in info["splits"].values()) == [1, 1, 4]
  # What a label list does not name is absent; an empty cell says nothing.
  absent = lambda *names: [Finding(name, status="absent") for name in names]
  assert info["vocabulary"] == ["mass", "pleural_effusion"]
  assert found["0.png"][1]["findings"] == absent("mass", "pleural_effusion")
  assert found["6.png"][1]["findings"] == [
      Finding("pleural_effusion", severity=0.35, laterality="right"), *absent("mass")]
  assert found["8.png"][1]["findings"] == []
  counts = [split["findings"]["mass"]["images"] for split in info["splits"].values()]
  assert sum(counts) == 4
  assert sum(split["unlabelled_images"] for split in info["splits"].values()) == 2
  with (folder / "data" / "quarantine.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert {(int(row["row"]), row["image"], row["kind"]) for row in rows} == {
      (14, "cut.png", "unreadable image"), (15, "flat.png", "constant image"),
      (16, "gone.png", "missing file"), (17, "../out.png", "outside the folder"),
      (18, "0.png", "duplicate image id"), (19, "9.png", "unknown finding"),
      (20, "twice.png", "contradicting findings")}
  assert len(problems) == 7 and all(row["reason"] for row in rows)
  with (folder / "data" / "splits.csv").open() as file:
    listed = {row["image"]: (row["split"], row["patient_id"]) for row in csv.DictReader(file)}
  assert listed == {name: (split, record["patient_id"])
                    for name, (split, record) in found.items()}


def test_same_input_gives_the_same_bytes_with_any_number_of_workers(folder):
  first, _, _ = prepared(folder, "a")
  second, _, _ = prepared(folder, "b", workers=2)
  files = [path.relative_to(folder / "a") for path in sorted((folder / "a").rglob("*"))
           if path.is_file()]
  assert len(files) > 7 and first == second
  for path in files:
    assert (folder / "a" / path).read_bytes() == (folder / "b" / path).read_bytes(), path
  assert prepared(folder, "a")[2]
  lines = (folder / "m.csv").read_text().splitlines()
  (folder / "m.csv").write_text("\n".join([lines[0], *lines[12:0:-1], *lines[13:]]))
  assert prepared(folder, "c")[0]["fingerprint"] == first["fingerprint"]


def test_nothing_is_overwritten_by_accident(folder):
  fingerprint = prepared(folder)[0]["fingerprint"]
  with pytest.raises(FileExistsError, match="--overwrite"):
    prepared(folder, bits=16)
  pixels = np.asarray(Image.open(folder / "images" / "3.png"))[::-1]
  Image.fromarray(pixels).save(folder / "images" / "3.png")
  with pytest.raises(FileExistsError, match="--overwrite"):
    prepared(folder)
  assert read_info(folder / "data")["fingerprint"] == fingerprint
  assert prepared(folder, overwrite=True)[0]["fingerprint"] != fingerprint
  with pytest.raises(FileExistsError, match="left alone"):
    prepared(folder, "images", overwrite=True)
  assert sorted(p.name for p in folder.iterdir()) == ["data", "images", "m.csv", "out.png"]


def test_a_killed_run_leaves_nothing_in_the_way(folder):
  left = folder / ".data.partial"
  (left / "radiographs").mkdir(parents=True)
  (left / "dataset.json").write_text("{}")
  prepared(folder)
  os.rename(folder / "data", folder / ".data.old")  # Killed between the two renames.
  assert prepared(folder)[2]
  assert not left.exists() and not (folder / ".data.old").exists()
  left.mkdir()
  handle = os.open(left, os.O_RDONLY)
  fcntl.flock(handle, fcntl.LOCK_EX)
  with pytest.raises(BlockingIOError, match="another process"):
    prepared(folder, overwrite=True)
  os.close(handle)


def test_a_full_disk_is_said(tmp_path):
  def fail():
    try:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
      raise RuntimeError("wrapped") from error

  with (pytest.raises(OSError, match="disk full") as error,
        staged_output(tmp_path / "data", request={}, overwrite=False)):
    fail()
  assert error.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_vocabulary_and_unlisted(folder):
  info, problems, _ = prepared(folder, vocabulary=("Effusion",), unlisted="unknown")
  assert info["vocabulary"] == ["pleural_effusion"]
  foreign = {p.row for p in problems if p.kind == "unknown finding"}
  assert {4, 5, 6, 7} <= foreign  # "Mass" and "Effusion|Mass"; "no mass" is no loss.
  assert "known: pleural_effusion" in next(p.reason for p in problems if p.row == 4)
  index = [open_split(folder / "data", split).index for split in info["splits"]]
  status = np.concatenate([part.findings.status for part in index])[:, 0]
  assert sorted(status.tolist()) == [-1] * 4 + [0] * 2 + [1] * 2


def test_exit_codes(folder, capsys):
  args = ["--images", folder / "images", "--resolution", SIZE, "--workers", 0]
  assert run(*args, "--manifest", folder / "m.csv", "--output", folder / "data") == 0
  out = capsys.readouterr().out
  assert "12 images went through, 7 rows were quarantined" in out and "text 3" not in out
  assert run(*args, "--manifest", folder / "m.csv", "--output", folder / "data") == 0
  assert "unchanged" in capsys.readouterr().out
  (folder / "bad.csv").write_text("image,patient_id,findings\ngone.png,p,Mass\n")
  assert run(*args, "--manifest", folder / "bad.csv", "--output", folder / "none") == 1
  assert "row 2: missing file" in capsys.readouterr().err
  assert [p.name for p in (folder / "none").iterdir()] == ["quarantine.csv"]
  (folder / "bad.csv").write_text("path,patient_id,findings\n0.png,p,Mass\n")
  assert run(*args, "--manifest", folder / "bad.csv", "--output", folder / "none") == 1
  assert "--columns" in capsys.readouterr().err
  assert run(*args, "--manifest", folder / "bad.csv", "--output", folder / "none",
             "--columns", "image=path") == 0


def test_write_dataset_checks_its_records(tmp_path):
  record = {"image": np.eye(SIZE, dtype=np.uint16) * 65535, "image_id": "a", "patient_id": "p",
            "study": 1, "findings": [Finding("nodule", severity=0.5, zones=("mid",))], "age": 3}
  write = lambda *records, **kwargs: write_dataset(
      {"train": records}, tmp_path / "data",
      **{"vocabulary": ["nodule"], "resolution": SIZE, "bits": 16} | kwargs)
  with pytest.raises(ValueError, match="uint16"):
    write({**record, "image": np.eye(SIZE)})
  with pytest.raises(ValueError, match="twice"):
    write(record, record)
  with pytest.raises(ValueError, match="not in the vocabulary"):
    write({**record, "findings": [Finding("mass")]})
  assert not (tmp_path / "data").exists()
  fingerprint = write(record, info={"seed": (1, 2)})
  back = open_split(tmp_path / "data", "train")[0]
  assert np.array_equal(back.pop("image"), record["image"])
  assert back == {"image_id": "a", "patient_id": "p", "study": 1, "findings": record["findings"],
                  "report": "", "view": "", "sex": "", "age": 3.0}
  assert write(info={"seed": (1, 2)}, reuse=True) == fingerprint
  with pytest.raises(FileExistsError):
    write(info={"seed": (1, 3)}, reuse=True)
  with pytest.raises(ValueError, match="validation"):
    open_split(tmp_path / "data", "validation")


def test_missing_folder_and_manifest(tmp_path):
  with pytest.raises(ManifestError, match="image folder"):
    prepare(tmp_path / "no", tmp_path / "m.csv", tmp_path / "data")
  with pytest.raises(ManifestError, match="does not exist"):
    prepare(tmp_path, tmp_path / "m.csv", tmp_path / "data")


def test_real_radiographs(tmp_path):
  if not REAL.is_dir():
    pytest.skip(f"no real radiographs at {REAL}")
  with (REAL / "metadata.csv").open() as file:
    wanted = list(csv.DictReader(file))[::12]
  with (tmp_path / "m.jsonl").open("w") as file:
    file.writelines(json.dumps(row) + "\n" for row in wanted)
  info, problems, _ = prepare(REAL, tmp_path / "m.jsonl", tmp_path / "data", resolution=32,
                              columns={"study": "study_offset_days,study"})
  assert not problems and sum(s["images"] for s in info["splits"].values()) == len(wanted)
  found = records(tmp_path / "data")
  for row in wanted:
    named = {f.name for f in found[row["image"]][1]["findings"] if f.status == "present"}
    assert len(named) == (0 if row["findings"] == "No Finding" else row["findings"].count("|") + 1)
    thumb = Image.open(REAL / row["image"]).resize((32, 32), Image.Resampling.BOX)
    assert np.abs(found[row["image"]][1]["image"] - np.asarray(thumb, float)).mean() < 4
