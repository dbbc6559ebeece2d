"""Damaged tables: nothing is invented, nothing is quoted, and what can be read is."""

import pytest

from cdjax.data.manifest import read_manifest
from cdjax.data.report_records import read_reports
from cdjax.data.tables import ManifestError, read_csv, read_jsonl, shown_columns


def table(tmp_path, text):
  path = tmp_path / "t.csv"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  header, raw, problems = read_csv(path)
  return [values[header[0]] for _, values in raw], problems


@pytest.mark.parametrize("body, ids, damaged", [
    # A quote inside a text on one line: the next row is whole.
    ('1,"said "fine" today"\n2,ok\n3,"a, b"\n', ["2", "3"], 1),
    ('1,"said "fine" today"\n2,ok\n', ["2"], 1),
    # The text goes on for two lines, each of which looks like a row.
    ('1,"5" nodule\nHeart fine, ok\nLungs, clear"\n2,"x"\n', ["2"], 1),
    ('1,"Heart fine\nLungs, clear\nsaid "fine" then\nEnd, x"\n2,"x"\n3,y\n', ["2", "3"], 1),
    # Nothing closes it: the rows behind it are whole where a quote shows it, else nobody knows.
    ('1,"open\n2,"x"\n3,y\n', ["2", "3"], 1),
    ('1,"Heart fine\nLungs, clear\n', [], 1),
    ('1,a\n2,"x" y\n3,b\n4,"z" w\n5,c\n', ["1", "3", "5"], 2),
    ('1,"two\nlines, here"\n2,b\n', ["1", "2"], 0)])
def test_after_a_damaged_row_nothing_is_read_from_its_middle(tmp_path, body, ids, damaged):
  got, problems = table(tmp_path, "id,report\n" + body)
  assert got == ids and len(problems) == damaged
  assert all(problem.kind == "unreadable row" for problem in problems)


def test_what_is_left_out_behind_an_open_quote_is_said(tmp_path):
  got, problems = table(tmp_path, 'id,report\n1,a\n2,"open\n' + "3,b\n" * 7)
  assert got == ["1"] and problems[0].reason.endswith("lines 3 to 10 are left out")


@pytest.mark.parametrize("text, says", [
    ('id,"report\n1,x\n', "no header: bad CSV"), ('"id" x,report\n', "no header: bad CSV"),
    ("id;report\n1;x\n", "separated by semicolons; expected commas"),
    ("id\treport\n1\tx\n", "separated by tabs; expected commas"),
    ("id,report\n1,x\n".encode("utf-16"), "UTF-16 or no text; save it as UTF-8"),
    ("id,report\n1,x\n".encode("utf-16-le"), "UTF-16 or no text; save it as UTF-8"),
    ("a,b,a\n", "occurs twice; the columns are a, b, a")])
def test_a_table_of_another_kind_says_which(tmp_path, text, says):
  with pytest.raises(ManifestError, match=says):
    table(tmp_path, text)


def test_cells_are_not_taken_for_column_names_in_a_message():
  for names in (["1", "Left effusion in Mr Secret"], ["id", "Mass. Secret, aged 7."], ["x" * 41],
                ["a1", "No mass in the Secret lung"]):
    assert "Secret" not in shown_columns(names) and "not shown" in shown_columns(names)
  usual = ["Image Index", "Finding Labels", "OriginalImage[Width", "patient_id", "dicom-id",
           "Größe"]
  assert shown_columns(usual) == ", ".join(usual)


def test_a_number_without_end_is_a_bad_line(tmp_path):
  path = tmp_path / "t.jsonl"
  lines = ['{"id": 1}', '{"id": ' + "7" * 5000 + "}", "[" * 100_000, '{"id": 2}']
  path.write_text("\n".join(lines))
  _, raw, problems = read_jsonl(path)
  assert [values["id"] for _, values in raw] == [1, 2]
  assert [problem.row for problem in problems] == [2, 3]


@pytest.mark.parametrize("read", [read_reports, read_manifest])
def test_a_table_without_a_header_keeps_its_text_to_itself(tmp_path, read):
  path = tmp_path / "t.csv"
  path.write_text('1,"Left effusion in Mr Secret, aged 70."\n2,No mass.\n')
  with pytest.raises(ManifestError, match="its columns are 2, not shown") as error:
    read(path)
  assert "Secret" not in str(error.value)
