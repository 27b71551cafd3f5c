"""The folders, files and variables that a SageMaker container has, in a folder of its own.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html and
https://github.com/aws/sagemaker-training-toolkit/blob/master/ENVIRONMENT_VARIABLES.md, whose part is played here, too.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOOLKIT = "sagemaker_"


@dataclass(frozen=True)
class Layout:
    """One host's `/opt/ml`.

    Attributes:
        root: The folder.
        request: Of CreateTrainingJob.
        host: This host's name.
        hosts: All of them.
    """

    root: Path
    request: Mapping[str, Any]
    host: str
    hosts: Sequence[str]

    def __post_init__(self) -> None:
        for path in (self.config, self.data, self.model, self.output / "data", self.code, self.checkpoints):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def config(self) -> Path:
        """`input/config`."""
        return self.root / "input/config"

    @property
    def data(self) -> Path:
        """`input/data`, with a folder for each channel."""
        return self.root / "input/data"

    @property
    def model(self) -> Path:
        """What becomes model.tar.gz."""
        return self.root / "model"

    @property
    def output(self) -> Path:
        """`failure`, and `data` for whatever else is kept."""
        return self.root / "output"

    @property
    def code(self) -> Path:
        """The program."""
        return self.root / "code"

    @property
    def checkpoints(self) -> Path:
        """What goes to and fro between here and CheckpointConfig's place in S3."""
        return self.root / "checkpoints"

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """As the toolkit reads them: each is JSON."""
        return {name: _json(text) for name, text in self.request.get("HyperParameters", {}).items()}

    @property
    def channels(self) -> dict[str, Mapping[str, Any]]:
        """Channels by name."""
        return {channel["ChannelName"]: channel for channel in self.request.get("InputDataConfig", [])}

    def write_config(self) -> None:
        """The three files that a container finds in `input/config`."""
        channels = {
            name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
            for name in self.channels
        }
        resources = {
            "current_host": self.host,
            "hosts": list(self.hosts),
            "network_interface_name": "lo",
            "current_instance_type": self.request["ResourceConfig"]["InstanceType"],
        }
        for name, value in {
            "hyperparameters": self.request.get("HyperParameters", {}),
            "inputdataconfig": channels,
            "resourceconfig": resources,
        }.items():
            (self.config / f"{name}.json").write_text(json.dumps(value))

    def unpack_code(self, archive: bytes) -> None:
        """`sourcedir.tar.gz` into the folder of the code."""
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            tar.extractall(self.code, filter="data")

    def command(self) -> list[str]:
        """The program and its arguments: the hyperparameters that aren't the toolkit's own."""
        given = self.hyperparameters
        arguments = [
            part
            for name, value in sorted(given.items())
            if not name.startswith(_TOOLKIT)
            for part in (f"--{name}", value if isinstance(value, str) else json.dumps(value))
        ]
        return [str(self.code / str(given.get("sagemaker_program", "train.py"))), *arguments]

    def variables(self) -> dict[str, str]:
        """The toolkit's variables; GPUs of this machine are all given to the job's one or first host."""
        given = {name: value for name, value in self.hyperparameters.items() if not name.startswith(_TOOLKIT)}
        found = {
            "SM_MODEL_DIR": str(self.model),
            "SM_INPUT_DIR": str(self.root / "input"),
            "SM_INPUT_CONFIG_DIR": str(self.config),
            "SM_OUTPUT_DIR": str(self.output),
            "SM_OUTPUT_DATA_DIR": str(self.output / "data"),
            "SM_CHANNELS": json.dumps(sorted(self.channels)),
            "SM_HPS": json.dumps(given),
            "SM_HOSTS": json.dumps(list(self.hosts)),
            "SM_CURRENT_HOST": self.host,
            "SM_CURRENT_INSTANCE_TYPE": self.request["ResourceConfig"]["InstanceType"],
            "SM_NETWORK_INTERFACE_NAME": "lo",
            "SM_NUM_CPUS": str(os.cpu_count() or 1),
            "SM_NUM_GPUS": os.environ.get("SHOAL_LOCAL_GPUS", "0"),
            "SM_LOG_LEVEL": str(self.hyperparameters.get("sagemaker_container_log_level", 20)),
            "SM_USER_ARGS": json.dumps(self.command()[1:]),
            # On AWS a script finds this at /opt/ml/checkpoints; there is no such variable.
            "SM_CHECKPOINT_DIR": str(self.checkpoints),
            "TRAINING_JOB_NAME": self.request["TrainingJobName"],
        }
        found |= {f"SM_CHANNEL_{name.upper()}": str(self.data / name) for name in self.channels}
        found |= {f"SM_HP_{name.upper()}": str(value) for name, value in given.items()}
        return found | dict(self.request.get("Environment", {}))

    def failure(self) -> str:
        """What the program left about why it failed."""
        path = self.output / "failure"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def packed(folder: Path) -> bytes:
    """A folder as tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return buffer.getvalue()


def _json(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except ValueError:
        return text
