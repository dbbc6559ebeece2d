"""Published data sets in their official layout: what the tables say comes out, faults are named."""

import gzip
import shutil
import zipfile

import numpy as np
import pytest
from published_fixture import MAKERS

from cdjax.cli.main import main
from cdjax.data.image_io import read_radiograph
from cdjax.data.prepare import prepare_published
from cdjax.data.published import DATASETS, collect, manual_download
from cdjax.data.source import open_split
from cdjax.data.staging import read_info
from cdjax.data.tables import ManifestError
from cdjax.findings import canonical_name

REPORTS = "mimic-cxr-reports.zip"


@pytest.fixture(params=sorted(DATASETS))
def published(request, tmp_path):
  """A data set's name and the folder it lies in."""
  root = tmp_path / "published"
  root.mkdir()
  MAKERS[request.param](root)
  return request.param, root


def made(name, tmp_path):
  root = tmp_path / "published"
  root.mkdir()
  MAKERS[name](root)
  return root


def rows(name, root, **kwargs):
  found = collect(name, root, **kwargs)
  return {row.image.split("/")[-1].split(".")[0]: row for row in found.rows}, found


def said(row, status="present"):
  """Names of a row's findings; None where nobody labelled it."""
  if row.findings is None:
    return None
  return {finding.name for finding in row.findings if finding.status == status}


def names(*spellings):
  return {canonical_name(spelling) for spelling in spellings}


def test_every_data_set_goes_all_the_way(published, tmp_path):
  name, root = published
  info, problems, unchanged, notes = prepare_published(
      name, root, tmp_path / "data", resolution=16, val_share=0.25, test_share=0.25)
  assert not unchanged and info == read_info(tmp_path / "data")
  _, found = rows(name, root)
  written = {}
  for split in info["splits"]:
    part = open_split(tmp_path / "data", split)
    written |= {record["image_id"]: (split, record["patient_id"]) for record in part}
  assert set(written) == {row.image_id for row in found.rows}
  for row in found.rows:
    assert row.split is None or written[row.image_id][0] == row.split
  for split in found.published_splits - {"train"}:   # nobody else was drawn into it
    assert {image for image, (where, _) in written.items() if where == split} == {
        row.image_id for row in found.rows if row.split == split}
  assert {p.image for p in problems} == {p.image for p in found.problems}
  assert any(f"published with {DATASETS[name].images}" in note for note in notes)
  again = prepare_published(name, root, tmp_path / "data", resolution=16, val_share=0.25,
                            test_share=0.25)
  assert again[2] and again[0]["fingerprint"] == info["fingerprint"]


def test_a_missing_table_says_where_to_get_it(published, tmp_path):
  name, root = published
  tables = {"openi": ["ecgen-radiology"]}.get(name) or sorted(
      str(path.relative_to(root)) for path in root.rglob("*") if path.name.endswith(
          (".csv", ".csv.gz", ".txt", "impression_fixed.json")))
  wanted = {"mimic-cxr": 3, "cxr-lt": 2, "chexpert": 2, "chexpert-plus": 2, "nih": 3,
            "padchest": 1, "vindr-cxr": 2, "openi": 1}[name]
  refused = 0
  for table in tables:
    shutil.move(root / table, tmp_path / "away")
    try:
      collect(name, root)
    except ManifestError as error:
      refused += 1
      assert table.split("/")[-1].split(".csv")[0] in str(error)
      assert "https://" in str(error) and str(root) in str(error)
    shutil.move(tmp_path / "away", root / table)
  assert refused == wanted
  assert "https://" in manual_download(name)


def test_a_wrong_column_is_named(published):
  name, root = published
  if name == "openi":
    (root / "indiana_projections.csv").write_text("uid,file,projection\n")
    file, column = "indiana_projections.csv", "filename"
  else:
    file, column = {
        "mimic-cxr": ("mimic-cxr-2.0.0-metadata.csv.gz", "ViewPosition"),
        "cxr-lt": ("cxr-lt-2024/labels.csv", "Pneumoperitoneum"),
        "chexpert": ("valid.csv", "Frontal/Lateral"),
        "chexpert-plus": ("df_chexpert_plus_240401.csv", "deid_patient_id"),
        "nih": ("Data_Entry_2017_v2020.csv", "Finding Labels"),
        "padchest": ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "Projection"),
        "vindr-cxr": ("annotations/image_labels_test.csv", "Nodule/Mass")}[name]
    opener = gzip.open if file.endswith(".gz") else open
    with opener(root / file, "rt") as table:
      text = table.read()
    with opener(root / file, "wt") as table:
      table.write(text.replace(column, "Wibble", 1))
  with pytest.raises(ManifestError, match=f"no column .*{column}.*its columns are"):
    collect(name, root)


