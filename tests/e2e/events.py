# SPDX-License-Identifier: BSD-3-Clause
"""The page godwit-events(5) as a schema: every event of a migration has the fields that stand
there, of the kinds that stand there, and no others."""

import re

from godwit import ROOT

PAGE = (ROOT / "control/godwit-events.5.scd").read_text(encoding="utf-8")
KINDS = {"integer": int, "number": float, "string": str, "boolean": bool, "null": type(None),
         "object": dict}


def fields(text):
    """Field: (its kinds, may it be absent)"""
    found = re.findall(r"^\*(\w+)\* ((?:[a-z]+ ?)+?)(, optional)?\n\t", text, re.M)
    return {name: (kinds, bool(optional)) for name, kinds, optional in found}


def sections(text):
    parts = re.split(r"^## (\w+)\n", text, flags=re.M)
    return dict(zip(parts[1::2], map(fields, parts[2::2])))


COMMON = fields(PAGE.split("# EVENTS\n")[0])
EVENTS = sections(PAGE.split("# EVENTS\n")[1].split("# OBJECTS\n")[0])
OBJECTS = sections(PAGE.split("# OBJECTS\n")[1].split("# RECORDS\n")[0])
EVENTS["passed"].update(OBJECTS["passed"])


def of_kind(value, kind, where):
    """Why the value is not of that kind, as a list."""
    if kind.startswith("array of "):
        if not isinstance(value, list):
            return [f"{where} is no array"]
        return [w for i, v in enumerate(value)
                for w in of_kind(v, kind.removeprefix("array of "), f"{where}[{i}]")]
    if kind in OBJECTS:
        return compare(value, OBJECTS[kind], where)
    if isinstance(value, bool) != (kind == "boolean") or not isinstance(value, KINDS[kind]):
        return [f"{where} is {value!r}, no {kind}"]
    return []


def compare(value, wanted, where):
    if not isinstance(value, dict):
        return [f"{where} is no object"]
    wrong = [f"{where}.{name} stands not in godwit-events(5)" for name in value.keys() - wanted]
    for name, (kinds, optional) in wanted.items():
        if name not in value:
            wrong += [] if optional else [f"{where}.{name} is missing"]
            continue
        tried = [of_kind(value[name], kind, f"{where}.{name}") for kind in kinds.split(" or ")]
        wrong += [] if [] in tried else tried[0]
    return wrong


def check(event):
    kind = event["event"]
    assert kind in EVENTS, f"the event {kind} stands not in godwit-events(5)"
    assert not (wrong := compare(event, COMMON | EVENTS[kind], kind)), wrong
