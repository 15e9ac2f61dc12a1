"""`python -m memscale.tracking.serve DESCRIPTOR`: MLflow's server on a bound socket, behind a key, over one folder.

The environment says the rest (`memscale.tracking.ui.server_command`): the store, the folder of artifacts, and the key,
which neither the command line nor a log holds.

MLflow reads and writes the artifacts of a run wherever its experiment says that they are, and whoever may make an
experiment says where: `file:///home/me/.ssh`, an SFTP server. Here artifacts lie in the one folder that is served;
any other place is refused. Within it MLflow itself follows no link and no `..` outwards.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import uvicorn
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from memscale.tracking.key import KeyRequired
from memscale.tracking.output import scrub_output

KEY = "MEMSCALE_UI_KEY"
STORE, ARTIFACTS = "_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
"""As MLflow's own command calls them between its processes (mlflow.server.constants)."""


def main() -> None:
    """Serve until a signal."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    key = os.environ.pop(KEY)  # no child shall have it
    scrub_output(os.environ[STORE])
    confine(Path(unquote(urlsplit(os.environ[ARTIFACTS]).path)))
    from mlflow.server.fastapi_app import app  # it reads the environment

    guarded = KeyRequired(app, key, cookie=f"memscale-ui-{listening.getsockname()[1]}")
    config = uvicorn.Config(
        guarded,
        interface="asgi3",
        access_log=False,  # it would hold the key
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listening])


def confine(root: Path) -> None:
    """Let this process use no artifacts but those in `root`: every other place is refused."""
    resolved = root.resolve()

    class Confined(LocalArtifactRepository):
        """Artifacts in a folder below the root."""

        def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
            super().__init__(artifact_uri, tracking_uri, registry_uri)
            if not Path(self.artifact_dir).resolve().is_relative_to(resolved):
                raise MlflowException(
                    f"artifacts at {artifact_uri} are outside {resolved}, the folder that this server shows",
                    error_code=PERMISSION_DENIED,
                )

    registry = artifact_repository_registry._artifact_repository_registry
    registry._registry = {"": Confined, "file": Confined, "mlflow-artifacts": MlflowArtifactsRepository}


if __name__ == "__main__":
    main()
