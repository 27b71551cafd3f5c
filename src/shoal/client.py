"""One cloud as Python sees it: upload, runs, datasets, models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shoal._batches import BatchJob, start_batch
from shoal._datasets import Dataset
from shoal._imports import await_import, plan_import, put_import
from shoal._models import Model
from shoal._networks import network_bytes, network_inputs, put_network
from shoal._replays import plan_replay, put_replay
from shoal._runs import POLL_SECONDS, POLL_SECONDS_ON_AWS, Run
from shoal._settings import fields_of
from shoal._streams import Streams
from shoal._training import named_script, overrides_of, quote_of, request_run, with_script
from shoal._tunings import Tuning, find_tuning, read_space, start_tuning
from shoal.connection import Connection, connect_local, connect_stack
from shoal.errors import NotFound, ServiceFailed
from shoal.uploads import OnUpload, Placed, Upload, Uploader, is_source, plan_batch, plan_source, plan_upload

if TYPE_CHECKING:
    from shoal._splits import Split

APPEAR_SECONDS = 60.0
READ_SECONDS = 15.0  # after a source was read; where it hasn't changed, no run will start
APPEAR_AGAIN_POLLS = 8  # where the same bytes were there before, so that probably no run will start


class Client:
    """Everything that can be asked of one cloud.

    Args:
        connection: The cloud; `shoal.connect()` finds one.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def push(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        target: str | None = None,
        config: str | Path | None = None,
        on_upload: OnUpload | None = None,
        **settings: Any,  # noqa: ANN401 - fields of dataset.yaml, of several types
    ) -> Run:
        """Upload a dataset, which starts a run.

        Args:
            path: An archive (.zip, .tar, .tar.gz), a table (.csv, .jsonl, .json, .parquet; .gz and .zst), a list of S3
                URIs (.uris), a folder (of images or texts in one folder per class, of images with a table of labels, of
                tables), or what the cloud reads itself: `s3://BUCKET/PREFIX`, `dynamodb://TABLE`.
            name: The dataset's name; made from the path's when None.
            target: The column to predict (tables).
            config: A dataset.yaml; a folder's own is used when None.
            on_upload: Called with (bytes done, bytes in all) during the upload.
            settings: More fields of dataset.yaml: task, recipe, files, schedule, split, training and the others.

        Returns:
            The run that the upload started. Where the same bytes with the same settings were there before, nothing is
            uploaded: the earlier run, with `unchanged` set.

        Raises:
            BadRequest: The path, the name or a setting can't be used; nothing was uploaded.
            ConnectionFailed, NotAuthorised, NotFound: The bucket or the API can't be used.
            ServiceFailed: The upload is there, but no run started within a minute.
        """
        settings["target"] = target
        upload = _plan(path, name, Path(config) if config else None, settings)
        uploader = Uploader(self.connection, upload, on_upload)
        known = self.runs(upload.dataset)
        latest = self._latest_version(upload.dataset)
        there = uploader.unchanged()
        earlier = find_run([run for run in known if run.document.get("version") == latest] + known, there)
        if earlier and earlier.status != "failed":
            earlier.unchanged = True
            return earlier
        seconds = APPEAR_AGAIN_POLLS * self._pause if there else APPEAR_SECONDS
        if upload.source:
            seconds = READ_SECONDS
        return self._await_run(upload.dataset, uploader.put(), {run.id for run in known}, latest, seconds)

    def network_inputs(self, dataset: str, version: str | None = None) -> dict[str, Any]:
        """What a network of one's own is given of a dataset version.

        Args:
            dataset: The dataset's name.
            version: Id of a version; the newest committed one when None.

        Returns:
            `inputs`: name, datatype, shape of one sample and meaning of each tensor; `outputs`: how many numbers to
            answer; `task` and `classes`.

        Raises:
            NotFound: No such dataset, or no committed version.
        """
        return network_inputs(self.connection, dataset, version)

    def train(
        self,
        dataset: str,
        network: Any = None,  # noqa: ANN401 - a path, a torch.nn.Module or a keras.Model
        /,
        *,
        version: str | None = None,
        **settings: Any,  # noqa: ANN401 - fields of dataset.yaml, of several types
    ) -> Run:
        """Train again on data that are there.

        Args:
            dataset: The dataset's name.
            network: A network of your own instead of a recipe: the path of an ONNX file, a `torch.nn.Module` or a
                `keras.Model`; see docs/networks.md.
            version: Id of a version; the newest committed one when None.
            settings: Fields of dataset.yaml that concern a run (recipe, workers, rounds, seed, network, training,
                augment, budget, compute, optimize, promote, card), and those of `training` by themselves: epochs=5.
                What isn't said is as in the version's dataset.yaml. `script`: the path of your own training script,
                which is uploaded and run as a SageMaker job; see docs/sagemaker.md.

        Returns:
            The run: `wait()` for it. The same request again finds the same run, with `unchanged` set; a failed one
            gets a successor.

        Raises:
            BadRequest: A setting that a run can't change, a value that dataset.yaml doesn't take either, or a network
                that can't be trained on the data: nothing was started.
            NotFound: No such dataset, or no committed version.
            ConnectionFailed, NotAuthorised, ServiceFailed: The API can't be used.
        """
        if network is None and not isinstance(settings.get("network"), Mapping):
            network = settings.pop("network", None)
        settings = with_script(self.connection, dataset, settings)
        body: dict[str, Any] = {"overrides": overrides_of(settings, own=network is not None)}
        if network is not None:
            data = network_bytes(self.connection, dataset, version, network)
            body["network"] = put_network(self.connection, data)
        return request_run(self.connection, dataset, {**body, "version": version} if version else body)

    def quote(
        self,
        dataset: str,
        *,
        version: str | None = None,
        **settings: Any,  # noqa: ANN401 - fields of dataset.yaml, of several types
    ) -> dict[str, Any]:
        """What a run with these settings would take on Lambda and on SageMaker; nothing is started.

        Args:
            dataset: The dataset's name.
            version: Id of a version; the newest committed one when None.
            settings: As of `train`.

        Returns:
            `service` and `why`: where it would train; `quotes`: for each place minutes and dollars, None where unknown,
            and `how` they were come by.

        Raises:
            BadRequest, NotFound: As `train`.
            ConnectionFailed, NotAuthorised, ServiceFailed: The API can't be used.
        """
        body: dict[str, Any] = {"overrides": overrides_of(named_script(settings)[0])}
        return quote_of(self.connection, dataset, {**body, "version": version} if version else body)

    def replay(self, name: str, *paths: str | Path, version: str | None = None) -> Run:
        """Run a dataset version again, with mended samples in the place of the bad ones.

        Args:
            name: The dataset's name.
            paths: Mended files, or folders of them (`Dataset.save_quarantine`): each takes the place of the version's
                file of the same name, or is added. None at all runs the same files again.
            version: The version that is mended; the latest when None.

        Returns:
            The run that the replay started.

        Raises:
            NotFound: No such dataset.
            BadRequest: A path can't be used; nothing was uploaded.
            ConnectionFailed, NotAuthorised: The bucket or the API can't be used.
            ServiceFailed: The files are there, but no run started within a minute.
        """
        latest = self.dataset(name).latest_version
        chosen = version or latest
        if chosen is None:
            raise NotFound(f"Dataset {name!r} has no version yet.", "Upload it: `shoal push PATH`.")
        replay = plan_replay(name, chosen, [Path(path).expanduser() for path in paths])
        known = {run.id for run in self.runs(name)}
        placed = Placed(frozenset({put_replay(self.connection, replay)}))
        return self._await_run(name, placed, known, latest, APPEAR_SECONDS)

    def import_model(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        labels: str | Path | None = None,
        config: str | Path | None = None,
        vocabulary: str | Path | None = None,
        **description: Any,  # noqa: ANN401 - fields of model.yaml, of several types
    ) -> Run:
        """Upload a model that was made elsewhere, which verifies and registers it.

        Args:
            path: An ONNX file (`shoal.export` and `shoal convert` make one), or a pipeline.yaml of models.
            name: The model's name; made from the file's when None.
            labels: A file with the name of one class a line.
            config: A model.yaml.
            vocabulary: The vocabulary that a pipeline names, where it doesn't lie beside it.
            description: Fields of model.yaml: image, columns, text, output, activation, production and the others.

        Returns:
            The import, as a run: `wait()` for it; `model` is what it registered.

        Raises:
            BadRequest: A file or a field can't be used; nothing was uploaded.
            ConnectionFailed, NotAuthorised, NotFound: The bucket or the API can't be used.
            ServiceFailed: The model is there, but its import didn't start within a minute.
        """
        plan = plan_import(
            Path(path),
            name=name,
            labels=Path(labels) if labels else None,
            config=Path(config) if config else None,
            vocabulary=Path(vocabulary) if vocabulary else None,
            description=description,
        )
        return await_import(self.connection, put_import(self.connection, plan))

    def batch(
        self,
        model: str,
        path: str | Path,
        *,
        job: str | None = None,
        version: int | None = None,
        probabilities: bool = False,
        on_upload: OnUpload | None = None,
        **settings: Any,  # noqa: ANN401 - fields of batch.yaml, of several types
    ) -> BatchJob:
        """Upload records and have a model answer all of them.

        Args:
            model: The model's name.
            path: An archive of images or texts, a table (.csv, .tsv, .jsonl, .json, .parquet; .gz and .zst), a folder
                of files, a list of S3 URIs (.uris), or `s3://BUCKET/PREFIX`.
            job: The job's name; made from the path's and the time when None.
            version: The version that answers; the one in production when None.
            probabilities: Whether to tell the probability of every class.
            on_upload: Called with (bytes done, bytes in all) during the upload.
            settings: More fields of batch.yaml: files, piece_records.

        Returns:
            The job: `wait()` for it; `results()` are its records with their predictions.

        Raises:
            BadRequest: The path or a name can't be used; nothing was uploaded.
            NotFound: No such model; nothing was uploaded.
            ConnectionFailed, NotAuthorised: The bucket or the API can't be used.
            ServiceFailed: The upload is there, but no job started within a minute.
        """
        asked = {**settings, "version": version, "probabilities": "all" if probabilities else None}
        upload = plan_batch(path, model, job, asked)
        self.model(model)
        return start_batch(Uploader(self.connection, upload, on_upload), self.connection, upload)

    def batches(self, model: str | None = None) -> list[BatchJob]:
        """Batch jobs, newest first; only those of a model when it is named."""
        answer = self.connection.request("GET", "/batches", query={"model": model} if model else None)
        return [BatchJob(self.connection, document) for document in _items(answer, "batches")]

    def batch_job(self, job_id: str) -> BatchJob:
        """One batch job by its id, MODEL/JOB. Raises `NotFound`."""
        path = "/".join(quote(part, safe="") for part in job_id.split("/", 1))
        return BatchJob(self.connection, self.connection.request("GET", f"/batches/{path}"))

    def _await_run(self, dataset: str, placed: Placed, known: set[str], latest: str | None, seconds: float) -> Run:
        """Wait until the run that an upload started, or belongs to, can be seen.

        Args:
            dataset: The dataset's name.
            placed: The uploaded objects.
            known: Ids of the runs from before the upload.
            latest: The dataset's latest version from before the upload.
            seconds: How long to wait; then the run of the latest version is the answer, if there is one.
        """
        deadline = time.monotonic() + seconds
        while True:
            over = time.monotonic() >= deadline  # before looking: what was there in time isn't missed
            runs = self.runs(dataset)
            new = [run for run in runs if run.id not in known]
            run = find_run(runs, Placed(placed.written)) or find_run(new, placed)
            if run is None:
                # The bytes and settings of an older version come back: the dataset points at it again, no run starts.
                version = self._latest_version(dataset)
                of_version = [run for run in runs if run.document.get("version") == version and run.id in known]
                of_version = [run for run in of_version if run.document.get("request") is None]
                run = of_version[0] if of_version and (version != latest or over) else None
            if run:
                run.unchanged = run.id in known
                return run
            if self._is_reading(dataset):
                deadline = time.monotonic() + seconds
            elif over:
                raise ServiceFailed(
                    f"Dataset {dataset!r} is uploaded, but no run has started within {seconds:g} s.",
                    "Look into `shoal logs ingest_upload`, and try `shoal doctor`.",
                )
            time.sleep(self._pause)

    def _is_reading(self, dataset: str) -> bool:
        """Whether the cloud still reads the dataset's source, which may take hours."""
        try:
            return str(self.dataset(dataset).document.get("note") or "").startswith("Reading ")
        except NotFound:
            return False

    @property
    def _pause(self) -> float:
        return POLL_SECONDS if self.connection.aws_endpoint else POLL_SECONDS_ON_AWS

    def _latest_version(self, dataset: str) -> str | None:
        try:
            return self.dataset(dataset).latest_version
        except NotFound:
            return None

    def runs(self, dataset: str | None = None) -> list[Run]:
        """Runs, newest first; only those of a dataset when it is named."""
        answer = self.connection.request("GET", "/runs", query={"dataset": dataset} if dataset else None)
        return [Run(self.connection, document) for document in _items(answer, "runs")]

    def run(self, run_id: str) -> Run:
        """One run. Raises `NotFound`."""
        return Run(self.connection, self.connection.request("GET", f"/runs/{quote(run_id, safe='')}"))

    def tune(
        self,
        dataset: str,
        *,
        trials: int | None = None,
        minutes: float | None = None,
        dollars: float | None = None,
        lanes: int | None = None,
        seed: int | None = None,
        space: Mapping[str, Any] | str | Path | None = None,
        version: str | None = None,
        eta: int | None = None,
        rungs: int | None = None,
    ) -> Tuning:
        """Search recipes and hyperparameters; the best trial becomes a version of the model.

        Args:
            dataset: The dataset's name.
            trials: How many at most; 9 when no other limit is given.
            minutes: Of work on each lane, after which no further trial is begun.
            dollars: That all trials may cost on AWS, about, before no further one is begun.
            lanes: Trials at the same time; 3 when None.
            seed: Of what is tried; 0 when None.
            space: What trials vary, or a YAML file of it (docs/tuning.md); what suits the data when None.
            version: Id of a version; the newest committed one when None.
            eta: One of so many trials of a rung trains on to the next one; 3 when None.
            rungs: How many; 3 when None.

        Returns:
            The search: `wait()` for it; `trials` are what was tried, `model` is what the best of them became. The same
            search again is the one that there is.

        Raises:
            NotFound: No such dataset, or no committed version.
            BadRequest: The space or a number can't be used.
        """
        asked = {
            "trials": trials, "minutes": minutes, "dollars": dollars, "lanes": lanes, "seed": seed, "eta": eta,
            "space": read_space(space), "version": version, "rungs": rungs,
        }  # fmt: skip
        return start_tuning(self.connection, dataset, asked)

    def tunings(self, dataset: str | None = None) -> list[Tuning]:
        """Searches, newest first, without their trials; only those of a dataset when it is named."""
        answer = self.connection.request("GET", "/tunings", query={"dataset": dataset} if dataset else None)
        return [Tuning(self.connection, document) for document in _items(answer, "tunings")]

    def tuning(self, tuning_id: str) -> Tuning:
        """One search by its id. Raises `NotFound`."""
        return find_tuning(self.connection, tuning_id)

    def load(
        self,
        name: str,
        *,
        split: str = "train",
        version: str | None = None,
        cache: str | Path | None = None,
        verify: bool = False,
    ) -> Split:
        """One split of a dataset version, as arrays.

        Args:
            name: The dataset's name.
            split: train, validation or test.
            version: Id of a version; the newest committed one when None.
            cache: Where shards are kept; $SHOAL_CACHE or the user's cache folder when None.
            verify: Whether to hash shards again that are there already.

        Raises:
            NotFound: No such dataset, or no committed version.
            BadRequest: No such split.
            ConnectionFailed, NotAuthorised: The artifacts bucket can't be read.
        """
        if version is None:
            found = self.dataset(name)
            ready = [str(item["version"]) for item in found.versions() if item["status"] == "ready"]
            if not ready:
                raise NotFound(f"Dataset {name!r} has no committed version yet.", "Wait for its run: `shoal runs`.")
            version = found.latest_version if found.latest_version in ready else ready[0]
        from shoal._splits import load_split  # numpy takes a tenth of a second, which most commands don't need

        return load_split(self.connection, name, str(version), split, cache, verify)

    def datasets(self) -> list[Dataset]:
        """All datasets."""
        answer = self.connection.request("GET", "/datasets")
        return [Dataset(self.connection, document) for document in _items(answer, "datasets")]

    def dataset(self, name: str) -> Dataset:
        """One dataset. Raises `NotFound`."""
        return Dataset(self.connection, self.connection.request("GET", f"/datasets/{quote(name, safe='')}"))

    def stream(self) -> Streams:
        """Records in, answers out: see `Streams`."""
        return Streams(self.connection)

    def models(self) -> list[Model]:
        """All models."""
        answer = self.connection.request("GET", "/models")
        return [Model(self.connection, document) for document in _items(answer, "models")]

    def model(self, name: str) -> Model:
        """One model. Raises `NotFound`."""
        return Model(self.connection, self.connection.request("GET", f"/models/{quote(name, safe='')}"))


