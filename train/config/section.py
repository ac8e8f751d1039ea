"""`Section`: the base class of all tables of a recipe.

In: values from TOML. Out: a frozen object, or pydantic's error.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ByClass", "Section"]

# A table with names of classes, such as { cat = 2.0 }; other classes have 1.
ByClass = dict[str, Annotated[float, Field(ge=0)]]


class Section(BaseModel):
    """A table of a recipe: frozen, no unknown keys, no conversion of types, no infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
