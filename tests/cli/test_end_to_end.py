"""The whole way through the command line, tiny: files, metadata, keys, errors, going on."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cdjax.cli import main
from cdjax.findings import parse_findings
from cdjax.findings.extract import extract_findings

# One key of every group of METRICS that a quickstart measures.
KEYS = (
    "autoencoder/psnr", "autoencoder/ssim", "baseline/pca256/psnr", "swap/psnr",
    "healthy/left_inside", "healthy/judged", "counterfactual/gain_inside",
    "counterfactual/rmse_outside", "counterfactual/psnr", "counterfactual/ssim",
    "counterfactual/finding", "counterfactual/side", "counterfactual/zone",
    "counterfactual/factual_left", "counterfactual/unasked", "diversity/ratio", "sharpness/inside",
    "severity/psnr", "severity/spearman", "severity/mae", "multi/finding",
    "leakage/findings_from_identity", "leakage/from_means", "leakage/from_slots",
    "leakage/from_acquisition", "leakage/patient_from_pathology", "composition/l1",
    "composition/l1_10", "composition/l1_no_residual", "reversibility/l1", "seconds/total",
    "seconds/autoencoder", "baseline/copy/psnr", "ceiling/nuisance/psnr", "ceiling/judge/finding",
    "ceiling/autoencoder/psnr", "baseline/swap_nearest/psnr", "single_study/gain_inside",
    "unseen/finding", "interactions/probe/pathology/nodule", "interactions/nats/acquisition")


def write_image(path, seed=0, size=(40, 48)):
  rng = np.random.default_rng(seed)
  Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(path)


def ask(workdir, *words):
  return main.main(["counterfactual", "--workdir", str(workdir), *map(str, words)])


def test_quickstart_writes_metrics_sheet_and_report(tiny_workdir):
  metrics = json.loads((tiny_workdir / "metrics.json").read_text())
  assert not [key for key in KEYS if key not in metrics]
  sheet = Image.open(tiny_workdir / "contact_sheet.png")
  assert json.loads(sheet.text["cdjax"])["synthetic"] is True
  page = (tiny_workdir / "report.html").read_text()
  assert "data:image/png;base64," in page and "counterfactual/finding" in page
  assert "http" not in page   # nothing is fetched from anywhere
  for stage in ("autoencoder", "diffusion", "classifier", "judge"):
    assert json.loads((tiny_workdir / stage / "done.json").read_text())["steps"] == 6
    assert (tiny_workdir / stage / "config.json").exists()


def test_quickstart_leaves_radiographs_to_ask_about(tiny_workdir, tmp_path, capsys):
  folder = tiny_workdir / "examples"
  rows = list(csv.DictReader((folder / "list.csv").open()))
  names = [row["image"] for row in rows]
  assert names[0] == "healthy-1.png" and len(names) > 2   # those that so few held-out studies have
  assert len({row["patient_id"] for row in rows}) == len(rows)
  for row in rows:
    stem = row["image"].removesuffix(".png")
    stated = [f for f in extract_findings((folder / f"{stem}.txt").read_text())
              if f.status == "present"]
    assert [f.name for f in stated] == [f.name for f in parse_findings(row["findings"])]
    assert stem in ("healthy-1", "healthy-2", *(f.name for f in stated))
    assert json.loads(Image.open(folder / row["image"]).text["cdjax"])["synthetic"] is True
  assert ask(tiny_workdir, "--image", folder, "--manifest", folder / "list.csv", "--report",
             folder / names[-1].replace(".png", ".txt"), "--output", tmp_path) == 0
  assert capsys.readouterr().out.count("(from the manifest)") == len(rows)


def test_quickstart_again_changes_nothing(tiny_workdir):
  before = {p: p.stat().st_mtime_ns for p in tiny_workdir.rglob("checkpoints/*/state/*")}
  assert before
  metrics = json.loads((tiny_workdir / "metrics.json").read_text())
  assert main.main(["quickstart", "--workdir", str(tiny_workdir), "--config",
                    "configs/quickstart.py:tiny"]) == 0
  assert {p: p.stat().st_mtime_ns for p in tiny_workdir.rglob("checkpoints/*/state/*")} == before
  again = json.loads((tiny_workdir / "metrics.json").read_text())
  same = lambda m: {k: v for k, v in m.items() if not k.startswith("seconds/")}
  assert same(again) == same(metrics)


def test_counterfactual_writes_images_with_a_synthetic_mark(tiny_workdir, tmp_path, capsys):
  write_image(tmp_path / "a.png")
  (tmp_path / "folder").mkdir()
  write_image(tmp_path / "folder" / "a.png", seed=1)
  (tmp_path / "folder" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
  output = tmp_path / "out"
  code = ask(tiny_workdir, "--image", tmp_path / "a.png", "--image", tmp_path / "folder",
             "--factual", "large left pleural effusion", "--add", "mild right upper nodule",
             "--num", 2, "--output", output, "--seed", 3)
  said = capsys.readouterr()
  assert code == 0
  assert "broken.png: left out" in said.err
  assert "shows large left pleural effusion (from --factual)" in said.out
  names = sorted(p.name for p in output.iterdir())
  assert names == sorted(
      ["contact_sheet.png", "answers.jsonl"] + [
          f"{stem}.{kind}-{n}.png" for stem in ("a", "a-2") for n in (0, 1)
          for kind in ("counterfactual", "difference")])
  image = Image.open(output / "a.counterfactual-1.png")
  mark = json.loads(image.text["cdjax"])
  assert "Synthetic" in image.text["Comment"] and mark["synthetic"] is True
  assert mark["seed"] == 3 and "nodule" in mark["asked"] and "effusion" in mark["asked"]
  assert image.size == (32, 32)
  lines = [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]
  assert len(lines) == 4 and all(line["synthetic"] for line in lines)
  assert not (np.asarray(Image.open(output / "a.counterfactual-0.png"))
              == np.asarray(image)).all()   # the answers differ


def test_the_same_seed_gives_the_same_answer(tiny_workdir, tmp_path):
  write_image(tmp_path / "a.png")
  pictures = []
  for name in ("one", "two"):
    assert ask(tiny_workdir, "--image", tmp_path / "a.png", "--factual", "healthy", "--findings",
               "left upper consolidation", "--output", tmp_path / name) == 0
    pictures.append((tmp_path / name / "a.counterfactual-0.png").read_bytes())
  assert pictures[0] == pictures[1]


def test_a_report_is_a_question(tiny_workdir, tmp_path, capsys):
  write_image(tmp_path / "a.png")
  report = tmp_path / "report.txt"
  report.write_text("INDICATION: Nodule.\nFINDINGS: A large effusion layers on the left. Scoliosis"
                    ".\nPossible consolidation. No pneumothorax.\n")
  assert ask(tiny_workdir, "--image", tmp_path / "a.png", "--factual", "healthy",
             "--report", report, "--output", tmp_path / "out") == 0
  said = capsys.readouterr()
  assert "asked large left pleural effusion\n" in said.out
  assert "report.txt: left out, since this run does not know it: scoliosis" in said.err
  assert "layers" not in said.out + said.err + (tmp_path / "out" / "answers.jsonl").read_text()
  report.write_bytes(b"\xff\xfe\x00")
  assert ask(tiny_workdir, "--image", tmp_path / "a.png", "--report", report) == 1
  assert "report.txt: not UTF-8 text (byte 0)" in capsys.readouterr().err


def test_factual_findings_come_from_the_manifest_else_the_classifier(
    tiny_workdir, tmp_path, capsys):
  write_image(tmp_path / "a.png")
  write_image(tmp_path / "b.png", seed=1)
  (tmp_path / "list.csv").write_text(
      "image,patient_id,findings\na.png,p1,moderate left lower consolidation\n")
  assert ask(tiny_workdir, "--image", tmp_path, "--manifest", tmp_path / "list.csv", "--healthy",
             "--output", tmp_path / "out") == 0
  said = capsys.readouterr().out
  assert "a.png: shows moderate left lower consolidation (from the manifest)" in said
  assert "b.png: shows" in said and "(from the classifier)" in said


def test_a_manifest_may_lie_apart_from_its_images(tiny_workdir, tmp_path, capsys):
  (tmp_path / "images").mkdir()
  write_image(tmp_path / "images" / "a.png")
  (tmp_path / "list.csv").write_text(
      "image,patient_id,findings\na.png,p1,moderate left lower consolidation\nb.png,,Mass\n")
  given = ("--image", tmp_path / "images" / "a.png", "--manifest", tmp_path / "list.csv",
           "--healthy", "--output", tmp_path / "out")
  assert ask(tiny_workdir, *given, "--manifest-images", tmp_path / "images") == 0
  said = capsys.readouterr()
  assert "a.png: shows moderate left lower consolidation (from the manifest)" in said.out
  assert "row 3: patient_id is empty" in said.err and "none of the images" not in said.err
  assert ask(tiny_workdir, *given) == 0   # looked up beside the manifest, where it is not
  said = capsys.readouterr()
  assert "(from the classifier)" in said.out and "says of none of the images" in said.err
  assert "--manifest-images" in said.err


@pytest.mark.parametrize("words, expected", [
    (["--findings", "left sided blobbiness"], "blobbiness"),
    (["--findings", "left scarring of kidney"], "kidney"),
    (["--factual", "healthy", "--remove", "nodule"], "not among the findings"),
    (["--factual", "healthy", "--add", "pneumonia"], "pneumonia"),   # known, but not to this model
    (["--healthy", "--num", "0"], "--num 0"),
    (["--healthy", "--manifest-images", "images"], "is for --manifest"),
])
def test_a_wrong_question_is_one_clear_line(tiny_workdir, tmp_path, capsys, words, expected):
  write_image(tmp_path / "a.png")
  assert ask(tiny_workdir, "--image", tmp_path / "a.png", *words) == 1
  said = capsys.readouterr().err.strip().splitlines()
  assert said[-1].startswith("cdjax: error: ") and expected in said[-1]


def test_images_that_are_not_there_or_not_readable(tiny_workdir, tmp_path, capsys):
  assert ask(tiny_workdir, "--image", tmp_path / "none.png", "--healthy") == 1
  assert "none.png: no such file" in capsys.readouterr().err
  (tmp_path / "empty").mkdir()
  assert ask(tiny_workdir, "--image", tmp_path / "empty", "--healthy") == 1
  assert "has no file ending in" in capsys.readouterr().err
  (tmp_path / "bad.png").write_bytes(b"")
  assert ask(tiny_workdir, "--image", tmp_path / "bad.png", "--healthy") == 1
  assert "none of the images can be read" in capsys.readouterr().err


def test_an_untrained_workdir_says_what_to_do(tmp_path, capsys):
  write_image(tmp_path / "a.png")
  assert ask(tmp_path, "--image", tmp_path / "a.png", "--healthy") == 1
  assert "cdjax train" in capsys.readouterr().err


def test_evaluate_refuses_the_training_seed_and_other_keys(tiny_workdir, capsys):
  evaluate = lambda *words: main.main(["evaluate", "--workdir", str(tiny_workdir), *words])
  assert evaluate("--seed", "17") == 1
  assert "drew the training data" in capsys.readouterr().err
  assert evaluate("--seed", "2", "--config.seed=3") == 1
  assert "only config.counterfactual" in capsys.readouterr().err


def test_report_shows_an_evaluated_run_and_says_when_there_is_none(
    tiny_workdir, tmp_path, capsys):
  report = lambda *words: main.main(["report", "--workdir", str(tiny_workdir), *words])
  assert report("--seed", "1", "--output", str(tmp_path)) == 0
  assert {p.name for p in tmp_path.iterdir()} == {
      "report.html", "contact_sheet.png", "effects.png", "metrics.json", "metrics.md"}
  assert Image.open(tmp_path / "effects.png").text["Comment"].startswith("Synthetic")
  value = json.loads((tmp_path / "metrics.json").read_text())["autoencoder/psnr"]["value"]
  assert f"| `autoencoder/psnr` | {value:.3g} |" in (tmp_path / "metrics.md").read_text()
  assert report("--seed", "5") == 1
  assert "metrics-seed5.json is not there; first run: cdjax evaluate" in capsys.readouterr().err


def test_a_changed_configuration_does_not_go_on(tiny_workdir, capsys):
  assert main.main(["train", "--workdir", str(tiny_workdir), "--config",
                    "configs/quickstart.py:tiny", "--stages", "autoencoder",
                    "--config.autoencoder.learning_rate=0.5"]) == 1
  assert "learning_rate" in capsys.readouterr().err


def test_an_unknown_stage_lists_the_stages(tmp_path, capsys):
  assert main.main(["train", "--workdir", str(tmp_path), "--config", "configs/quickstart.py:tiny",
                    "--stages", "autoencodr"]) == 1
  assert "autoencoder" in capsys.readouterr().err
