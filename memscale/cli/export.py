"""`memscale export SWEEP RUN FOLDER`: a finished run's final weights as a folder that `transformers` loads."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from memscale.cli import arguments
from memscale.errors import DataError, RecordError
from memscale.launch.planned import chosen_runs
from memscale.launch.states import read_state
from memscale.records.layout import RunPaths
from memscale.records.run_file import RunFile, read_run_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    parser.add_argument("run", metavar="RUN", help="a finished run's name")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to; absent or empty")
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    paths, file = _finished(given.sweep, given.run)
    from memscale.data.prepared import Prepared
    from memscale.export.folder import check_free, write_folder
    from memscale.export.hugging_face import CLASSES, hugging_face_type, mapped
    from memscale.launch.budget_data import data_of_run
    from memscale.training.building import build_model
    from memscale.training.checkpoint import load_weights

    trained = file.run
    kind = hugging_face_type(trained.architecture)
    check_free(given.folder)
    prepared = Prepared.open(data_of_run(paths, trained.digests))
    prepared.verify_once()
    if prepared.digests.tokenizer != trained.digests.tokenizer:
        raise DataError(
            f"{prepared.folder} holds another tokenizer than {file.name} was trained with; prepare it again"
        )
    model = build_model(trained)
    step = load_weights(paths.checkpoints, trained, model)
    if step != trained.num_steps:
        raise RecordError(
            f"the newest checkpoint of {file.name} is of step {step} of {trained.num_steps}: its final weights are gone"
        )
    content = mapped(model, sequence_length=trained.sequence_length, end_id=prepared.tokenizer().end_id)
    content.config["memscale"] = {"sweep": file.sweep, "run": file.name, "run_id": file.run_id, "step": step}
    write_folder(given.folder, content, prepared.folder / "tokenizer.json")
    if given.json:
        plain = {"format": 1, "run_id": file.run_id, "step": step, "folder": str(given.folder.absolute())}
        print(json.dumps({**plain, "type": CLASSES[kind]}, indent=1))
    else:
        print(f"{file.name} after {step} steps is now a {CLASSES[kind]} in {given.folder}")
    return 0


def _finished(sweep: str, name: str) -> tuple[RunPaths, RunFile]:
    """The folder and file of a run that is done. Raises RecordError for any other."""
    chosen = chosen_runs(sweep, name)
    seen = read_state(chosen[0][1]) if chosen else None
    if seen is None or seen.state != "done":
        state, why = ("planned", "") if seen is None else (seen.state, f" ({seen.evidence})" if seen.evidence else "")
        raise RecordError(
            f"run '{name}' of {sweep} is {state}{why}; only a finished run is exported. See: make status SWEEP={sweep}"
        )
    paths = chosen[0][1]
    return paths, read_run_file(paths.run)