def test_missing_and_corrupt_images_are_quarantined(published, tmp_path, capsys):
  name, root = published
  _, found = rows(name, root)
  gone, cut = (root / row.image for row in found.rows[:2])
  gone.unlink()
  cut.write_bytes(cut.read_bytes()[:150])
  code = main(["prepare", "--dataset", name, "--images", str(root), "--output",
               str(tmp_path / "data"), "--resolution", "16", "--workers", "0"])
  out = capsys.readouterr().out
  assert code == 0, out
  # NIH's tables do not say in which of its archives an image is.
  lost = f"images/{gone.name}" if name == "nih" else str(gone.relative_to(root))
  assert f"1  missing file: {lost}" in out
  assert f"1  unreadable image: {cut.relative_to(root)}" in out
  assert f"{len(found.rows) - 2} images went through" in out
  assert "images / patients" in out and "note: " in out
  quarantine = (tmp_path / "data" / "quarantine.csv").read_text()
  assert lost in quarantine and str(cut.relative_to(root)) in quarantine


def test_mimic_cxr(tmp_path):
  root = made("mimic-cxr", tmp_path)
  by, found = rows("mimic-cxr", root, reports=root / REPORTS)
  assert set(by) == {"d0", "d2", "d3", "d4"}
  assert any(note.startswith("1 images are not frontal") for note in found.notes)
  assert any(note.startswith("1 images do not say their view") for note in found.notes)
  assert any(note.startswith("1 images have no report") for note in found.notes)
  assert set(rows("mimic-cxr", root, views="all")[0]) == {f"d{i}" for i in range(6)}
  assert said(by["d0"]) == set() and "support_devices" not in said(by["d0"], "absent")
  assert names("edema", "fracture") <= said(by["d0"], "absent")
  assert said(by["d2"]) == names("Pleural Effusion")
  assert said(by["d2"], "uncertain") == names("Edema")
  assert said(by["d2"], "absent") == names("Pneumonia")
  assert said(by["d4"]) is None
  assert [by[image].split for image in ("d0", "d3", "d4")] == ["train", "validation", "test"]
  assert by["d3"].view == "PA" and by["d0"].view == "PA"
  assert by["d2"].study < by["d0"].study and by["d0"].patient_id == "10000032"
  assert by["d0"].report == "FINAL REPORT of s50414267" and by["d4"].report == ""
  assert said(rows("mimic-cxr", root, labels="negbio")[0]["d2"]) is None
  with pytest.raises(ValueError, match="chexpert, negbio"):
    collect("mimic-cxr", root, labels="gold")
  with pytest.raises(ValueError, match="no archive of reports"):
    collect("nih", root, reports=root / REPORTS)


def test_reports_come_from_the_zip_only(tmp_path):
  root = made("mimic-cxr", tmp_path)
  (root / REPORTS).unlink()
  secret = tmp_path / "secret.txt"
  secret.write_text("secret")
  with zipfile.ZipFile(root / REPORTS, "w", zipfile.ZIP_DEFLATED) as reports:
    reports.writestr("../secret.txt", "not ours")
    reports.writestr("files/p10/p10000032/s50414267.txt", "x" * (1 << 21))
  before = sorted(path.name for path in tmp_path.rglob("*"))
  by, found = rows("mimic-cxr", root, reports=root / REPORTS)
  assert sorted(path.name for path in tmp_path.rglob("*")) == before
  assert secret.read_text() == "secret"
  assert [p.kind for p in found.problems] == ["unreadable report"] and "d0" not in by
  (root / REPORTS).write_bytes(b"PK")
  with pytest.raises(ManifestError, match="not a zip file"):
    collect("mimic-cxr", root, reports=root / REPORTS)
  with pytest.raises(ManifestError, match="does not exist"):
    collect("mimic-cxr", root, reports=root / "no.zip")


def test_paths_stay_in_the_folder(tmp_path):
  root = made("mimic-cxr", tmp_path)
  table = root / "mimic-cxr-2.0.0-split.csv.gz"
  with gzip.open(table, "rt") as file:
    text = file.read()
  with gzip.open(table, "wt") as file:
    file.write(text.replace("d0,50414267,10000032", "../../../../../out,50414267,10000032")
               .replace("d1,", "/etc/passwd,"))
  _, problems, _, _ = prepare_published("mimic-cxr", root, tmp_path / "data", resolution=16,
                                        views="all")
  outside = [p.image for p in problems if p.kind == "outside the folder"]
  assert outside == ["files/p10/p10000032/s50414267/../../../../../out.jpg"]
  assert [p.kind for p in problems if "passwd" in p.image] == ["missing file"]


