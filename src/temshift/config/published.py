"""The data and networks of the published study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from temshift.config.base import NAME, Strict

__all__ = ["DownloadParameters", "ImportParameters"]


class DownloadParameters(Strict):
    """What is fetched before curation (``download``); from where, the catalog says.

    Attributes
    ----------
    table : str
        File name of the metadata table.
    """

    table: str


class ImportParameters(Strict):
    """The trained networks of the published study (``import_published``).

    Attributes
    ----------
    model_list : str
        File name of the study's list of weight files.
    networks : dict of str to str
        Name of a network here: the set it was trained on, as the model list names it.
    """

    model_list: str
    networks: dict[Annotated[str, Field(pattern=NAME)], str] = Field(min_length=1)
