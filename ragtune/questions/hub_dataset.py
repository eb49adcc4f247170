"""Datasets on the Hugging Face hub as URIs: `hf://owner/name`, and what may stand behind it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from ragtune.errors import StorageError

_PREFIX = "hf://"
_REVISION = r"(?:@(refs/(?:convert|pr)/[^/]+|(?!refs/)[^/]+))?"
_FILES = re.compile(rf"datasets/[^/@]+/[^/@]+{_REVISION}/[^/].*")
_DATASET = re.compile(rf"(?:datasets/)?([^/@]+(?:/[^/@]+)?){_REVISION}")
_OPTIONS = ("split", "config", "revision")


@dataclass(frozen=True)
class HubDataset:
    """A dataset as a whole, read by the package datasets.

    Attributes:
        uri: as it was given.
        name: `owner/name`, or a local folder.
        options: those of split, config and revision that the URI names.
    """

    uri: str
    name: str
    options: dict[str, str]

    @classmethod
    def parse(cls, uri: str) -> "HubDataset | None":
        """Parse `hf://[datasets/]owner/name[@revision][?split=…&config=…&revision=…]`.

        Returns:
            None for any other URI, such as one of files in a dataset, `hf://datasets/owner/name[@revision]/file`,
            which fsspec reads.

        Raises:
            StorageError: an option is unknown.
        """
        place, _, query = uri.removeprefix(_PREFIX).partition("?")
        if not uri.startswith(_PREFIX) or _FILES.fullmatch(place):
            return None
        options = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
        if unknown := options.keys() - set(_OPTIONS):
            raise StorageError(f"{uri}: no such option {sorted(unknown)}; there are {', '.join(_OPTIONS)}")
        if Path(place).is_absolute():
            return cls(uri, place, options)
        dataset = _DATASET.fullmatch(place)
        if not dataset:
            raise StorageError(f"{uri}: a dataset is hf://owner/name; a file in it hf://datasets/owner/name/file")
        return cls(uri, dataset[1], {"revision": dataset[2], **options} if dataset[2] else options)

    @property
    def is_local(self) -> bool:
        """Tell whether it is a folder on this machine."""
        return Path(self.name).is_absolute()

    def commit(self) -> str:
        """Ask the hub for the commit that it stands at.

        Raises:
            StorageError: the hub cannot be reached, or has no such dataset or revision.
        """
        from huggingface_hub import HfApi

        try:
            return str(HfApi().dataset_info(self.name, revision=self.options.get("revision")).sha)
        except Exception as error:  # what the client raises for a lost connection changes with its HTTP library
            raise StorageError(
                f"{self.uri}: the Hugging Face hub did not say which commit it stands at: {error}"
            ) from error

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Stream its rows with their numbers from 1; the split is "train" unless given.

        Raises:
            StorageError: it cannot be opened, or the stream breaks off.
        """
        try:
            import datasets
        except ImportError as error:
            raise StorageError(f'{self.uri}: needs the package datasets; pip install "ragtune[train]"') from error
        number = 0
        try:
            rows = datasets.load_dataset(
                self.name,
                self.options.get("config"),
                split=self.options.get("split", "train"),
                revision=self.options.get("revision"),
                streaming=True,
            )
            for number, value in enumerate(rows, 1):
                yield number, value
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            place = f"stopped after row {number:,}" if number else "cannot be opened"
            raise StorageError(
                f"{self.uri}: {place} ({type(error).__name__}: {error}); check the dataset's id, split and config,"
                " the network, and HF_TOKEN where it is private"
            ) from error
