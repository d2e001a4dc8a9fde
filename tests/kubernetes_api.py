"""A stub of the Kubernetes API: pods, their logs and TrainJobs, over HTTP with the real paths, answers and errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml
from kubernetes.client import Configuration

NAMESPACE = "team"
CONTRACT = Path(__file__).parents[2] / "shared/contracts/trainjob_crd.yaml"
LAUNCHER = "mobanet-x7k2p-system-container-impl-1"


def crd_schema() -> dict | None:
    """The schema of a TrainJob; an unknown field is an error, as for the API with strict validation."""
    if not CONTRACT.is_file():
        return None
    (version,) = yaml.safe_load(CONTRACT.read_text())["spec"]["versions"]
    return _strict(version["schema"]["openAPIV3Schema"])


def _strict(node):
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    known = {"additionalProperties": False} if "properties" in node and "type" in node else {}
    return known | {key: _strict(value) for key, value in node.items()}


def launching_pod(workspace: str, **spec) -> dict:
    """The pod of the task train, as Kubeflow Pipelines creates it."""
    secret = {"secretKeyRef": {"name": "mobanet", "key": "AWS_SECRET_ACCESS_KEY", "optional": True}}
    main = {
        "name": "main",
        "image": "registry.example.org/mobanet@sha256:" + "a" * 64,
        "command": ["/var/run/argo/argoexec", "emissary", "--", "/kfp-launcher/launch"],
        "env": [
            {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": secret},
            {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
            {"name": "MLFLOW_RUN_CONTEXT", "value": "{}"},
            {"name": "PET_NNODES", "value": "1"},
            {"name": "ARGO_TEMPLATE", "value": '{"name":"system-container-impl"}'},
        ],
        "resources": {
            "limits": {"cpu": "8", "memory": "64G", "nvidia.com/gpu": "0"},
            "requests": {"cpu": "8", "memory": "64G", "nvidia.com/gpu": "0"},
        },
        "volumeMounts": [
            {"name": "kfp-launcher", "mountPath": "/kfp-launcher"},
            {"name": "kfp-workspace", "mountPath": workspace},
            {"name": "dshm", "mountPath": "/dev/shm"},
            {"name": "dot-cache-scratch", "mountPath": "/.cache"},
            {"name": "kube-api-access-abcde", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
        ],
        "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False},
    }
    wait = {"name": "wait", "image": "argoexec", "volumeMounts": [{"name": "kfp-workspace", "mountPath": "/mainctrfs"}]}
    volumes = [
        {"name": "kfp-launcher", "emptyDir": {}},
        {"name": "kfp-workspace", "persistentVolumeClaim": {"claimName": "mobanet-x7k2p-kfp-workspace"}},
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
        {"name": "dot-cache-scratch", "emptyDir": {}},
        {"name": "kube-api-access-abcde", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"name": "of-another-container", "emptyDir": {}},
    ]
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "mobanet-x7k2p", "uid": "u-1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": LAUNCHER,
            "namespace": NAMESPACE,
            "labels": {"pipeline/runid": "r-1"},
            "annotations": {"sidecar.istio.io/inject": "false"},
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
        },
        "spec": {
            "containers": [wait, main],
            "volumes": volumes,
            "serviceAccountName": "pipeline-runner",
            "securityContext": {"fsGroup": 1000},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "terminationGracePeriodSeconds": 30,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 7 * 24 * 3600,
        }
        | spec,
    }


class KubernetesApi:
    """The state of the server; a test changes it while the client runs."""

    def __init__(self, schema: dict | None) -> None:
        self.validator = jsonschema.Draft202012Validator(schema or {})
        self.pods, self.jobs, self.logs = {}, {}, {}
        self.asked = []  # "VERB path"
        self.created, self.deleted = [], []
        self.on_create = lambda job: None  # called in a separate thread
        self.forbidden = set()  # (verb, resource)
        self.refuse = None  # (status, message) for the next job
        self.without_trainer, self.away, self.breaks = False, 0, []

    def add_job(self, job: dict, **meta) -> None:
        created = meta.pop("created", datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta = {"namespace": NAMESPACE, "creationTimestamp": created, "uid": "u-2"} | meta
        self.jobs[job["metadata"]["name"]] = job | {"metadata": job["metadata"] | meta}

    def end(self, name: str, outcome: str, reason: str = "JobsCompleted", message: str = "over") -> None:
        condition = {"type": outcome, "status": "True", "reason": reason, "message": message}
        self.jobs[name]["status"] = {"conditions": [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]}

    def add_pod(self, job: str, node: int, phase: str = "Running", **status) -> str:
        name = f"{job}-node-0-{node}-{len(self.pods):05}"
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(node),
        }
        self.pods[name] = {
            "metadata": {"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "node"}]},
            "status": {"phase": phase} | status,
        }
        self.logs[name] = []
        return name

    def end_pod(self, name: str, code: int) -> None:
        ended = {"exitCode": code, "finishedAt": _now()[:19] + "Z"}
        status = {"name": "node", "state": {"terminated": ended}, "image": "i", "imageID": "i"}
        status |= {"ready": False, "restartCount": 0}
        self.pods[name]["status"] = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [status]}

    def say(self, pod: str, *lines: str) -> None:
        for line in lines:
            self.logs[pod].append(f"{_now()} {line}\n")

    def gone(self, name: str) -> None:
        """Remove a job and its pods as if they had been deleted."""
        self.jobs.pop(name, None)
        for pod in [pod for pod in self.pods if pod.startswith(name)]:
            self.pods.pop(pod)


def _now() -> str:
    now = datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond:06}{time.monotonic_ns() % 1000:03}Z"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: KubernetesApi

    def do_GET(self) -> None:
        self._serve("get")

    def do_POST(self) -> None:
        self._serve("create")

    def do_DELETE(self) -> None:
        self._serve("delete")

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self, verb: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        url, query = urlsplit(self.path), {k: v[-1] for k, v in parse_qs(urlsplit(self.path).query).items()}
        self.api.asked.append(f"{verb} {url.path}")
        parts = url.path.strip("/").split("/")
        core = parts[:3] == ["api", "v1", "namespaces"]
        group, resource, rest = ("", parts[4], parts[5:]) if core else (parts[1], parts[5], parts[6:])
        if self.api.away:
            self.api.away -= 1
            return self._status(503, "the server is currently unable to handle the request")
        if group and self.api.without_trainer:
            return self._send(404, b"404 page not found\n", "text/plain")
        log = rest[1:] == ["log"]
        named = f"{resource}/log" if log else resource
        asked = "list" if verb == "get" and not rest else verb
        if (asked, named) in self.api.forbidden:
            what = f"{resource}.{group}" if group else f'{resource} "{rest[0] if rest else ""}"'
            return self._status(
                403,
                f'{what} is forbidden: User "system:serviceaccount:{NAMESPACE}:pipeline-runner" cannot {asked} '
                f'resource "{named}" in API group "{group}" in the namespace "{NAMESPACE}"',
            )
        if resource == "trainjobs":
            return self._trainjob(verb, rest, query, body)
        if log:
            return self._log(rest[0], query)
        if resource == "pods" and not rest:
            wanted = dict(term.split("=") for term in query["labelSelector"].split(","))
            found = [p for p in list(self.api.pods.values()) if wanted.items() <= p["metadata"]["labels"].items()]
            return self._json({"kind": "PodList", "apiVersion": "v1", "items": found})
        found = self.api.pods.get(rest[0]) if resource == "pods" else None
        return self._json(found) if found else self._status(404, f'{resource} "{rest[0]}" not found')

    def _trainjob(self, verb: str, rest: list[str], query: dict[str, str], body: dict | None) -> None:
        api = self.api
        if verb == "create":
            name = body["metadata"]["name"]
            if name in api.jobs:
                return self._status(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
            if api.refuse:
                return self._status(*api.refuse)
            for error in api.validator.iter_errors(body):
                return self._status(422, f"{list(error.path)}: {error.message}")
            api.add_job(body)
            api.created.append(body)
            threading.Thread(target=api.on_create, args=(api.jobs[name],), daemon=True).start()
            return self._json(api.jobs[name], 201)
        if rest[0] not in api.jobs:
            return self._status(404, f'trainjobs.trainer.kubeflow.org "{rest[0]}" not found')
        if verb == "delete":
            api.deleted.append((rest[0], query.get("propagationPolicy") or (body or {}).get("propagationPolicy")))
            api.jobs[rest[0]]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            threading.Timer(0.2, api.gone, rest).start()
        return self._json(api.jobs[rest[0]])

    def _log(self, pod: str, query: dict[str, str]) -> None:
        """Stream lines like the kubelet until the container ends; `breaks` closes connections after so many lines."""
        if pod not in self.api.pods:
            return self._status(404, f'pods "{pod}" not found')
        if self.api.pods[pod]["status"]["phase"] == "Pending":
            return self._status(400, f'container "node" in pod "{pod}" is waiting to start')
        since = datetime.now(UTC) - timedelta(seconds=int(query.get("sinceSeconds", 10**6)))
        lines = [line for line in self.api.logs[pod] if datetime.fromisoformat(line.split()[0]) >= since]
        sent, allowed = max(0, len(lines) - int(query.get("tailLines", 10**6))), None
        sent += len(self.api.logs[pod]) - len(lines)
        if query.get("follow") and self.api.breaks:
            allowed = self.api.breaks.pop(0)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            ended = pod not in self.api.pods or self.api.pods[pod]["status"]["phase"] in ("Succeeded", "Failed")
            for line in self.api.logs[pod][sent:]:
                if allowed == 0:
                    self._chunk(line[: len(line) // 2])  # in the middle of a line
                    self.close_connection = True
                    return
                allowed = None if allowed is None else allowed - 1
                self._chunk(line if query.get("timestamps") else line.partition(" ")[2])
                sent += 1
            if ended or not query.get("follow"):
                self.wfile.write(b"0\r\n\r\n")
                return
            time.sleep(0.01)

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _json(self, content: dict, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _status(self, code: int, message: str) -> None:
        self._json({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}, code)

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that disconnects is not an error."""


@contextmanager
def serving(api: KubernetesApi) -> Iterator[str]:
    """The address of a server that serves `api`."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def configuration(address: str) -> Configuration:
    """Configuration of a client that talks to the stub."""
    given = Configuration(host=address)
    given.retries = False
    return given


def kubeconfig(address: str, path: Path) -> Path:
    """The same for a separate process."""
    named = {"name": "stub"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stub",
        "clusters": [named | {"cluster": {"server": address}}],
        "users": [named | {"user": {"token": "t"}}],
        "contexts": [named | {"context": {"cluster": "stub", "user": "stub", "namespace": NAMESPACE}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path
