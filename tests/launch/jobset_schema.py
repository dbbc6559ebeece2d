"""What Kubernetes checks of a JobSet before its controller sees it, as a JSON schema.

Fields and types are those of jobset.x-k8s.io/v1alpha2 (the OpenAPI definition of its Python
SDK); the template of a job is Kubernetes' own and is checked apart from it.
"""

_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
# Names of replicated jobs become parts of host names.
_LABEL = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
_TEXTS = {"type": "array", "items": _TEXT}


def _object(required=(), **fields):
  return {"type": "object", "properties": fields, "required": list(required),
          "additionalProperties": False}


_RULE = _object(
    ("action", "name"), name=_TEXT,
    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts",
                     "RestartJob", "RestartJobAndIgnoreMaxRestarts"]},
    onJobFailureReasons=_TEXTS, onJobFailureMessagePatterns=_TEXTS, targetReplicatedJobs=_TEXTS)
_JOB = _object(
    ("name", "template"), name=_LABEL, groupName=_TEXT, replicas=_COUNT,
    template=_object(("spec",), metadata={"type": "object"}, spec={"type": "object"}),
    dependsOn={"type": "array", "items": _object(
        ("name", "status"), name=_TEXT, status={"enum": ["Ready", "Complete"]})})

JOBSET = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"}, kind={"const": "JobSet"},
    metadata=_object(
        ("name",), name=_LABEL, namespace=_LABEL,
        labels={"type": "object", "additionalProperties": _TEXT},
        annotations={"type": "object", "additionalProperties": _TEXT}),
    spec=_object(
        ("replicatedJobs",), replicatedJobs={"type": "array", "minItems": 1, "items": _JOB},
        network=_object(enableDNSHostnames={"type": "boolean"}, subdomain=_TEXT,
                        publishNotReadyAddresses={"type": "boolean"}),
        successPolicy=_object(("operator",), operator={"enum": ["All", "Any"]},
                              targetReplicatedJobs=_TEXTS),
        failurePolicy=_object(maxRestarts=_COUNT, restartStrategy=_TEXT,
                              rules={"type": "array", "items": _RULE}),
        startupPolicy=_object(("startupPolicyOrder",),
                              startupPolicyOrder={"enum": ["AnyOrder", "InOrder"]}),
        suspend={"type": "boolean"}, managedBy=_TEXT, ttlSecondsAfterFinished=_COUNT,
        coordinator=_object(("replicatedJob",), replicatedJob=_TEXT, jobIndex=_COUNT,
                            podIndex=_COUNT),
        volumeClaimPolicies={"type": "array"}))
