"""The sink "mlflow": a run of MLflow.

In: the numbers of a run. Out: a run in the experiment, where MLFLOW_TRACKING_URI says. A resumed
run continues it: steps that it has already are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from slipform.train.records.sink import Place, Rows, Sink, required

__all__ = ["NAMES", "PACKAGE", "open_sink"]

PACKAGE = "mlflow"
NAMES = ()  # nothing: it writes elsewhere

_TAG = "slipform.key"
_AT_ONCE = 1000  # metrics in a request, MLflow's limit
_PARAMETERS = 100  # in a request, MLflow's limit


def open_sink(place: Place) -> Sink:
    """Open the sink.

    Args:
        place: The run; its key is a tag of MLflow's run.

    Raises:
        SlipformError: mlflow is not installed.
    """
    required(PACKAGE)
    return _Mlflow(place)


class _Mlflow(Sink):
    def __init__(self, place: Place) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(place.project)
        experiment = found.experiment_id if found else self._client.create_experiment(place.project)
        runs = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{place.key}'")
        if runs:
            self._id = runs[0].info.run_id
            self._client.set_terminated(self._id, "RUNNING")
            self._known = set(runs[0].data.params)
        else:
            made = self._client.create_run(experiment, tags={_TAG: place.key}, run_name=place.name)
            self._id, self._known = made.info.run_id, set[str]()
        self._last: dict[str, int] = {}

    def settings(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        # MLflow's parameters cannot change: a resumed run keeps the first ones.
        new = [Param(name, str(value)[:500]) for name, value in values.items()]
        new = [one for one in new if one.key not in self._known]
        for start in range(0, len(new), _PARAMETERS):
            self._client.log_batch(self._id, params=new[start : start + _PARAMETERS])

    def numbers(self, rows: Rows) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [
            Metric(name, float(value), now, step)
            for step, values in rows
            for name, value in values.items()
            if step > self._last_step(name)
        ]
        for start in range(0, len(new), _AT_ONCE):
            self._client.log_batch(self._id, metrics=new[start : start + _AT_ONCE])
        for metric in new:
            self._last[metric.key] = metric.step

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        self.numbers([(step, values)])

    def close(self) -> None:
        self._client.set_terminated(self._id)

    def _last_step(self, name: str) -> int:
        """The last step of a number that MLflow has; 0: none."""
        if name not in self._last:
            history = self._client.get_metric_history(self._id, name)
            self._last[name] = max((one.step for one in history), default=0)
        return self._last[name]
