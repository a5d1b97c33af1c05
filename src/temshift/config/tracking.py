"""Where finished runs are listed beside each other: MLflow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from temshift.config.base import Strict

__all__ = ["TrackingParameters"]


class TrackingParameters(Strict):
    """Whether runs are listed in a database of MLflow (``tracking``).

    Attributes
    ----------
    mlflow : bool
        Needs the extra ``tracking``.
    database : str
        SQLite file, relative to the project.
    experiment : str
        Name under which MLflow lists the runs.
    """

    mlflow: bool = False
    database: Annotated[str, Field(min_length=1)] = "data/mlflow.db"
    experiment: Annotated[str, Field(min_length=1)] = "temshift"

    @model_validator(mode="after")
    def _is_a_file(self) -> TrackingParameters:
        if self.mlflow and "://" in self.database:
            raise ValueError(
                f"'database' is {self.database}, but SQLite writes to a file of this machine only: "
                "give it a path, such as mlflow.db"
            )
        return self
