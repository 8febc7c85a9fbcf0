"""Reads proto/*.toml and checks them; everything else is made from these objects."""

import re
import tomllib
from dataclasses import dataclass, field

KINDS = ("request", "reply", "notice", "event", "datagram", "record")
UNSIGNED = {"u8": 8, "u16": 16, "u32": 32, "u64": 64}
SCALARS = {"bool", "i64", "f64", *UNSIGNED}
TYPES = SCALARS | {"str", "bytes", "bin", "enum", "record", "list"}
FIELD_KEYS = {"name", "type", "key", "doc", "min", "max", "len", "of", "item_max", "item_len",
              "optional", "default"}


class SchemaError(Exception):
    """A fault in a schema, with its place."""


@dataclass(eq=False)
class Enum:
    name: str
    doc: str
    values: list

    def c_name(self, daemon):
        return f"msg_{daemon}_{self.name}"


@dataclass(eq=False)
class Field:
    name: str
    type: str
    doc: str
    key: str
    of: object = None          # Enum or Message, or the name of a scalar in a list
    min: object = None
    max: object = None
    len: int = 0
    item_max: int = 0
    item_len: int = 0
    optional: bool = False
    default: object = None

    @property
    def required(self):
        return not self.optional and self.default is None


@dataclass(eq=False)
class Message:
    name: str
    kind: str
    doc: str
    fields: list
    daemon: str
    reply: str = ""
    notices: list = field(default_factory=list)

    @property
    def c_name(self):
        return "msg_" + self.name.replace(".", "_")

    @property
    def macro(self):
        return self.c_name.upper()


@dataclass(eq=False)
class Schema:
    daemon: str
    doc: str
    enums: dict
    messages: list


def load(path, shared=None):
    """One schema; shared gives the records of common.toml."""
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except tomllib.TOMLDecodeError as fault:
        raise SchemaError(f"{path}: {fault}") from None
    try:
        return _schema(data, shared)
    except (KeyError, SchemaError) as fault:
        what = f"missing {fault}" if isinstance(fault, KeyError) else fault
        raise SchemaError(f"{path}: {what}") from None


def load_all(directory):
    """All schemas of a folder, common.toml first."""
    common = load(directory / "common.toml")
    others = sorted(p for p in directory.glob("*.toml") if p.name != "common.toml")
    schemas = [common] + [load(path, common) for path in others]
    _check_references(schemas)
    return schemas


def _schema(data, shared):
    daemon = data["daemon"]
    enums = {}
    for e in data.get("enum", []):
        if len(set(e["values"])) != len(e["values"]) or not e["values"]:
            raise SchemaError(f"enum {e['name']}: values must differ, at least one")
        enums[e["name"]] = Enum(e["name"], e["doc"], e["values"])
    records = {m.name: m for m in shared.messages if m.kind == "record"} if shared else {}
    messages = []
    for m in data.get("message", []):
        message = _message(m, daemon, enums, records)
        if any(message.name == other.name for other in messages):
            raise SchemaError(f"{message.name}: defined twice")
        messages.append(message)
        if message.kind == "record":
            records[message.name] = message
    return Schema(daemon, data["doc"], enums, messages)


def _message(m, daemon, enums, records):
    name = m["name"]
    if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", name):
        raise SchemaError(f"{name}: a name is area.what in lower case")
    if m["kind"] not in KINDS:
        raise SchemaError(f"{name}: kind is one of {' '.join(KINDS)}")
    fields = [_field(name, f, enums, records) for f in m.get("fields", [])]
    for what in ("name", "key"):
        values = [getattr(f, what) for f in fields]
        if len(set(values)) != len(values):
            raise SchemaError(f"{name}: two fields with one {what}")
    if len(fields) > 64:
        raise SchemaError(f"{name}: more than 64 fields")
    return Message(name, m["kind"], m["doc"], fields, daemon, m.get("reply", ""), m.get("notices", []))


def _field(message, f, enums, records):
    where = f"{message}: {f.get('name', '?')}"
    if unknown := set(f) - FIELD_KEYS:
        raise SchemaError(f"{where}: unknown {' '.join(sorted(unknown))}")
    if f["type"] not in TYPES:
        raise SchemaError(f"{where}: type is one of {' '.join(sorted(TYPES))}")
    of = f.get("of")
    if f["type"] == "enum":
        if of not in enums:
            raise SchemaError(f"{where}: no enum {of}")
        of = enums[of]
    elif f["type"] in ("record", "list") and of not in SCALARS | {"str", "bytes"}:
        if of not in records:
            raise SchemaError(f"{where}: no record {of} before this message")
        of = records[of]
    result = Field(f["name"], f["type"], f["doc"], f.get("key", f["name"]), of,
                   f.get("min"), f.get("max"), f.get("len", 0), f.get("item_max", 0),
                   f.get("item_len", 0), f.get("optional", False), f.get("default"))
    _check_limits(where, result)
    return result


def _check_limits(where, f):
    if f.type in ("str", "bin", "list") and not f.max:
        raise SchemaError(f"{where}: {f.type} needs max")
    if f.type == "bytes" and not f.len:
        raise SchemaError(f"{where}: bytes needs len")
    if f.type == "list" and f.of == "str" and not f.item_max:
        raise SchemaError(f"{where}: a list of str needs item_max")
    if f.type == "list" and f.of == "bytes" and not f.item_len:
        raise SchemaError(f"{where}: a list of bytes needs item_len")
    if f.optional and f.default is not None:
        raise SchemaError(f"{where}: optional or default, not both")
    if f.default is not None and f.type not in SCALARS | {"str", "enum"}:
        raise SchemaError(f"{where}: {f.type} takes no default")
    if f.type == "enum" and f.default is not None and f.default not in f.of.values:
        raise SchemaError(f"{where}: default is not among the values")


def _check_references(schemas):
    names = {m.name for s in schemas for m in s.messages}
    seen = {}
    for s in schemas:
        for m in s.messages:
            if m.name in seen:
                raise SchemaError(f"{s.daemon}.toml: {m.name} is also in {seen[m.name]}.toml")
            seen[m.name] = s.daemon
            for other in [m.reply, *m.notices]:
                if other and other not in names:
                    raise SchemaError(f"{s.daemon}.toml: {m.name}: no message {other}")
            if m.kind == "request" and not m.reply:
                raise SchemaError(f"{s.daemon}.toml: {m.name}: a request names its reply")