def test_cxr_lt(tmp_path):
  root = made("cxr-lt", tmp_path)
  by, _ = rows("cxr-lt", root, views="all")
  assert said(by["d2"]) == names("round atelectasis", "enlarged hilum")
  assert said(by["d4"]) == names("rib fracture", "fracture")
  assert said(by["d0"]) == set() and names("tuberculosis") <= said(by["d0"], "absent")
  assert [by[image].split for image in ("d0", "d3", "d4")] == ["train", "validation", "test"]
  old, _ = rows("cxr-lt", root, labels="2023")
  assert set(old) == {"d0", "d2", "d3", "d4"} and said(old["d3"]) == names("mass")
  assert old["d0"].patient_id == "10000032"


def test_chexpert(tmp_path):
  root = made("chexpert", tmp_path)
  found = collect("chexpert", root)
  by = {row.patient_id: row for row in found.rows}
  assert len(found.rows) == len(by) == 5 and found.published_splits == {"train", "validation"}
  one, two, three = (by[f"patient0000{i}"] for i in (1, 2, 3))
  assert said(one) == names("Support Devices") and names("edema") <= said(one, "absent")
  assert said(two, "uncertain") == names("Cardiomegaly")
  assert (two.sex, two.age, two.view) == ("M", 87.0, "PA")
  assert said(by["patient00004"]) is None and by["patient00004"].sex == ""
  assert by["patient64541"].split == "validation" and three.split is None
  info, *_ = prepare_published("chexpert", root, tmp_path / "data", resolution=16)
  assert {name: part["patients"] for name, part in info["splits"].items()} == {
      "train": 3, "validation": 1, "test": 1}


@pytest.mark.parametrize(("name", "table", "frontal", "lateral"), [
  ("chexpert", "train.csv", "Frontal,PA", "Frontal,LL"),
  ("chexpert-plus", "df_chexpert_plus_240401.csv", "Frontal,PA", "Frontal,RL")])
def test_frontal_by_one_column_and_lateral_by_the_other_is_left_out(
    tmp_path, name, table, frontal, lateral):
  root = made(name, tmp_path)
  before = collect(name, root).rows
  text = (root / table).read_text()
  (root / table).write_text(text.replace(frontal, lateral, 1))
  found = collect(name, root)
  assert len(found.rows) == len(before) - 1 and not found.problems
  assert any(note.startswith("1 images do not say their view") for note in found.notes)
  assert len(collect(name, root, views="all").rows) == len(before) + 1


def test_chexpert_plus(tmp_path):
  root = made("chexpert-plus", tmp_path)
  found = collect("chexpert-plus", root)
  by = {row.image: row for row in found.rows}
  first = by["PNG/train/patient00001/study1/view1_frontal.png"]
  second = by["PNG/train/patient00001/study2/view1_frontal.png"]
  assert second.study < first.study and first.patient_id == "patient00001"
  assert first.report == 'NARRATIVE:\n"no", change'
  assert said(first) == names("Edema") and said(first, "uncertain") == names("Pneumonia")
  assert said(second) == set()
  assert said(by["PNG/train/patient00005/study1/view1_frontal.png"]) is None
  labels = root / "chexbert_labels/impression_fixed.json"
  labels.write_text(labels.read_text().replace('"Edema"', '"Oedema"', 1))
  with pytest.raises(ManifestError, match="no 'Edema'"):
    collect("chexpert-plus", root)


def test_nih(tmp_path):
  root = made("nih", tmp_path)
  by, found = rows("nih", root)
  assert by["00000001_001"].image == "images_001/images/00000001_001.png"
  assert by["00000003_000"].image == "images_012/images/00000003_000.png"
  assert said(by["00000001_001"]) == names("Cardiomegaly", "Pleural Thickening")
  assert said(by["00000003_000"]) == names("hiatal hernia", "edema")
  assert by["00000001_001"].age is None and by["00000001_000"].age == 57
  assert found.published_splits == {"train", "test"}
  assert [by[image].split for image in ("00000001_000", "00000003_000")] == [None, "test"]
  (root / "train_val_list.txt").write_text("00000001_000.png\n")
  kinds = [p.kind for p in collect("nih", root).problems]
  assert kinds == ["unknown split"] * 3


@pytest.mark.parametrize("change", [
  lambda head, rows: (head, [row.removesuffix(",") for row in rows]),
  lambda head, rows: (head.removesuffix(","), rows),
  lambda head, rows: (head.removesuffix(","), [row.removesuffix(",") for row in rows]),
  lambda head, rows: (head.replace("Gender", "Sex"), rows)])
