"""Reports in, findings out: what is read, what is quarantined, what is kept over a stop."""

import json

import pytest

from cdjax.data.extraction import extract_to_file
from cdjax.data.findings_file import common_reports, read_findings_file
from cdjax.data.report_records import MAX_CHARACTERS, Report, read_reports
from cdjax.data.tables import ManifestError
from cdjax.findings import Finding
from cdjax.findings.extract import Backend, extract_findings

SECRET = "Ottilie"  # Stands for everything that must not leave a report.
REPORTS = [Report("a", "Left effusion."), Report("b", "No mass."), Report("c", "Emphysema.")]


def _backend(seen, fingerprint="1", stop_at=None):
  """The rules, telling what they read; interrupted where `stop_at` is read."""
  def read(texts):
    for text in texts:
      if text == stop_at:
        raise KeyboardInterrupt
      seen.append(text)
      yield extract_findings(text)
  return Backend("rules", fingerprint, read)


def test_tables_and_folders_give_the_same_reports(tmp_path):
  (tmp_path / "r.csv").write_text('study,text\na,"Mass, left"\nb,No mass\n')
  (tmp_path / "r.jsonl").write_text('{"id": "a", "report": "Mass, left"}\n\n'
                                    '{"id": "b", "report": "No mass"}\n')
  (tmp_path / "r").mkdir()
  (tmp_path / "r/a.txt").write_text("Mass, left")
  (tmp_path / "r/b.txt").write_text("No mass")
  read = lambda name, **columns: [(r.id, r.text) for r in read_reports(tmp_path / name, columns)[0]]
  wanted = [("a", "Mass, left"), ("b", "No mass")]
  assert read("r.csv", id="study", report="text") == read("r.jsonl") == read("r") == wanted


def test_bad_records_are_quarantined_without_their_text(tmp_path):
  lines = [{"id": "a", "report": f"{SECRET}: mass"}, {"id": "a", "report": SECRET},
           {"id": "", "report": SECRET}, {"id": "d", "report": " "}, {"id": "e"},
           {"id": "f", "report": [SECRET]}, {"id": "g", "report": SECRET * MAX_CHARACTERS}]
  path = tmp_path / "r.jsonl"
  path.write_text("\n".join(map(json.dumps, lines)) + f"\n{{{SECRET}\n")
  reports, problems = read_reports(path)
  assert [r.id for r in reports] == ["a"]
  assert sorted((p.row, p.kind) for p in problems) == [
    (2, "duplicate id"), (3, "missing value"), (4, "missing value"), (5, "missing column"),
    (6, "unreadable row"), (7, "too long"), (8, "unreadable row")]
  assert not any(SECRET in str(p) for p in problems)


