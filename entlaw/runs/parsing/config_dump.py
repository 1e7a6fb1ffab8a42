"""Configuration from what a log says before its first record: verl's printed config, Hydra's overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from entlaw.runs.parsing.literal import LiteralError, parse_literal
from entlaw.runs.parsing.text import strip_ansi
from entlaw.runs.table import flatten, parse_number

PREAMBLE_BYTES = 1 << 20  # a printed config is some 20 kB; what comes after a megabyte is model output
_MOST_LINES = 4000
_MOST_DUMPS = 40
# Ray's "(TaskRunner pid=14640, ip=10.0.0.1) " and the like.
_RAY = re.compile(r"\((?:[\w.:-]+ ){0,3}pid=\d+[^)\n]{0,80}\) ?")
_PREFIX = re.compile(_RAY.pattern + r"|\[rank\d+\]:? ?|\d{4}-\d\d-\d\d[ T][\d:,.]+\S* +(?:- )?")
_OVERRIDE = re.compile(
    r"""(?:^|(?<=[\s"']))\+{0,2}([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)=("[^"]*"|'[^']*'|\[[^\]]*\]|[^\s"'\\]+)"""
)
_KEY = re.compile(r"'([^']*)': ({)?")
_VERL_ROOTS = ("data.", "actor_rollout_ref.", "critic.", "algorithm.", "trainer.", "reward_model.", "reward.")


def config_from_preamble(preamble: bytes) -> dict[str, Any]:
    """Read the configuration.

    Parameters
    ----------
    preamble : bytes
        What the log holds before its first record.

    Returns
    -------
    dict
        Flat, keys joined by ``.``. A printed config holds for more than an override: it is what was resolved.
    """
    if b"=" not in preamble and b"{'" not in preamble:
        return {}
    raw = strip_ansi(preamble).decode("utf-8", errors="replace")
    # Lines of several processes run into one another: each Ray prefix begins a line of its own.
    raw = _RAY.sub(lambda m: "\n" + m.group(), raw.replace("\r", "\n"))
    split = [_split_prefix(line) for line in raw.split("\n")]
    config = _overrides([line for _, line in split])
    config.update(_dumps(split))
    return config


def _split_prefix(line: str) -> tuple[str, str]:
    prefix = _PREFIX.match(line)
    if prefix is None:
        return "", line
    told = prefix.group()  # which process printed the line; a time stamp does not tell
    return told if told[0] in "([" else "time", line[prefix.end() :]


def _overrides(lines: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for line in lines:
        if "=" not in line or len(line) > 100_000:
            continue
        found = _OVERRIDE.findall(line)
        # One stray `a.b=c` is code or prose; verl's own sections, or a line full of them, is a command.
        if len(found) >= 3 or any(key.startswith(_VERL_ROOTS) for key, _ in found):
            config.update((key, _scalar(value)) for key, value in found)
    return config


def _scalar(text: str) -> Any:
    text = text.strip("\"'")
    if text in ("True", "true", "False", "false"):
        return text in ("True", "true")
    if text in ("None", "null"):
        return None
    number = parse_number(text)
    if number is None:
        return text
    return int(text) if text.lstrip("+-").isdigit() and len(text) < 18 else number


def _dumps(split: list[tuple[str, str]]) -> dict[str, Any]:
    """Dictionaries printed over several lines; lines of other processes between them are passed over."""
    config: dict[str, Any] = {}
    tried, i = 0, 0
    while i < len(split) and tried < _MOST_DUMPS:
        prefix, line = split[i]
        if line.lstrip().startswith("{'"):
            tried += 1
            told, used = _one_dump(split[i : i + _MOST_LINES], prefix)
            config = {**told, **config}
            i += used
        else:
            i += 1
    return config


def _one_dump(split: list[tuple[str, str]], prefix: str) -> tuple[dict[str, Any], int]:
    mine = [(i, line) for i, (p, line) in enumerate(split) if p == prefix]
    text = "\n".join(line for _, line in mine)
    try:
        value, end = parse_literal(text, 0)
        if text[end:].split("\n", 1)[0].strip():
            raise LiteralError("text behind the closing brace: a line that opens a section is missing")
    except LiteralError:
        told, n = _by_columns([line for _, line in mine])
        return told, mine[n - 1][0] + 1
    used = mine[text.count("\n", 0, end)][0] + 1
    # A configuration has sections; a flat dictionary in a preamble is anything (a sample, a progress note).
    if not isinstance(value, Mapping) or not any(isinstance(v, Mapping) for v in value.values()):
        return {}, used
    return dict(flatten(value)), used


def _by_columns(lines: list[str]) -> tuple[dict[str, Any], int]:
    """A printed dictionary with lines missing: pprint puts a key right of its section's, so columns tell.

    Returns the flat configuration and the number of lines that belong to it.
    """
    config: dict[str, Any] = {}
    sections: list[tuple[int, str]] = []
    for n, line in enumerate(lines):
        text = line.strip()
        if n and not (line.startswith(" ") and text[:1] in "'\"{"):
            return config, n
        for found in _KEY.finditer(line):
            column, key, opens = found.start(), found.group(1), found.group(2)
            while sections and sections[-1][0] >= column:
                sections.pop()
            if opens:
                sections.append((column, key))
                continue
            try:
                value, _ = parse_literal(line, found.end())
            except LiteralError:
                continue
            if sections:
                config[".".join([k for _, k in sections] + [key])] = value
    return config, len(lines)
