"""Record what a classifier was asked, and write it to a file in pybioclip's formats."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from linnaea import __version__


def is_json_file(path: str) -> bool:
    """Tell whether a log is written as JSON."""
    return str(path).endswith(".json")


def verify_recorder_path(path: str) -> bool:
    """Check that a log can be written: a JSON file must be new, and text is appended.

    Raises:
        ValueError: the JSON file exists.
    """
    if is_json_file(path) and Path(path).exists():
        raise ValueError(f"File {path} already exists. Please choose a different file name.")
    return True


def attach_prediction_recorder(classifier: Any, **top_level_settings: Any) -> "PredictionRecorder":
    """Return a recorder of all further predictions of a classifier; the settings are written into the log."""
    recorder = PredictionRecorder(classifier, **top_level_settings)
    classifier.set_recorder(recorder)
    return recorder


def save_recorded_predictions(classifier: Any, path: str, include_command_line: bool = True) -> None:
    """Write what the attached recorder holds.

    Raises:
        ValueError: the classifier has no recorder, or the JSON file exists.
    """
    if not classifier.recorder:
        raise ValueError("The classifier does not have a recorder attached.")
    classifier.recorder.create_report(path, command_line=" ".join(sys.argv) if include_command_line else None)


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")


class PredictionRecorder:
    """The photographs and options of a classifier's predictions."""

    def __init__(self, classifier: Any, **top_level_settings: Any) -> None:
        self.model_str: str = classifier.model_str
        self.pretrained_str: str | None = classifier.pretrained_str
        self.device = str(classifier.device)
        self.predictions: list[dict[str, Any]] = []
        self.top_level_settings = top_level_settings
        self.start = _now()
        self.end: str | None = None

    def add_prediction(self, images: Sequence[str], **details: Any) -> None:
        """Add the photographs and options of one call."""
        self.predictions.append({"images": list(images), "details": details})
        self.end = _now()

    def create_report(self, path: str, command_line: str | None) -> None:
        """Write the log (:class:`PredictionLogReport`)."""
        PredictionLogReport(self, command_line).save(path)


class PredictionLogReport:
    """A log of predictions, as JSON or as text for people."""

    def __init__(self, recorder: PredictionRecorder, command_line: str | None) -> None:
        self.recorder = recorder
        self.start, self.end = recorder.start, recorder.end
        self.command_line = command_line

    def create_dictionary(self) -> dict[str, Any]:
        """Return the log with pybioclip's keys; the version is that of Linnaea."""
        return {
            "pybioclip_version": f"linnaea {__version__}",
            "start": self.start,
            "end": self.end,
            "command_line": self.command_line,
            "model": self.recorder.model_str,
            "pretrained": self.recorder.pretrained_str,
            "device": self.recorder.device,
            "top_level_settings": self.recorder.top_level_settings,
            "predictions": self.recorder.predictions,
        }

    @staticmethod
    def format_key(key: str) -> str:
        """Return the name of an option for people: ``batch_size`` is ``Batch Size``."""
        return " ".join(word.capitalize() for word in key.split("_"))

    def save(self, path: str) -> None:
        """Write the log: a new JSON file if the name ends in ``.json``, else text that is appended.

        Raises:
            ValueError: the JSON file exists.
        """
        verify_recorder_path(path)
        if is_json_file(path):
            Path(path).write_text(json.dumps(self.create_dictionary(), indent=4), encoding="utf-8")
            return
        with Path(path).open("a", encoding="utf-8") as log:
            log.write("\n".join([*self._lines(), "", ""]))

    def _lines(self) -> list[str]:
        title = f"** Prediction Log - linnaea v{__version__} (as pybioclip) - {self.start} to {self.end} **"
        about = {"command_line": self.command_line, "model": self.recorder.model_str,
                 "pretrained": self.recorder.pretrained_str, "device": self.recorder.device,
                 **self.recorder.top_level_settings}  # fmt: skip
        lines = ["*" * len(title), title, "*" * len(title), *self._named(about)]
        for one in self.recorder.predictions:
            lines += [*self._named(one["details"]), "Images:", *map(str, one["images"])]
        return lines

    def _named(self, values: dict[str, Any]) -> list[str]:
        return [f"{self.format_key(key)}: {value}" for key, value in values.items() if value is not None]
