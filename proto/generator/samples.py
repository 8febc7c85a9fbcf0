"""Sample values of each message, their bytes by an independent packer, and C that builds them.

The packer here knows nothing of the C code, so a vector that both agree on says something.
"""

import struct

from .c import enum_constant
from .schema import SCALARS, UNSIGNED, Message


def pack(value):
    """MessagePack, the shortest form, as msgpack-c writes it."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        n = len(data)
        if n < 32:
            return bytes([0xa0 | n]) + data
        return _length(n, (0xd9, 0xda, 0xdb)) + data
    if isinstance(value, bytes):
        return _length(len(value), (0xc4, 0xc5, 0xc6)) + value
    if isinstance(value, list):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + struct.pack(">H", len(value))
        return head + b"".join(map(pack, value))
    head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xde" + struct.pack(">H", len(value))
    return head + b"".join(pack(k) + pack(v) for k, v in value.items())


def _length(n, tags):
    if n < 256:
        return bytes([tags[0], n])
    if n < 65536:
        return struct.pack(">BH", tags[1], n)
    return struct.pack(">BI", tags[2], n)


def _pack_int(value):
    if 0 <= value < 128 or -32 <= value < 0:
        return struct.pack(">b" if value < 0 else ">B", value)
    forms = [(0xcc, "B"), (0xcd, "H"), (0xce, "I"), (0xcf, "Q")] if value >= 0 else \
            [(0xd0, "b"), (0xd1, "h"), (0xd2, "i"), (0xd3, "q")]
    for tag, form in forms:
        try:
            return bytes([tag]) + struct.pack(">" + form, value)
        except struct.error:
            continue
    raise ValueError(value)


def _number(kind, f, salt):
    low = f.min if f.min is not None and f.type != "list" else 0
    high = f.max if f.max is not None and f.type != "list" else None
    if kind == "f64":
        return float(low) + (0.25 if high is None else (high - low) * 0.25)
    top = 2 ** UNSIGNED.get(kind, 63) - 1 if high is None else int(high)
    return min(int(low) + (salt * 2654435761) % (2 ** 40), top)


def sample_value(kind, f, salt):
    if kind == "bool":
        return True
    if kind in SCALARS:
        return _number(kind, f, salt)
    if kind == "str":
        limit = f.item_max if f.type == "list" else f.max
        return (f.name.replace("_", "-") + str(salt))[:limit]
    if kind == "bytes":
        size = f.item_len if f.type == "list" else f.len
        return bytes((salt + i) % 256 for i in range(size))
    if kind == "bin":
        return bytes((salt * 7 + i) % 256 for i in range(min(f.max, 40)))
    if kind == "enum":
        return f.of.values[-1]
    record = kind if isinstance(kind, Message) else f.of
    return sample(record)


def sample(message):
    """A map by wire keys with every field present."""
    result = {}
    for salt, f in enumerate(message.fields, 1):
        if f.type == "list":
            result[f.key] = [sample_value(f.of, f, salt + i) for i in range(min(f.max, 2))]
        else:
            result[f.key] = sample_value(f.type, f, salt)
    return result


def _text(value):
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _c_value(daemon, kind, f, value, target):
    if kind == "bool":
        return f"\t{target} = {'true' if value else 'false'};\n"
    if kind == "f64":
        return f"\t{target} = {value!r};\n"
    if kind in UNSIGNED:
        return f"\t{target} = {value}{'ull' if kind == 'u64' else 'u'};\n"
    if kind == "i64":
        return f"\t{target} = {value}ll;\n"
    if kind == "str":
        return f'\tsnprintf({target}, sizeof({target}), "%s", {_text(value)});\n'
    if kind in ("bytes", "bin"):
        array = ", ".join(str(b) for b in value)
        out = f"\t{{\n\t\tstatic const uint8_t bytes[] = {{{array}}};\n\n"
        if kind == "bytes":
            return out + f"\t\tmemcpy({target}, bytes, sizeof(bytes));\n\t}}\n"
        return out + f"\t\t{target} = bytes;\n\t\t{target}_size = sizeof(bytes);\n\t}}\n"
    if kind == "enum":
        return f"\t{target} = {enum_constant(daemon, f.of, value)};\n"
    record = kind if isinstance(kind, Message) else f.of
    return f"\tmake_{record.c_name}(&{target});\n"


def c_builder(message):
    """A C function that fills the struct with the sample."""
    out = f"static __attribute__((unused)) void make_{message.c_name}(struct {message.c_name} *m)\n{{\n"
    out += "\tmemset(m, 0, sizeof(*m));\n"
    values = sample(message)
    for f in message.fields:
        value = values[f.key]
        if f.optional:
            out += f"\tm->has_{f.name} = true;\n"
        if f.type == "list":
            out += f"\tm->{f.name}.count = {len(value)};\n"
            for i, item in enumerate(value):
                out += _c_value(message.daemon, f.of, f, item, f"m->{f.name}.item[{i}]")
        else:
            out += _c_value(message.daemon, f.type, f, value, f"m->{f.name}")
    return out + "}\n"
