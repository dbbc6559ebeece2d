"""Published data sets with damaged tables: what is damaged is named, the rest goes through."""

import gzip

import pytest
from published_fixture import MAKERS

from cdjax.data.prepare import prepare_published
from cdjax.data.published import collect
from cdjax.data.tables import ManifestError


def made(name, tmp_path):
  root = tmp_path / "published"
  root.mkdir()
  MAKERS[name](root)
  return root


def test_a_damaged_table_is_said(tmp_path):
  root = made("mimic-cxr", tmp_path)
  table = root / "mimic-cxr-2.0.0-metadata.csv.gz"
  table.write_bytes(table.read_bytes()[:-20])
  with pytest.raises(ManifestError, match="damaged"):
    collect("mimic-cxr", root)


def test_a_damaged_row_is_listed_and_hides_no_other(tmp_path):
  root = made("mimic-cxr", tmp_path)
  table = root / "mimic-cxr-2.0.0-metadata.csv.gz"
  with gzip.open(table, "rt") as file:
    lines = file.read().splitlines()
  with gzip.open(table, "wt") as file:   # row 2 of this table; row 2 of the splits is whole
    file.write("\n".join([lines[0], "cut off", *lines[1:]]))
  _, problems, _, _ = prepare_published("mimic-cxr", root, tmp_path / "data", resolution=16)
  assert [(p.row, p.kind) for p in problems] == [(2, "unreadable row")]
  assert "d0.jpg" in (tmp_path / "data" / "splits.csv").read_text()


def test_an_image_that_is_listed_twice_counts_once(tmp_path):
  root = made("nih", tmp_path)
  table = root / "Data_Entry_2017_v2020.csv"
  lines = table.read_text().splitlines()
  table.write_text("\n".join([*lines, lines[1]]) + "\n")
  found = collect("nih", root)
  assert [(p.row, p.kind) for p in found.problems] == [(7, "duplicate image id")]
  assert len(found.rows) == 5


def test_what_is_no_text_is_listed_and_stops_nothing(tmp_path):
  root = made("chexpert-plus", tmp_path)
  labels = root / "chexbert_labels/impression_fixed.json"
  labels.write_bytes(b'{"path_to_image": "\xff"}\n[1]\nnull\n{\n' + labels.read_bytes())
  found = collect("chexpert-plus", root)
  assert [(p.row, p.kind) for p in found.problems] == [(i, "unreadable row") for i in range(1, 5)]
  assert len(found.rows) == 4
  root = tmp_path / "nih"
  MAKERS["nih"](root)
  (root / "test_list.txt").write_bytes(b"\xff\xfe0\x000")
  assert [p.kind for p in collect("nih", root).problems] == ["unknown split"]


def test_where_no_row_is_whole_the_first_ones_are_named(tmp_path):
  root = made("nih", tmp_path)
  table = root / "Data_Entry_2017_v2020.csv"
  head, *rest = table.read_text().splitlines()
  table.write_text("\n".join([head, *(f"{row}x,y" for row in rest)]) + "\n")
  with pytest.raises(ManifestError, match=r"row 2: unreadable row: 13 cells.*header has 12"):
    prepare_published("nih", root, tmp_path / "data", resolution=16)
