"""Settings as nested dictionaries, merged before they are checked.

In: tables as TOML gives them. Out: one table. No function here raises: `run_config` checks the
result.
"""

from __future__ import annotations

from typing import Any

from slipform.pipelines.plan.policy import Policy
from slipform.train.config.sections import VARIANTS

__all__ = [
    "Settings",
    "current",
    "laid_over",
    "merged",
    "nested",
    "with_names",
    "without_other_variants",
]

Settings = dict[str, Any]


def nested(dotted: str, value: Any) -> Settings:
    """A setting as nested dictionaries: nested("optimizer.lr", 1) == {"optimizer": {"lr": 1}}.

    Args:
        dotted: The name of the setting, with dots.
        value: Its value.
    """
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return value


def merged(below: Settings, above: Settings) -> Settings:
    """Merge two tables recursively; neither is changed.

    Args:
        below: The settings so far.
        above: Settings that replace those of `below`.
    """
    result = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both_tables else value
    return result


def laid_over(below: Settings, above: Settings) -> Settings:
    """Like `merged`, but a new net, optimizer, schedule, loss or policy drops what it lacks.

    Args:
        below: The settings so far.
        above: Settings that replace those of `below`. All of them are kept.
    """
    below, above = current(below), current(above)
    for section in ("model", *VARIANTS):
        old, new = below.get(section), above.get(section)
        if not isinstance(old, dict) or not isinstance(new, dict):
            continue
        name = new.get("name")
        if name is None or name == old.get("name", _default_name(section)):
            continue
        if section == "model":
            kept = {k: v for k, v in old.items() if k not in ("options", "small_input")}
        else:
            kind = VARIANTS[section].get(str(name))
            kept = {k: v for k, v in old.items() if kind is None or k in kind.model_fields}
        below = {**below, section: kept}
    name = _policy(above).get("name")
    if name is not None and name != _policy(below).get("name"):
        below = _with_policy_of(below, str(name))
    return merged(below, above)


def _policy(settings: Settings) -> Settings:
    """[augment.policy]; empty if there is none."""
    augment = settings.get("augment")
    policy = augment.get("policy") if isinstance(augment, dict) else None
    return policy if isinstance(policy, dict) else {}


def _with_policy_of(settings: Settings, name: str) -> Settings:
    """The settings without those of [augment.policy] that a policy does not read."""
    table, unread = _policy(settings), Policy.unread(name)
    if unread.isdisjoint(table):
        return settings
    kept = {key: value for key, value in table.items() if key not in unread}
    return {**settings, "augment": {**settings["augment"], "policy": kept}}


def current(settings: Settings) -> Settings:
    """Rename settings with old names: data.loader becomes data.executor.

    Args:
        settings: Settings of any version.
    """
    data = settings.get("data")
    if not isinstance(data, dict) or "loader" not in data or "executor" in data:
        return settings
    return {**settings, "data": {"executor" if k == "loader" else k: v for k, v in data.items()}}


def without_other_variants(settings: Settings) -> Settings:
    """Remove the settings of optimizers, schedules, losses and policies that were not chosen.

    Version 0.1 wrote all settings of a section into run folders, also those of other names. Run
    folders have all settings of a policy.

    Args:
        settings: Settings of a run folder.
    """
    result = dict(settings)
    for section, kinds in VARIANTS.items():
        table = settings.get(section)
        if not isinstance(table, dict):
            continue
        kind = kinds.get(str(table.get("name", _default_name(section))))
        if kind is not None:
            others = {key for other in kinds.values() for key in other.model_fields}
            others -= kind.model_fields.keys()
            result[section] = {k: v for k, v in table.items() if k not in others}
    return _with_policy_of(result, str(_policy(result).get("name", Policy().name)))


def with_names(settings: Settings) -> Settings:
    """Add the default name to [optimizer], [schedule] and [loss] where the name is missing.

    Args:
        settings: Settings as TOML gives them.
    """
    result = dict(settings)
    for section in VARIANTS:
        table = settings.get(section)
        if isinstance(table, dict) and "name" not in table:
            result[section] = {"name": _default_name(section), **table}
    return result


def _default_name(section: str) -> str | None:
    return next(iter(VARIANTS[section])) if section in VARIANTS else None