def test_nih_in_the_spellings_of_its_releases(tmp_path, change):
  """The comma at the end of the lines comes and goes, and so does a column's name."""
  root = made("nih", tmp_path)
  table = root / "Data_Entry_2017_v2020.csv"
  before = collect("nih", root).rows
  head, *rest = table.read_text().splitlines()
  head, rest = change(head, rest)
  (root / "Data_Entry_2017.csv").write_text("\n".join([head, *rest]) + "\n")
  table.unlink()
  found = collect("nih", root)
  assert not found.problems and found.rows == before


def test_padchest(tmp_path):
  root = made("padchest", tmp_path)
  by, found = rows("padchest", root)
  assert set(by) == {"a", "c", "h"}
  assert by["a"].findings == [] and said(by["h"]) is None
  assert said(by["c"]) == names("pleural effusion", "support devices")
  assert (by["c"].image, by["c"].age, by["c"].sex) == ("54/c.png", 85.0, "F")
  assert {p.image[-5:]: p.kind for p in found.problems} == {
      "d.png": "no known finding", "e.png": "excluded image", "f.png": "bad label"}
  assert not found.published_splits and set(rows("padchest", root, views="all")[0]) > {"b", "g"}


def test_padchest_turns_dark_bones_bright(tmp_path):
  root = made("padchest", tmp_path)
  prepare_published("padchest", root, tmp_path / "data", resolution=16, val_share=0, test_share=0)
  part = open_split(tmp_path / "data", "train")
  images = {record["image_id"]: record["image"].astype(int) for record in part}
  for name, folder, inverted in (("a.png", "0", False), ("c.png", "54", True)):
    image = read_radiograph(root / folder / name, resolution=16, bits=8, fit="crop").astype(int)
    assert np.array_equal(images[name], 255 - image if inverted else image)


def test_vindr(tmp_path):
  root = made("vindr-cxr", tmp_path)
  by, found = rows("vindr-cxr", root)
  assert set(by) == {"t0", "t1", "t3", "u0"}
  assert by["t0"].findings == [] and said(by["t3"]) == names("effusion")
  assert said(by["t1"]) == names("cardiomegaly")
  assert said(by["t1"], "uncertain") == names("lung lesion")
  assert [p.kind for p in found.problems] == ["no known finding"]
  assert by["u0"].split == "test" and by["t0"].split is None


def test_openi(tmp_path):
  root = made("openi", tmp_path)
  by, found = rows("openi", root)
  assert set(by) == {"CXR1_1_IM-0001-1001", *(f"CXR{i}_IM-0001-1001" for i in (2, 3, 11))}
  two = by["CXR2_IM-0001-1001"]
  effusion = next(f for f in two.findings if f.name == "pleural_effusion")
  assert (effusion.laterality, effusion.severity) == ("right", 0.35)
  assert said(two) == names("cardiomegaly", "effusion")
  granuloma, = by["CXR3_IM-0001-1001"].findings
  assert (granuloma.laterality, granuloma.zones) == ("left", ("upper",))
  assert two.report == "COMPARISON: None.\nFINDINGS: As said.\nIMPRESSION: 2."
  assert by["CXR1_1_IM-0001-1001"].findings == [] and said(by["CXR11_IM-0001-1001"]) is None
  assert [p.kind for p in found.problems] == ["no known finding"]
  (root / "indiana_projections.csv").unlink()
  with pytest.raises(ManifestError, match=r"10 do not say their view.*--views all"):
    collect("openi", root)
  (root / "ecgen-radiology/1.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
  _, found = rows("openi", root, views="all")
  assert [p.image for p in found.problems][:1] == ["1.xml"]


def test_the_command_refuses_what_does_not_go_together(tmp_path, capsys):
  def fails(*args):
    assert main(["prepare", *map(str, args)]) != 0
    return capsys.readouterr().err

  assert "--output is missing" in fails("--dataset", "nih", "--images", tmp_path)
  assert "--tables is for --dataset" in fails("--manifest", "m.csv", "--images", tmp_path,
                                              "--output", "x", "--tables", "y")
  assert "not allowed with" in fails("--manifest", "m.csv", "--dataset", "nih")
  assert "invalid choice" in fails("--dataset", "imagenet")
  error = fails("--dataset", "nih", "--images", tmp_path, "--output", tmp_path / "data")
  assert "Data_Entry_2017_v2020.csv" in error and "https://nihcc.app.box.com" in error
  assert main(["prepare", "--dataset", "padchest", "--download"]) == 0
  assert "bimcv" in capsys.readouterr().out
