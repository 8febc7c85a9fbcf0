"""docs/messages.md for people and docs/messages.json for programs."""

import json

from .c import size_bound
from .schema import Message

ORDER = ("request", "reply", "notice", "event", "datagram", "record")


def _type(f):
    if f.type == "list":
        of = f.of.name if isinstance(f.of, Message) else f.of
        return f"list of {of}, at most {f.max}"
    if f.type == "enum":
        return " \\| ".join(f.of.values)
    if f.type == "record":
        return f.of.name
    if f.type in ("str", "bin"):
        return f"{f.type}, at most {f.max} bytes"
    if f.type == "bytes":
        return f"{f.len} bytes"
    if f.min is not None or f.max is not None:
        return f"{f.type}, {'' if f.min is None else f.min} to {'' if f.max is None else f.max}"
    return f.type


def _presence(f):
    if f.optional:
        return "optional"
    return "" if f.default is None else f"default {f.default}"


def markdown(schemas):
    out = ["# Messages", "",
           "Made by `proto/generate` from `proto/*.toml`; do not edit. A body is a MessagePack map with string keys; unknown",
           "keys are skipped. Names never die.", ""]
    for schema in schemas:
        out += [f"## {schema.daemon}", "", " ".join(schema.doc.split()), ""]
        for kind in ORDER:
            for m in (m for m in schema.messages if m.kind == kind):
                out += _message(m)
    return "\n".join(out).rstrip() + "\n"


def _message(m):
    out = [f"### `{m.name}` ({m.kind})", "", " ".join(m.doc.split())]
    if m.reply:
        out[-1] += f" Reply: `{m.reply}`."
    if m.notices:
        out[-1] += " Notices: " + ", ".join(f"`{n}`" for n in m.notices) + "."
    out[-1] += f" At most {size_bound(m)} bytes."
    if m.fields:
        out += ["", "| key | type | | meaning |", "|---|---|---|---|"]
        for f in m.fields:
            name = f.key if f.key == f.name else f"{f.key}` ({f.name})`"
            out.append(f"| `{name}` | {_type(f)} | {_presence(f)} | {' '.join(f.doc.split())} |".replace(")`` |", ") |"))
    return out + [""]


def catalogue(schemas):
    result = {}
    for schema in schemas:
        for m in schema.messages:
            result[m.name] = {
                "daemon": schema.daemon, "kind": m.kind, "doc": " ".join(m.doc.split()),
                "size_max": size_bound(m), **({"reply": m.reply} if m.reply else {}),
                **({"notices": m.notices} if m.notices else {}),
                "fields": [_field(f) for f in m.fields]}
    return json.dumps(result, indent=1) + "\n"


def _field(f):
    entry = {"key": f.key, "name": f.name, "type": f.type, "doc": " ".join(f.doc.split())}
    if f.of is not None:
        entry["of"] = f.of if isinstance(f.of, str) else f.of.name
    if f.type == "enum":
        entry["values"] = f.of.values
    for name in ("min", "max", "default"):
        if getattr(f, name) is not None:
            entry[name] = getattr(f, name)
    if f.len:
        entry["len"] = f.len
    if f.optional:
        entry["optional"] = True
    return entry
