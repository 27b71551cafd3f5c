"""A small real HTTP server that answers as Shoal's API does, over the uploads in a real (moto) bucket.

It keeps the contract's rules: a bearer token, problem+json, one run per new content of a dataset, and no new run for
the same bytes with the same settings.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.unit.sdk.fake_tunings import FakeTunings

TOKEN = "a-token"
METRICS = {"accuracy": 0.9812, "precision": 0.98, "recall": 0.979, "f1": 0.9795}
PROBLEM = "application/problem+json"


class FakeApi:
    """State of the server; tests read `requests` and set the rest."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket
        self.runs: list[dict[str, Any]] = []
        self.latest: dict[str, str] = {}
        self.reading: dict[str, int] = {}
        self.imported: set[str] = set()
        self.traffic: dict[str, Any] = {
            "model": "digits",
            "production": 1,
            "aliases": {"production": 1, "candidate": 2},
            "shares": [{"version": 1, "percent": 100.0}],
        }
        self.script: list[dict[str, Any]] = [{"status": "succeeded", "metrics": METRICS}]
        self.labels: list[str] | None = None
        self.requests: list[tuple[str, str, str, bytes]] = []
        self.report: dict[str, Any] = {}
        self.quarantine: list[dict[str, Any]] = []
        self.ingesting = True
        self.batches: list[dict[str, Any]] = []
        self.tunings = FakeTunings()
        self.batch_script: list[dict[str, Any]] = [{"status": "succeeded"}]
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ingest(self, dataset: str) -> None:
        """What ingest_upload does for everything under a dataset's prefix."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"datasets/{dataset}/").get("Contents", [])
        keys = [item["Key"] for item in listed]
        config = f"datasets/{dataset}/dataset.yaml"
        self.replay(dataset, [key for key in keys if key.endswith("/replay.yaml")])
        keys = [key for key in keys if "/replay/" not in key]
        whole = [key for key in keys if key.endswith((".zip", ".csv"))]
        files = whole or ([key for key in keys if key != config] if config in keys else [])
        if not files and config in keys and self.is_read(dataset, config):
            files = [config]
        if not files:
            return
        objects = {key: self.s3.get_object(Bucket=self.bucket, Key=key) for key in files}
        digest = hashlib.sha256()
        for key in [*files, *[key for key in keys if key == config]]:
            digest.update(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())
        version = digest.hexdigest()[:12]
        self.latest[dataset] = version
        if all(run["version"] != version for run in self.runs):
            source = [
                {"key": key, "version": item["VersionId"], "size": item["ContentLength"]}
                for key, item in objects.items()
            ]
            self.runs.insert(0, self.new_run(dataset, version, source))

    def import_models(self) -> None:
        """What import_model does: a run per .onnx file, named by key and S3 version; one called `bad` is refused."""
        for item in self.s3.list_objects_v2(Bucket=self.bucket, Prefix="models/").get("Contents", []):
            key, name = item["Key"], item["Key"].split("/")[1]
            version = self.s3.head_object(Bucket=self.bucket, Key=key)["VersionId"]
            run_id = f"import-{hashlib.sha256(f'{key}{chr(10)}{version}'.encode()).hexdigest()[:12]}"
            if key.endswith(".onnx") and all(run["run_id"] != run_id for run in self.runs):
                run = self.new_run("", "", [{"key": key, "version": version, "size": item["Size"]}])
                failure = {"stage": "Import Model", "error": "BadModel", "reason": "It is bad.", "fix": "Mend it."}
                ended = {"status": "failed", "failure": failure} if name == "bad" else {"status": "succeeded"}
                self.runs.insert(0, run | {"run_id": run_id, "model": {"name": name, "version": 1}} | ended)
                self.imported.add(name)

    def is_read(self, dataset: str, config: str) -> bool:
        """Whether dataset.yaml names a source, and that is read by now: at the fourth look."""
        if b"source:" not in self.s3.get_object(Bucket=self.bucket, Key=config)["Body"].read():
            return False
        self.reading[dataset] = self.reading.get(dataset, 4) - 1
        return self.reading[dataset] <= 0

    def replay(self, dataset: str, keys: list[str]) -> None:
        """What ingest_upload does for replays: a new version, whose run names the replay.yaml."""
        for key in keys:
            stored = self.s3.get_object(Bucket=self.bucket, Key=key)
            source = [{"key": key, "version": stored["VersionId"], "size": stored["ContentLength"]}]
            if all(run["source"] != source for run in self.runs):
                version = hashlib.sha256(key.encode()).hexdigest()[:12]
                self.runs.insert(0, self.new_run(dataset, version, source))

    def new_run(self, dataset: str, version: str, source: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """A run that has just begun."""
        return {
            "run_id": f"{dataset}-{version}",
            "dataset": dataset,
            "version": version,
            "status": "running",
            "stage": "Plan Shards",
            "created_at": "2026-11-21T08:00:00Z",
            "updated_at": "2026-11-21T08:00:00Z",
            "finished_at": None,
            "source": source or [],
            "settings": {"task": "classification", "workers": 2},
            "inferred": ["task"],
            "progress": {"shards_done": 0, "shards_total": 2, "round": 0, "rounds": 3, "loss": None, "validation": {}},
            "stages": [],
            "seconds": 1.5,
            "gb_seconds": 2.0,
            "cost_usd": 0.000123,
            "metrics": {},
            "model": None,
            "failure": None,
        }

    def request_run(self, dataset: str) -> dict[str, Any]:
        """One run by request of a dataset, whatever is asked for."""
        run = self.new_run(dataset, self.latest[dataset])
        run |= {"run_id": f"{run['run_id']}-requested", "stage": "Start Training", "request": {}}
        unchanged = any(known["run_id"] == run["run_id"] for known in self.runs)
        if not unchanged:
            self.runs.insert(0, run)
        return {name: run[name] for name in ("run_id", "dataset", "version")} | {"unchanged": unchanged}

    def ingest_batches(self, model: str | None) -> list[dict[str, Any]]:
        """What ingest_upload does for `batch/`: one job per archive, table or batch.yaml, newest first."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="batch/").get("Contents", [])
        keys = [item["Key"] for item in listed]
        for key in keys:
            folder, _, name = key.rpartition("/")
            loose = not any(other.startswith(f"{folder}/") and other.endswith((".zip", ".csv")) for other in keys)
            known = any(source["key"] == key for job in self.batches for source in job["source"])
            if known or not (name.endswith((".zip", ".csv")) or (name == "batch.yaml" and loose)):
                continue
            version = self.s3.head_object(Bucket=self.bucket, Key=key)["VersionId"]
            job = folder.removeprefix("batch/")
            entry = {"id": job, "model": job.split("/")[0], "job": job.split("/")[1], "status": "running"}
            entry |= {"stage": "Predict Batch", "created_at": "2026-11-21T08:00:00Z", "seconds": 2.0, "cost_usd": 2e-5}
            entry |= {"source": [{"key": key, "version": version, "size": 1}], "pieces_done": 1, "pieces_total": 4}
            self.batches.insert(0, entry | {"records": 100, "errors": 0, "seconds_left": 6.0, "warnings": []})
        return [job for job in self.batches if model in (None, job["model"])]

    def batch(self, job_id: str) -> dict[str, Any] | None:
        """One step of the batch script per look at a job."""
        job = next((job for job in self.batches if job["id"] == job_id), None)
        if job is not None and job["status"] == "running":
            job.update(self.batch_script.pop(0) if len(self.batch_script) > 1 else self.batch_script[0])
        return job

    def advance(self, run: dict[str, Any]) -> dict[str, Any]:
        """One step of the script per look at a run."""
        if run["status"] in ("waiting", "running") and self.script:
            run.update(self.script.pop(0) if len(self.script) > 1 else self.script[0])
            if run["status"] == "succeeded":
                stage = {"name": "Train Shard", "seconds": 1.2, "invocations": 4, "gb_seconds": 2.0, "cost_usd": 1e-4}
                run |= {"stage": "Register Model", "model": {"name": run["dataset"], "version": 1}, "stages": [stage]}
        return run

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, str, Any]:
        path, query = unquote(urlsplit(url).path), parse_qs(urlsplit(url).query)
        with self._lock:
            self.requests.append((method, path, headers.get("Content-Type") or "", body))
            if path == "/healthz":
                return 200, "application/json", {"status": "ok", "version": "0.1.0"}
            if headers.get("Authorization") is None:
                return 401, "application/json", {"message": "Unauthorized"}
            if headers["Authorization"] != f"Bearer {TOKEN}":
                return 403, "application/json", {"message": "Forbidden"}
            found = self.route(method, path.strip("/").split("/"), query, headers, body)
        if found is None:
            return 404, PROBLEM, problem(404, f"There is no {path.strip('/')!r}.", "List what there is.")
        return found

    def route(self, method: str, parts: list[str], query: Any, headers: Any, body: bytes) -> Any:
        match parts:
            case ["runs"]:
                dataset = query.get("dataset", [None])[0]
                if dataset and self.ingesting:
                    self.ingest(dataset)
                runs = [run for run in self.runs if dataset in (None, run["dataset"])]
                return 200, "application/json", {"runs": runs}
            case ["runs", run_id]:
                self.import_models()
                run = next((run for run in self.runs if run["run_id"] == run_id), None)
                return run and (200, "application/json", self.advance(run))
            case ["runs", run_id, "workers"]:
                return 200, "application/json", {"run_id": run_id, "before": 2, **json.loads(body)}
            case ["datasets", name, "inputs"] if name in self.latest:
                image = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "meaning": "pixels"}
                told = {"task": "classification", "outputs": 10, "classes": list("0123456789"), "inputs": [image]}
                return 200, "application/json", {"dataset": name, "version": self.latest[name], **told}
            case ["datasets", name, "quote"] if name in self.latest:
                here = {"service": "lambda", "minutes": 1.5, "dollars": 0.01, "how": "2 Lambda workers (measured)"}
                there = {"service": "sagemaker", "minutes": None, "dollars": None, "how": "1 ml.new.large (unknown)"}
                return 200, "application/json", {"service": "lambda", "why": "Short.", "quotes": [here, there]}
            case ["datasets", name, "runs"] if name in self.latest:
                return 202, "application/json", self.request_run(name)
            case ["datasets"]:
                return 200, "application/json", {"datasets": [self.dataset(name) for name in self.latest]}
            case ["datasets", name] if self.reading.get(name, 0) > 0:
                waiting = {"name": name, "latest_version": None, "created_at": "2026", "versions": []}
                return 200, "application/json", {**waiting, "note": "Reading a source."}
            case ["datasets", name] if name in self.latest:
                versions = [{"version": self.latest[name], "status": "ready", "created_at": "2026", "run_id": "r"}]
                return 200, "application/json", {**self.dataset(name), "versions": versions}
            case ["datasets", name, "versions", version, "report"] if self.latest.get(name) == version:
                return 200, "application/json", self.report
            case ["datasets", name, "versions", version, "report.html"] if self.latest.get(name) == version:
                return 200, "text/html", b"<!doctype html><title>r</title>"
            case ["datasets", name, "versions", version, "quarantine"] if self.latest.get(name) == version:
                first = int(query.get("after", ["0"])[0])
                after = str(first + 2) if first + 2 < len(self.quarantine) else None
                return 200, "application/json", {"samples": self.quarantine[first : first + 2], "after": after}
            case ["datasets", _, "versions", _, "quarantine", item, sample]:
                return 200, "application/octet-stream", f"bytes of {item}/{sample}".encode()
            case ["datasets", name, "tunings"] if name in self.latest:
                return 202, "application/json", self.tunings.begin(name, json.loads(body))
            case ["tunings", *rest]:
                return self.tunings.answer(rest, json.loads(body or b"{}"), query.get("dataset", [None])[0])
            case ["batches"]:
                return 200, "application/json", {"batches": self.ingest_batches(query.get("model", [None])[0])}
            case ["batches", model, job]:
                found = self.batch(f"{model}/{job}")
                return found and (200, "application/json", found)
            case ["batches", _, _, "errors"]:
                entry = {"file": "a.csv", "place": "line 3", "code": "bad_value", "reason": "Bad.", "fix": "Mend it."}
                return 200, "application/json", {"errors": [{**entry, "raw": "x"}], "total": 1}
            case ["models"]:
                entry = {"name": "digits", "production": 1, "versions": 1, "task": "classification"}
                entry |= {"metrics": METRICS, "updated_at": "2026"}
                return 200, "application/json", {"models": [entry]}
            case ["models", name] if name in self.imported:
                version = {"version": 1, "task": "tensors", "promotion": {"decision": "production", "reason": "first"}}
                version |= {
                    "signature": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], "outputs": []}
                }
                told = {
                    "from": "PyTorch",
                    "version": "2.13",
                    "by": "torch.onnx",
                    "max_difference": 3e-8,
                    "same_label": 1,
                }
                file = {"operators": {"MatMul": 1}, "opsets": {"ai.onnx": 17}, "parameters": 8, "producer": "pytorch"}
                file |= {"told": {"shoal.converted": json.dumps(told)}}
                lineage = {"upload": {"key": f"models/{name}/x/{name}.onnx"}, "file": file}
                version |= {"created_at": "2026", "bytes": 9, "lineage": lineage}
                lineage |= {"inferred": ["task: regression"], "warnings": ["It draws random numbers."]}
                if name == "backbone":
                    block = {"tensor": "b", "shape": [320, 7, 7], "parameters": 410880, "operators": ["Conv", "Clip"]}
                    lineage["backbone"] = {"source": "vector", "width": 1280, "blocks": [block]}
                refused = [{"at": "2026", "reason": "It was hostile.", "fix": "Mend it.", "error": "BadModel"}]
                entry = {"name": name, "aliases": {"production": 1}, "versions": [version], "refused": refused}
                return 200, "application/json", entry
            case ["models", "digits"]:
                return 200, "application/json", {"name": "digits", "aliases": {"production": 1}, "versions": []}
            case ["models", "digits", "aliases", alias]:
                asked = json.loads(body or b"{}").get("version")
                moved = {"model": "digits", "alias": alias, "before": 1, "version": asked}
                return 200, "application/json", moved
            case ["models", "digits", "canary" | "ab" | "shadow" | "traffic"]:
                return 200, "application/json", self.traffic
            case ["models", "digits", "versions", "1", form] if form.startswith("card"):
                cards = {
                    "card": ("application/json", {"model": "digits", "version": 1}),
                    "card.html": ("text/html", b"<!doctype html><title>card</title>"),
                    "card.md": ("text/markdown", b"# digits, version 1\n"),
                }
                return 200, *cards[form]
            case ["models", "digits", "predict"] if method == "POST":
                return self.predict(headers.get("Content-Type"), body)
        return None

    def dataset(self, name: str) -> dict[str, Any]:
        samples = {"train": 1200, "validation": 280, "test": 287}
        entry = {"name": name, "latest_version": self.latest[name], "task": "classification", "samples": samples}
        return {**entry, "created_at": "2026-11-21T08:00:00Z"}

    def predict(self, content_type: str, body: bytes) -> tuple[int, str, Any]:
        if body == b"broken":
            return 400, PROBLEM, problem(400, "The image can't be decoded.", "Send a PNG or JPEG.")
        count = len(json.loads(body)["instances"]) if content_type == "application/json" else 1
        labels = [self.labels.pop(0) if self.labels else "3" for _ in range(count)]
        predictions = [{"label": label, "probability": 0.9, "probabilities": {label: 0.9}} for label in labels]
        answer = {"model": "digits", "version": 1, "task": "classification", "predictions": predictions}
        return 200, "application/json", answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content_type, document = api.answer(self.command, self.path, self.headers, body)
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler


def problem(status: int, detail: str, fix: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": "Problem", "status": status, "detail": detail, "fix": fix}