def test_bad_files_are_quarantined(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00mass")
  (tmp_path / "b.xml").write_text(f"<a>{SECRET}</b>")
  (tmp_path / "c.xml").write_text(f'<!DOCTYPE a [<!ENTITY x "{SECRET}">]><a>&x;</a>')
  (tmp_path / "d.txt").write_text("Mass")
  reports, problems = read_reports(tmp_path)
  assert [r.id for r in reports] == ["d"]
  assert [(p.image, p.kind) for p in problems] == [
    (name, "unreadable file") for name in ("a.txt", "b.xml", "c.xml")]
  assert not any(SECRET in p.reason for p in problems)


@pytest.mark.parametrize(("name", "content", "says"), [
  ("none.csv", None, "does not exist"),
  ("a.pdf", "x", "is no report file"),
  ("a.csv", "id,text\n1,x\n", "no column 'report'; its columns are id, text"),
  ("folder", None, r"no \.txt and no \.xml"),
])
def test_what_cannot_be_read_at_all_is_an_error(tmp_path, name, content, says):
  (tmp_path / "folder").mkdir()
  if content:
    (tmp_path / name).write_text(content)
  with pytest.raises(ManifestError, match=says):
    read_reports(tmp_path / name)


def test_records_have_the_promised_form(tmp_path):
  output = tmp_path / "f.jsonl"
  extract_to_file([Report("x", "Small left effusion. 8 mm nodule.")], output, _backend([]))
  (line,) = output.read_text().splitlines()
  record = json.loads(line)
  assert record["id"] == "x" and list(record)[:2] == ["id", "findings"]
  effusion, nodule = record["findings"]
  assert effusion == {"name": "pleural_effusion", "status": "present", "severity": 0.35,
                      "laterality": "left", "zones": [], "change": None, "evidence": [0, 19]}
  assert nodule["size_mm"] == 8
  assert read_findings_file(output)["x"][0] == Finding("pleural_effusion", severity=0.35,
                                                       laterality="left")


def test_a_stopped_run_goes_on_and_reads_nothing_twice(tmp_path):
  output, seen = tmp_path / "f.jsonl", []
  with pytest.raises(KeyboardInterrupt):
    extract_to_file(REPORTS, output, _backend(seen, stop_at="Emphysema."))
  assert not output.exists() and seen == ["Left effusion.", "No mass."]
  # The machine went down in the middle of a line.
  unfinished = tmp_path / ".f.jsonl.unfinished"
  unfinished.write_text(unfinished.read_text() + '{"id": "c", "find')
  summary = extract_to_file(REPORTS, output, _backend(seen))
  assert seen == ["Left effusion.", "No mass.", "Emphysema."]
  assert (summary.written, summary.reused) == (3, 2)
  assert list(read_findings_file(output)) == ["a", "b", "c"]
  assert [path.name for path in tmp_path.iterdir()] == ["f.jsonl"]


def test_only_what_changed_is_read_again(tmp_path):
  output = tmp_path / "f.jsonl"
  extract_to_file(REPORTS, output, _backend([]))
  changed, seen = [REPORTS[2], Report("a", "Right effusion."), Report("d", "No mass.")], []
  summary = extract_to_file(changed, output, _backend(seen))
  assert seen == ["Right effusion."] and summary.reused == 2
  found = read_findings_file(output)
  assert list(found) == ["c", "a", "d"] and found["a"][0].laterality == "right"
  seen.clear()
  extract_to_file(changed, output, _backend(seen, fingerprint="2"))
  assert len(seen) == 3


def test_findings_without_evidence_in_the_report_are_dropped_and_counted(tmp_path):
  lists = [[Finding("mass", evidence=(0, 4)), Finding("nodule", evidence=(2, 99)),
            Finding("fracture")], ValueError("too long for the model")]
  backend = Backend("x", "1", lambda texts: (found for _, found in zip(texts, lists, strict=True)))
  summary = extract_to_file([Report("a", "Mass", 4), Report("b", "text", 7)],
                            tmp_path / "f.jsonl", backend)
  assert summary.dropped == 2 and summary.written == 1
  assert [(p.row, p.image, p.kind) for p in summary.problems] == [(7, "b", "not extracted")]
  assert read_findings_file(tmp_path / "f.jsonl") == {"a": [Finding("mass")]}


def test_another_file_is_not_overwritten(tmp_path):
  path = tmp_path / "notes.jsonl"
  path.write_text('{"note": 1}\n')
  with pytest.raises(ValueError, match=r"line 1: not written by `cdjax extract`"):
    extract_to_file(REPORTS, path, _backend([]))
  assert path.read_text() == '{"note": 1}\n'
  with pytest.raises(ValueError, match=r"\.jsonl"):
    extract_to_file(REPORTS, tmp_path / "f.csv", _backend([]))


@pytest.mark.parametrize(("line", "says"), [
  ("{", "line 2: not JSON"),
  ("[]", "line 2: list; expected an object"),
  ('{"findings": []}', "line 2: key 'id' is NoneType"),
  ('{"id": "b", "findings": {}}', "line 2: key 'findings' is dict"),
  ('{"id": "b", "findings": ["mass"]}', r"findings\[0\] is str"),
  ('{"id": "b", "findings": [{"name": "lump"}]}', r"findings\[0\].*'lump' is not canonical"),
  ('{"id": "b", "findings": [{"name": "mass", "colour": 1}]}', "colour"),
  ('{"id": "b", "findings": [{"name": "mass", "severity": "big"}]}', r"findings\[0\]"),
  ('{"id": "a", "findings": []}', "id 'a' occurs a second time"),
])
def test_a_bad_findings_file_names_the_line_and_the_key(tmp_path, line, says):
  path = tmp_path / "f.jsonl"
  path.write_text('{"id": "a", "findings": [{"name": "mass"}]}\n' + line + "\n")
  with pytest.raises(ValueError, match=rf"f\.jsonl, .*{says}"):
    read_findings_file(path)


def test_lists_of_other_reports_are_refused():
  assert common_reports({"a": []}, {"a": [], "b": []}, names=("x", "y")) == {"a"}
  with pytest.raises(ValueError, match="no report is in both files: 0 in x; 1 in y, "):
    common_reports({}, {"a": []}, names=("x", "y"))


def test_equal_reports_are_read_once(tmp_path):
  seen = []
  same = [Report(name, "Left effusion.") for name in "abc"]
  summary = extract_to_file([*same, Report("d", "No mass.")], tmp_path / "f.jsonl", _backend(seen))
  assert seen == ["Left effusion.", "No mass."] and summary.written == 4
  found = read_findings_file(tmp_path / "f.jsonl")
  assert list(found) == ["a", "b", "c", "d"] and found["a"] == found["c"] != []
  failing = Backend("x", "1", lambda texts: (ValueError("no") for _ in texts))
  summary = extract_to_file(same, tmp_path / "g.jsonl", failing)
  assert [problem.image for problem in summary.problems] == ["a", "b", "c"]


def test_where_nothing_can_be_read_the_earlier_file_stays(tmp_path):
  output = tmp_path / "f.jsonl"
  extract_to_file(REPORTS, output, _backend([]))
  before = output.read_text()
  failing = Backend("x", "1", lambda texts: (ValueError("no") for _ in texts))
  assert extract_to_file(REPORTS, output, failing).written == 0
  assert output.read_text() == before and [p.name for p in tmp_path.iterdir()] == ["f.jsonl"]
  extract_to_file(REPORTS, tmp_path / "g.jsonl", failing)
  assert not (tmp_path / "g.jsonl").exists()
