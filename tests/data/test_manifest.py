"""Every kind of bad row gets its line and its reason; good rows keep their meaning."""

import json

import pytest

from cdjax.data.manifest import read_manifest
from cdjax.data.splits import assign_patients, split_rows
from cdjax.data.tables import ManifestError
from cdjax.findings import Finding


def write(path, text):
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path


def kinds(problems):
  return {problem.row: problem.kind for problem in problems}


def test_bad_csv_rows_are_named_and_the_rest_goes_through(tmp_path):
  manifest = write(tmp_path / "m.csv", b"\n".join([
      b"image,patient_id,findings,age,split",
      b"a.png,p1,Effusion|Pleural_Thickening,058Y,train",    # 2
      b"b.png,,No Finding,50,train",                         # 3 no patient
      b"c.png,p2,Blorbosis,50,train",                        # 4 unknown finding
      b"d.png,p2,No Finding,old,train",                      # 5 bad number
      b"a.png,p3,No Finding,50,train",                       # 6 duplicate
      b"./a.png,p3,No Finding,50,train",                     # 7 duplicate in another spelling
      b"e.png,p3,No Finding",                                # 8 too few cells
      b"f.png,p3,No Finding,50,holdout",                     # 9 unknown split
      b"g.png,p\xff,No Finding,50,train",                    # 10 not UTF-8
      b"",                                                   # 11 blank
      b"h.png,p4,,,",                                        # 12 fine, not labelled
      b"i.png,p4,\"large left lower pleural effusion; no cardiomegaly\",6M,val",  # 13 fine
      b"j.png,p4,No Finding|Edema,50,train",                 # 14 contradiction
      b"k.png,p5,\"No Finding,50,train",                     # 15 quote left open
      b""]))
  rows, problems = read_manifest(manifest)
  assert [row.number for row in rows] == [2, 12, 13]
  assert kinds(problems) == {
      3: "missing value", 4: "unknown finding", 5: "bad number", 6: "duplicate image id",
      7: "duplicate image id", 8: "unreadable row", 9: "unknown split", 10: "unreadable row",
      14: "unknown finding", 15: "unreadable row"}
  reasons = {problem.row: problem.reason for problem in problems}
  assert "blorbosis" in reasons[4].lower() and "pneumothorax" in reasons[4]
  assert "row 2" in reasons[6] and "'old'" in reasons[5] and "patient_id" in reasons[3]
  assert rows[0].findings == [Finding("pleural_effusion"), Finding("pleural_thickening")]
  assert rows[0].age == 58 and rows[1].findings is None and rows[2].age == 0.5
  assert rows[2].findings == [
      Finding("pleural_effusion", severity=0.9, laterality="left", zones=("lower",)),
      Finding("cardiomegaly", status="absent")]
  assert [row.split for row in rows] == ["train", None, "validation"]


def test_jsonl(tmp_path):
  lines = [
      json.dumps({"image": "a.png", "patient_id": 7, "findings": ["Effusion", "no edema"]}),
      "{not json",
      json.dumps({"image": "b.png", "patient_id": 7}),
      json.dumps({"image": "c.png", "patient_id": 7, "findings": []}),
      json.dumps({"image": "d.png", "patient_id": 7, "findings": None}),
      json.dumps({"image": "e.png", "patient_id": 7, "findings": [
          {"name": "Effusion", "severity": 0.4, "laterality": "right"}]}),
      json.dumps([1]),
      json.dumps({"image": {"path": 1}, "patient_id": 7, "findings": []}),
      json.dumps({"image": "f.png", "patient_id": 7, "findings": [{"name": "Mass", "a": 1}]}),
      json.dumps({"image": "g.png", "patient_id": 7, "findings": [], "day": float("nan")}),
  ]
  rows, problems = read_manifest(write(tmp_path / "m.jsonl", "\n".join(lines)), {"study": "day"})
  assert [row.number for row in rows] == [1, 4, 5, 6]
  assert [row.findings for row in rows] == [
      [Finding("pleural_effusion"), Finding("pulmonary_edema", status="absent")], [], None,
      [Finding("pleural_effusion", severity=0.4, laterality="right")]]
  assert {row.patient_id for row in rows} == {"7"}
  assert kinds(problems) == {2: "unreadable row", 3: "missing column", 7: "unreadable row",
                             8: "unreadable row", 9: "unknown finding", 10: "bad number"}


def test_missing_column_names_those_there(tmp_path):
  manifest = write(tmp_path / "m.csv", "path,subject,findings\na.png,p,Mass\n")
  with pytest.raises(ManifestError, match=r"'image', 'patient_id'.*path, subject.*--columns"):
    read_manifest(manifest)
  rows, problems = read_manifest(manifest, {"image": "path", "patient_id": "subject"})
  assert rows[0].image == "a.png" and rows[0].patient_id == "p" and not problems
  with pytest.raises(ManifestError, match="visit"):
    read_manifest(manifest, {"image": "path", "patient_id": "subject", "study": "visit"})
  with pytest.raises(ManifestError, match=r"\.csv or \.jsonl"):
    read_manifest(write(tmp_path / "m.xlsx", ""))


def test_studies_sort_as_numbers_dates_and_names(tmp_path):
  studies = ["visit 10", "-3", "visit 2", "2019-11-02", "12.5", "2019-02-11"]
  text = "image,patient_id,findings,day,visit\n" + "".join(
      f"{i}.png,p,Mass,{'' if s[0] == 'v' else s},{s if s[0] == 'v' else ''}\n"
      for i, s in enumerate(studies))
  rows, problems = read_manifest(write(tmp_path / "m.csv", text), {"study": "day,visit"})
  assert not problems
  in_order = [studies[int(row.image[0])] for row in sorted(rows, key=lambda row: row.study)]
  assert in_order == ["-3", "12.5", "2019-02-11", "2019-11-02", "visit 2", "visit 10"]


def test_patients_are_disjoint_and_splits_do_not_depend_on_order():
  patients = [f"p{i}" for i in range(200)]
  drawn = assign_patients(patients, val_share=0.1, test_share=0.2, seed=3)
  assert drawn == assign_patients(patients[::-1], val_share=0.1, test_share=0.2, seed=3)
  assert drawn != assign_patients(patients, val_share=0.1, test_share=0.2, seed=4)
  assert sorted(map(list(drawn.values()).count, ("train", "validation", "test"))) == [20, 40, 140]
  more = assign_patients([*patients, "new"], val_share=0.1, test_share=0.2, seed=3)
  assert sum(drawn[patient] != more[patient] for patient in patients) <= 2
  tiny = assign_patients(["a", "b"], val_share=0.1, test_share=0.1, seed=0)
  assert sorted(tiny.values()) == ["test", "train"]
  with pytest.raises(ValueError, match="val_share"):
    assign_patients(patients, val_share=0.6, test_share=0.4, seed=0)


def test_patient_in_two_given_splits_is_quarantined(tmp_path):
  text = "image,patient_id,findings,split\n" + "".join(
      f"{i}.png,{patient},Mass,{split}\n" for i, (patient, split) in enumerate([
          ("a", "train"), ("a", ""), ("b", "train"), ("b", "test"), ("c", "val"), ("d", "")]))
  rows, _ = read_manifest(write(tmp_path / "m.csv", text))
  splits, problems = split_rows(rows, val_share=0, test_share=0, seed=0)
  assert {split: [row.number for row in part] for split, part in splits.items()} == {
      "train": [2, 3, 7], "validation": [6], "test": []}
  assert kinds(problems) == {4: "patient in two splits", 5: "patient in two splits"}
  assert "train: rows 4; test: rows 5" in problems[0].reason
