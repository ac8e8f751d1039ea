"""`Section`: the base class of all tables of a recipe.

In: values from TOML. Out: a frozen object, or pydantic's error.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A table of a recipe: frozen, no unknown keys, no conversion of types, no infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
