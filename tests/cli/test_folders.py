"""`cdjax evaluate --real --synthetic` on small folders: numbers, faults, going on, shards."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from cdjax.cli import main
from cdjax.data import folder
from cdjax.data.quarantine import Unusable
from cdjax.evaluate import features, folder_comparison, folder_features, folder_utility
from cdjax.evaluate.fidelity import fidelity_metrics

SIZE = 40


def draw(seed, bright=0.0):
  """A soft square at a random place on a random slope, `[S, S]` uint8."""
  rng = np.random.default_rng(seed)
  image = np.linspace(0, 80, SIZE)[:, None] * rng.uniform(0.5, 1) + bright
  image = image + rng.uniform(0, 8, (SIZE, SIZE))
  top, left = rng.integers(4, 24, 2)
  image[top:top + 12, left:left + 12] += 100
  return np.clip(image, 0, 255).astype(np.uint8)


def write_folder(root, total, *, first=0, bright=0.0):
  root.mkdir(parents=True)
  for i in range(total):
    Image.fromarray(draw(first + i, bright)).save(root / f"{i:03}.png")
  return root


def write_manifest(path, total, *, header="image,patient_id,findings,sex,age,view", site=None):
  """Images alternate between sexes, findings and views; two images a patient."""
  values = lambda i: {
      "image": f"{i:03}.png", "patient_id": f"p{i // 2}", "sex": "FM"[i % 2], "age": 20 + i % 50,
      "findings": ("Effusion", "No Finding", "Nodule")[i % 3], "view": "PA", "site": site}
  names = header.split(",")
  lines = [",".join(str(values(i)[name]) for name in names) for i in range(total)]
  path.write_text("\n".join([header, *lines]) + "\n")
  return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  root = tmp_path_factory.mktemp("folders")
  return (write_folder(root / "real", 40),
          write_folder(root / "synthetic", 36, first=500, bright=40))


@pytest.fixture(autouse=True)
def small_pixels(monkeypatch):
  """64 features instead of 1,024: their covariances are taken apart in no time."""
  monkeypatch.setattr(features, "pixel_extractor", functools.partial(
      features.pixel_extractor, size=8))


def run(pair, output, *words):
  return main.main(["evaluate", "--real", str(pair[0]), "--synthetic", str(pair[1]), "--resolution",
                    "32", "--json", str(output), *map(str, words)])


def kept_numbers(metrics):
  return {key: value for key, value in metrics.items() if not key.startswith("seconds/")}


def test_numbers_are_those_of_the_arrays_and_names_say_how(pair, tmp_path, capsys):
  assert run(pair, tmp_path / "m.json", "--seed", 3) == 0
  said, metrics = capsys.readouterr().out, json.loads((tmp_path / "m.json").read_text())
  arrays = [np.stack([folder.read_pixels(root, p.name, resolution=32, fit="crop")
                      for p in sorted(root.iterdir())]).astype(np.float32) / 255 for root in pair]
  extractor = features.pixel_extractor()
  a, b = (features.extract(extractor, x) for x in arrays)
  expected = fidelity_metrics(a, b, extractor=extractor, seed=3)
  assert len(expected) == 7
  for key, value in expected.items():
    name, _, count, resize = key.split("/")
    got = metrics[f"{name}/pixels/{count}/crop32-{resize}"]
    assert got["n"] == 36 and got["value"] == pytest.approx(value, rel=1e-9)
  assert metrics["images"] == {"real": {"folder": 40, "used": 40},
                               "synthetic": {"folder": 36, "used": 36}}
  assert metrics["left_out"] == [
      "groups: no manifest of the real and the synthetic images",
      "privacy/*: needs real images that the generator never saw (--held-out)"]
  assert metrics["extractors"] == {"pixels": {"digest": "", "size": 8, "file": ""}}
  assert metrics["kid_subset_size"] == {"36": 18}
  assert "pixels, crop32-bilinear8" in said and "ms_ssim/synthetic/200/crop32" in said
  # Synthetic images are brighter by 40 of 255: far above what two halves differ by.
  assert run(pair, tmp_path / "m.json", "--seed", 3, "--suite", "full") == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  fid = metrics["fid/pixels/36/crop32-bilinear8"]["value"]
  assert fid > 1.3 * metrics["reference/fid/pixels/20/crop32-bilinear8"]["value"] > 0


def test_real_against_real_is_taken_at_the_number_of_the_comparison(pair, tmp_path):
  """A distance falls with N where the sets are one: at another N it would be no yardstick."""
  few = write_folder(tmp_path / "few", 12, first=800)
  assert run((pair[0], few), tmp_path / "m.json", "--suite", "full") == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  ours, yardstick = (metrics[f"{prefix}fid/pixels/12/crop32-bilinear8"]
                     for prefix in ("", "reference/"))
  assert ours["n"] == yardstick["n"] == 12
  # 40 and 12 images of one distribution are no farther apart than two halves of the 40.
  assert 0.6 < ours["value"] / yardstick["value"] < 1.6
  assert not any(key.startswith("reference/fid/pixels/20/") for key in metrics)


def test_manifests_give_groups_and_a_missing_column_is_said(pair, tmp_path, capsys):
  real = write_manifest(tmp_path / "real.csv", 40)
  synthetic = write_manifest(tmp_path / "synthetic.csv", 36,
                             header="image,patient_id,findings,sex,site", site="a")
  words = ("--real-manifest", real, "--synthetic-manifest", synthetic, "--least", 8)
  assert run(pair, tmp_path / "m.json", *words) == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  groups = {key.split("bilinear8/")[1]: entry["n"] for key, entry in metrics.items()
            if key.startswith("fid/") and "bilinear8/" in key}
  assert groups == {"finding/pleural_effusion": 12, "finding/nodule": 12, "finding/none": 12,
                    "tier/tail": 24, "sex/F": 18, "sex/M": 18}
  for text in ("age/*: the manifest of the synthetic images does not say it",
               "view/*: the manifest of the synthetic images does not say it",
               "site/*: the manifest of the real images does not say it",
               "view/PA: 40 real and 0 synthetic images, fewer than 8"):
    assert text in metrics["left_out"]
  assert "finding/pleural_effusion" in capsys.readouterr().out
  # A column without which nobody knows whose image it is.
  write_manifest(synthetic, 36, header="image,findings,sex")
  assert run(pair, tmp_path / "m.json", *words) == 1
  assert "no column 'patient_id'" in capsys.readouterr().err


def test_a_cell_that_only_groups_costs_no_image(pair, tmp_path, capsys):
  real, synthetic = (write_manifest(tmp_path / f"{name}.csv", total)
                     for name, total in (("real", 40), ("synthetic", 36)))
  lines = real.read_text().splitlines()
  for number, (old, new) in {1: (",20,", ",NA,"), 2: (",21,", ",90+,"), 3: (",22,", ",148,"),
                             4: ("Effusion", "Gremlins")}.items():
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new)
  real.write_text("\n".join(lines))
  assert run(pair, tmp_path / "m.json", "--real-manifest", real, "--synthetic-manifest", synthetic,
             "--least", 8) == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  assert metrics["images"]["real"] == {"folder": 40, "used": 40} and not metrics["unusable"]
  assert [note.split(", e.g.")[0] for note in metrics["notes"]] == [
      "age: 3 cells of the real manifest cannot be read and count as empty",
      "findings: 1 cells of the real manifest cannot be read and count as empty"]
  assert "age='NA'" in metrics["notes"][0] and "note: age: 3 cells" in capsys.readouterr().out
  assert "finding/pleural_effusion: " not in "".join(metrics["left_out"])


def test_a_broken_image_is_named_and_left_out(pair, tmp_path, capsys):
  real = write_folder(tmp_path / "real", 10)
  (real / "004.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
  (real / "notes.txt").write_text("not an image")
  assert run((real, pair[1]), tmp_path / "m.json") == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  assert [(item["set"], item["image"]) for item in metrics["unusable"]] == [("real", "004.png")]
  assert metrics["images"]["real"] == {"folder": 10, "used": 9}
  assert "fid/pixels/9/crop32-bilinear8" in metrics
  assert "not usable: real: 004.png: " in capsys.readouterr().out
  # The same images without the broken one give the same numbers.
  (real / "004.png").unlink()
  assert run((real, pair[1]), tmp_path / "n.json") == 0
  again = json.loads((tmp_path / "n.json").read_text())
  key = "kid/pixels/9/crop32-bilinear8"
  assert again[key] == metrics[key]


@pytest.mark.parametrize("what, expected", [
    ("empty", "the folder has no file ending in .png"), ("none", "is not a folder"),
    ("broken", "none of the 2 images"), ("few", "expected more than 5 each")])
def test_a_folder_that_cannot_be_measured_is_one_line(pair, tmp_path, capsys, what, expected):
  root = tmp_path / what
  if what != "none":
    write_folder(root, {"empty": 0, "broken": 2, "few": 5}[what])
  if what == "broken":
    for path in root.iterdir():
      path.write_bytes(b"")
  assert run((pair[0], root), tmp_path / "m.json") == 1
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert error.startswith("cdjax: error: ") and expected in error
  assert not (tmp_path / "m.json").exists()


def test_killed_it_goes_on_and_ends_with_the_same_numbers(pair, tmp_path, monkeypatch):
  monkeypatch.setattr(folder_features, "CHUNK", 10)
  assert run(pair, tmp_path / "whole.json") == 0
  read, seen = folder.read_pixels, []

  def failing(root, name, **how):
    seen.append(name)
    if len(seen) == 57:   # in the second chunk of the second folder
      raise KeyboardInterrupt
    return read(root, name, **how)

  monkeypatch.setattr(folder, "read_pixels", failing)
  assert run(pair, tmp_path / "killed.json") == 130
  assert not (tmp_path / "killed.json").exists()
  seen[:] = ["started again"] * 100
  assert run(pair, tmp_path / "killed.json") == 0
  # 40 real images and the first ten synthetic ones were kept; diversity reads pairs of both.
  assert len(seen) - 100 == 26 + 2 * 200 * 2
  whole, killed = (json.loads((tmp_path / f"{name}.json").read_text())
                   for name in ("whole", "killed"))
  assert kept_numbers(whole) == kept_numbers(killed)
  seen[:] = []
  assert run(pair, tmp_path / "killed.json") == 0   # and all of it is there now
  again = json.loads((tmp_path / "killed.json").read_text())
  assert not seen and kept_numbers(again) == kept_numbers(whole)


def test_a_changed_image_is_measured_anew(tmp_path):
  pair = write_folder(tmp_path / "a", 8), write_folder(tmp_path / "b", 8, first=50)
  key = "fid/pixels/8/crop32-bilinear8"
  value = lambda: json.loads((tmp_path / "m.json").read_text())[key]["value"]
  assert run(pair, tmp_path / "m.json") == 0
  before = value()
  Image.fromarray(draw(999, 90)).save(tmp_path / "b" / "003.png")
  assert run(pair, tmp_path / "m.json") == 0
  assert value() != before


def test_a_file_that_changes_while_it_is_measured_is_measured_anew(tmp_path, monkeypatch):
  pair = write_folder(tmp_path / "a", 8), write_folder(tmp_path / "b", 8, first=50)
  read, key = folder.read_pixels, "fid/pixels/8/crop32-bilinear8"

  def changing(root, name, **how):
    pixels = read(root, name, **how)
    if root.name == "b" and name == "007.png":
      monkeypatch.setattr(folder, "read_pixels", read)
      Image.fromarray(draw(999, 90)).save(root / "003.png")
    return pixels

  monkeypatch.setattr(folder, "read_pixels", changing)
  assert run(pair, tmp_path / "m.json") == 0
  assert run(pair, tmp_path / "m.json") == 0
  assert run(pair, tmp_path / "fresh.json") == 0
  again, fresh = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("m", "fresh"))
  assert again[key] == fresh[key]


def test_what_the_disk_refused_is_read_the_next_time(tmp_path, monkeypatch, capsys):
  pair = write_folder(tmp_path / "a", 8), write_folder(tmp_path / "b", 8, first=50)
  read, seen = folder.read_pixels, []

  def failing(root, name, **how):
    seen.append(name)
    if root.name == "b" and name in errors:
      raise errors[name]
    return read(root, name, **how)

  monkeypatch.setattr(folder, "read_pixels", failing)
  errors = {"003.png": OSError(5, "Input/output error"), "004.png": MemoryError(),
            "005.png": Unusable("unreadable file", "OSError: [Errno 13] Permission denied")}
  assert run(pair, tmp_path / "m.json") == 1   # five are left
  assert "expected more than 5 each" in capsys.readouterr().err
  del errors["005.png"], errors["004.png"]
  assert run(pair, tmp_path / "m.json") == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  assert [item["image"] for item in metrics["unusable"]] == ["003.png"]
  assert metrics["unusable_share/synthetic"] == {"value": 0.125, "low": None, "high": None, "n": 8}
  errors.clear()
  assert run(pair, tmp_path / "m.json") == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  assert not metrics["unusable"] and "fid/pixels/8/crop32-bilinear8" in metrics
  seen.clear()   # and now it is kept
  assert run(pair, tmp_path / "m.json") == 0 and not seen


def test_other_kinds_of_files_and_constant_images_are_said(pair, tmp_path, capsys):
  synthetic = tmp_path / "synthetic"
  synthetic.mkdir()
  for i in range(12):
    deep = draw(700 + i).astype(np.uint16) * 256
    Image.fromarray(deep if i % 4 else np.full_like(deep, 999)).save(synthetic / f"{i}.png")
  assert run((pair[0], synthetic), tmp_path / "m.json", "--suite", "full") == 0
  said, metrics = capsys.readouterr().out, json.loads((tmp_path / "m.json").read_text())
  assert metrics["forms"] == {"real": {"PNG, 8 bits": 40}, "synthetic": {"PNG, 16 bits": 9}}
  assert metrics["unusable_share/synthetic"]["value"] == 0.25
  line = next(line for line in said.splitlines() if line.startswith("unusable_share/synthetic"))
  assert line.split()[1:] == ["0.250", "12"]
  assert ("note: the files differ in kind or depth, which a network may see: real 40 PNG, 8 bits; "
          "synthetic 9 PNG, 16 bits") in said
  assert "note: reference/*: without a manifest of the real images its halves are of images" in said
  # With patients to take apart, and files of one kind, there is nothing to note.
  manifest = write_manifest(tmp_path / "real.csv", 40)
  assert run(pair, tmp_path / "n.json", "--suite", "full", "--real-manifest", manifest) == 0
  assert json.loads((tmp_path / "n.json").read_text())["notes"] == []


def test_copies_are_found_where_somebody_kept_images_apart(pair, tmp_path, capsys, monkeypatch):
  held_out = write_folder(tmp_path / "held_out", 30, first=900)
  copying = write_folder(tmp_path / "copying", 12, first=700)
  for i in range(6):
    Image.fromarray(draw(i)).save(copying / f"{i:03}.png")   # the real ones of these names
  held_out_manifest = write_manifest(tmp_path / "h.csv", 30)
  text = held_out_manifest.read_text()
  held_out_manifest.write_text(text.replace(".png,p", ".png,other"))
  manifests = ("--real-manifest", write_manifest(tmp_path / "r.csv", 40), "--held-out-manifest",
               held_out_manifest)
  words = ("--held-out", held_out, *manifests)
  assert run((pair[0], copying), tmp_path / "m.json", *manifests[:2]) == 0
  monkeypatch.setattr(folder_comparison, "_fidelity", None)   # what is known stays known
  capsys.readouterr()
  assert run((pair[0], copying), tmp_path / "m.json", *words) == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  entry = metrics[f"privacy/pixels/copies/q{1 / 30:g}"]
  assert 0.5 <= entry["value"] < 0.8 and entry["n"] == 12
  assert metrics["privacy/pixels/membership_auc"]["n"] == 20 + 15   # patients
  assert metrics["privacy/compared"] == {"value": 40, "low": None, "high": None, "n": 40}
  assert metrics["images"]["held_out"] == {"folder": 30, "used": 30}
  assert not metrics["notes"] and not any("privacy" in line for line in metrics["left_out"])
  said = capsys.readouterr().out
  assert "30 of 30 held-out images used" in said and "privacy/pixels/membership_auc" in said
  # A patient of the training among them would call copies normal.
  held_out_manifest.write_text(text)
  assert run((pair[0], copying), tmp_path / "n.json", *words) == 1
  assert "15 patients are in training and held out" in capsys.readouterr().err
  assert run((pair[0], copying), tmp_path / "n.json", *manifests[2:]) == 1
  assert "--held-out-manifest needs --held-out" in capsys.readouterr().err


def test_utility_that_fails_costs_nothing_else(pair, tmp_path, monkeypatch, capsys):
  manifests = ("--real-manifest", write_manifest(tmp_path / "r.csv", 40),
               "--synthetic-manifest", write_manifest(tmp_path / "s.csv", 36))

  def fails(*_, **__):
    raise FloatingPointError("step 3: the loss is nan")

  monkeypatch.setattr(folder_utility, "utility", fails)
  assert run(pair, tmp_path / "m.json", "--utility", "--config.data.resolution=32",
             *manifests) != 0
  assert "fid/pixels/36/crop32-bilinear8" in json.loads((tmp_path / "m.json").read_text())
  assert "pixels, crop32-bilinear8" in capsys.readouterr().out
  # What the manifests alone tell is told before any image is read.
  monkeypatch.setattr(folder, "read_pixels", fails)
  write_manifest(tmp_path / "s.csv", 36)
  text = (tmp_path / "s.csv").read_text().replace("No Finding", "")
  (tmp_path / "s.csv").write_text(text.replace("Effusion", "").replace("Nodule", ""))
  assert run(pair, tmp_path / "n.json", "--utility", *manifests) == 1
  assert "utility/synthetic: no labelled image is left" in capsys.readouterr().err


def test_three_shards_are_one_process_bit_for_bit(pair, tmp_path, monkeypatch):
  monkeypatch.setattr(folder_features, "CHUNK", 7)
  assert run(pair, tmp_path / "one.json") == 0
  for shard in (2, 0, 1):
    assert run(pair, tmp_path / "many.json", "--shard", f"{shard}/3") == 0
    assert not (tmp_path / "many.json").exists()
  seen = []
  monkeypatch.setattr(folder_features, "chunk_features", lambda *a, **k: seen.append(a))
  assert run(pair, tmp_path / "many.json") == 0
  assert not seen   # nothing was left to compute
  one, many = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "many"))
  assert kept_numbers(one) == kept_numbers(many)


def test_a_workdir_lends_its_classifier(pair, tiny_workdir, tmp_path):
  assert run(pair, tmp_path / "m.json", "--workdir", tiny_workdir) == 0
  metrics = json.loads((tmp_path / "m.json").read_text())
  assert "fid/cdjax-classifier/36/crop32-bilinear32" in metrics
  assert not any("pixels" in key for key in metrics)
  assert metrics["extractors"]["cdjax-classifier"]["digest"]


def test_wrong_usage_is_one_line(pair, capsys):
  wrong = lambda *words: (main.main(["evaluate", *map(str, words)]), capsys.readouterr().err)
  assert wrong("--real", pair[0]) == (1, "cdjax: error: --real and --synthetic: expected both or "
                                         "neither\n")
  code, said = wrong("--real", pair[0], "--synthetic", pair[1], "--extractor", "vgg=file")
  assert code == 1 and "extractor='vgg'; expected one of" in said
  assert wrong("--real", pair[0], "--synthetic", pair[1], "--shard", "3/3")[0] == 2
  assert wrong("--seed", "1")[1].startswith("cdjax: error: expected --workdir DIR --seed S")
  code, said = wrong("--workdir", "run", "--seed", "1", "--held-out", pair[0])
  assert code == 1 and "--held-out is of two folders" in said
  code, said = wrong("--real", pair[0], "--synthetic", pair[1], "--interventions", "4")
  assert code == 1 and "no questions" in said
