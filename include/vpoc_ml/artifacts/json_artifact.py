"""Base class of the artifacts that are stored as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vpoc_ml.errors import ArtifactError, MissingInputError

JsonObject: TypeAlias = Mapping[str, JsonValue]
"""A JSON object of any content."""


class JsonArtifact(BaseModel):
    """An immutable JSON object. Unknown fields are ignored, so that files of other versions stay readable."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @classmethod
    def read(cls, path: Path, *, what: str, remedy: str) -> Self:
        """Read the artifact from a file.

        Args:
            path: the JSON file.
            what: name of the artifact, for the error message.
            remedy: what to do if the file is missing, for the error message.

        Raises:
            MissingInputError: the file does not exist.
            ArtifactError: the file is not JSON, or a field is missing or has the wrong type.
        """
        if not path.is_file():
            raise MissingInputError(path, what, remedy)
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArtifactError(path, what, f"no JSON ({error})") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ArtifactError(path, what, f"{field}: {first['msg']}") from error

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON object. Fields whose default is None are left out while they are None."""
        content: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True)
        for name, field in type(self).model_fields.items():
            if field.default is None and getattr(self, name) is None:
                del content[field.alias or name]
        return content
