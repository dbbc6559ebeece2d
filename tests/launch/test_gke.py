"""GKE: the commands, and a manifest that says what was asked and that Kubernetes takes."""

import copy
import re

import jsonschema
import pytest
import yaml
from jobset_schema import JOBSET
from stand_ins import ROOT, printed

NAMED = ("--name", "cf")
ASKED = (*NAMED, "--image", "registry/cdjax:tpu", "--claim", "data")
WORDS = ("train", "--workdir", "/mnt/run", "--config.note=a: \"b\" \\ {c} # d")


def manifest(launch, *args, words=WORDS):
  result = launch("gke.sh", "show", *ASKED, *args, "--", *words)
  assert result.returncode == 0, result.stderr
  assert launch.calls == []
  return yaml.safe_load(result.stdout)


def test_manifest_says_what_was_asked(launch):
  jobset = manifest(launch, "--topology", "4x4", "--hosts", "4", "--chips", "4", "--slices", "2",
                    "--restarts", "3", "--accelerator", "tpu-v6e-slice")
  assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
  assert jobset["metadata"]["name"] == "cf"
  assert jobset["spec"]["failurePolicy"] == {"maxRestarts": 3}
  job, = jobset["spec"]["replicatedJobs"]
  assert set(job) == {"name", "replicas", "template"} and job["replicas"] == 2
  spec = job["template"]["spec"]
  assert (spec["parallelism"], spec["completions"], spec["completionMode"]) == (4, 4, "Indexed")
  assert spec["backoffLimit"] == 0   # the job set starts all pods again, not a job one of them
  pod = spec["template"]["spec"]
  assert pod["nodeSelector"] == {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
                                 "cloud.google.com/gke-tpu-topology": "4x4"}
  user = re.search(r"^USER (\d+)$", (ROOT / "launch" / "Dockerfile").read_text(), re.MULTILINE)
  assert pod["securityContext"]["fsGroup"] == int(user[1])   # or it could not write to the volume
  container, = pod["containers"]
  assert container["image"] == "registry/cdjax:tpu" and container["args"] == list(WORDS)
  assert container["env"] == [{"name": "CDJAX_COORDINATOR", "value": "auto"}]
  assert container["resources"] == {"requests": {"google.com/tpu": "4"},
                                    "limits": {"google.com/tpu": "4"}}
  assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "data"}
  mounts = [mount["name"] for mount in container["volumeMounts"]]
  assert mounts == [volume["name"] for volume in pod["volumes"]]


def test_the_job_sets_schema_takes_it(launch):
  jobset = manifest(launch, "--slices", "2", "--restarts", "0")
  jsonschema.validate(jobset, JOBSET)
  for path, value in ((("spec", "failurePolicy", "maxRestart"), 3),
                      (("spec", "failurePolicy", "maxRestarts"), "3"),
                      (("spec", "replicatedJobs", 0, "parallelism"), 4),
                      (("spec", "replicatedJobs", 0, "name"), "Slice_0"),
                      (("spec", "replicas"), 2), (("apiVersion",), "jobset.x-k8s.io/v1")):
    wrong = copy.deepcopy(jobset)
    place = wrong
    for key in path[:-1]:
      place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
      jsonschema.validate(wrong, JOBSET)


def test_every_place_is_filled(launch):
  text = launch("gke.sh", "show", *ASKED, "--", "train").stdout
  body = [line for line in text.splitlines() if not line.strip().startswith("#")]
  assert "__" not in "\n".join(body)


def test_words_that_look_like_places_stay(launch):
  jobset = manifest(launch, words=("train", "__NAME__", "a&b"))
  container = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
      "containers"][0]
  assert container["args"] == ["train", "__NAME__", "a&b"]


def test_kubernetes_takes_the_job(launch):
  kubernetes_validate = pytest.importorskip("kubernetes_validate")
  jobset = manifest(launch)
  job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"},
         "spec": jobset["spec"]["replicatedJobs"][0]["template"]["spec"]}
  kubernetes_validate.validate(job, "1.31", strict=True)
  job["spec"]["template"]["spec"]["containers"][0]["argz"] = ["x"]
  with pytest.raises(kubernetes_validate.ValidationError):
    kubernetes_validate.validate(job, "1.31", strict=True)


def test_run_applies_what_show_prints(launch):
  launch.answer('cat > "$STDIN"')
  shown = launch("gke.sh", "show", *ASKED, "--", *WORDS).stdout
  result = launch("gke.sh", "run", *ASKED, "--namespace", "team", "--", *WORDS)
  assert result.returncode == 0, result.stderr
  assert launch.calls == [["kubectl", "--namespace=team", "apply", "--filename=-"]]
  assert launch.stdin == shown
  dry = launch("gke.sh", "run", *ASKED, "--namespace", "team", "--dry-run", "--", *WORDS)
  assert launch.calls == [] and dry.stdout.partition("\n")[2] == shown
  assert dry.stdout.split("\n")[0].split() == ["kubectl", "--namespace=team", "apply",
                                               "--filename=-"]


@pytest.mark.parametrize(("command", "expected"), [
  ("logs", ["kubectl", "logs", "--follow", "--selector=jobset.sigs.k8s.io/jobset-name=cf,"
            "jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"]),
  ("delete", ["kubectl", "delete", "jobset", "cf"]),
])
def test_commands(same_as_dry_run, command, expected):
  assert same_as_dry_run("gke.sh", command, *NAMED) == ([expected], [expected])


@pytest.mark.parametrize(("args", "said"), [
  ((), "expected run"), (("run", *NAMED, "--", "train"), "--image is ''"),
  (("run", "--name", "a: b", "--", "train"), "--name is 'a: b'"),
  (("run", *NAMED, "--image", "i\n  privileged: true", "--", "train"), "expected an image"),
  (("run", *ASKED, "--hosts", "0", "--", "train"), "--hosts is '0'"),
  (("run", *ASKED, "--topology", "big", "--", "train"), "--topology is 'big'"),
  (("run", *ASKED, "--", "train", "a\nb"), "control character"),
  (("run", *ASKED), "what cdjax is to do"), (("logs",), "--name is ''"),
  (("logs", *NAMED, "--namespace"), "--namespace needs a value"),
])
def test_wrong_usage(launch, args, said):
  result = launch("gke.sh", *args)
  assert result.returncode == 2 and said in result.stderr and launch.calls == []


def test_dry_run_prints_delete(launch):
  assert printed(launch("gke.sh", "delete", *NAMED, "--dry-run")) == [
      ["kubectl", "delete", "jobset", "cf"]]
  assert (ROOT / "launch" / "gke_jobset.yaml").is_file()
