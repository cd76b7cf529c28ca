"""A configuration written as TOML: the inverse of ``tilefleet.config.parse``, for the values that differ from the defaults."""

from __future__ import annotations

import json

import msgspec

from tilefleet.config import Config


def to_toml(config: Config) -> str:
    """TOML text that parses to an equal configuration."""
    lines = []
    for field in msgspec.structs.fields(Config):
        section = getattr(config, field.name)
        keys = [
            f"{key} = {_literal(value)}"
            for key, value in msgspec.structs.asdict(section).items()
            if value != getattr(field.default, key)
        ]
        if keys:
            lines += [f"[{field.name}]", *keys, ""]
    return "\n".join(lines)


def _literal(value: object) -> str:
    """A JSON string, integer or boolean is the same in TOML, but for DEL, which JSON does not escape."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