def _plan(path: str | Path, name: str | None, config: Path | None, settings: dict[str, Any]) -> Upload:
    """What to put where, for a path or for a source that the cloud reads itself."""
    if not is_source(path):
        return plan_upload(Path(path), name=name, config=config, settings=settings)
    fields = fields_of(config.read_bytes(), config) if config else {}
    asked = {field: value for field, value in settings.items() if value is not None}
    return plan_source(str(path), name=name, settings={**fields, **asked})


def find_run(runs: Iterable[Run], placed: Placed | None) -> Run | None:
    """The first run that was made from one of the objects, by key and version id."""
    wanted = placed.written | placed.kept if placed else frozenset()
    for run in runs:
        source = {(item.get("key"), item.get("version")) for item in run.document.get("source") or []}
        if source & wanted and run.status != "waiting":
            return run
    return None


def _items(answer: dict[str, Any], field: str) -> list[dict[str, Any]]:
    items = answer.get(field)
    if not isinstance(items, list):
        raise ServiceFailed(f"GET /{field} was answered without {field}.")
    return items


def connect(stack: str | None = None) -> Client:
    """Connect to a cloud.

    Args:
        stack: A CloudFormation stack on AWS (boto3's ordinary credentials and region); None is the embedded cloud of
            this folder, found by `.shoal/cloud.json` here or above, or in $SHOAL_HOME.

    Raises:
        ConnectionFailed: There is none, or AWS can't be reached.
        NotAuthorised, NotFound, BadRequest: What AWS said about the stack.
    """
    return Client(connect_stack(stack) if stack else connect_local())
