"""C codecs: a struct, a packer over msgpack-c, a bounded unpacker over common/mpr.h."""

from .schema import UNSIGNED, SCALARS, Enum, Message

NOTE = "/* Made by proto/generate from proto/{0}.toml; do not edit. */\n"
C_TYPE = {"bool": "bool", "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t",
          "u64": "uint64_t", "i64": "int64_t", "f64": "double"}


def enum_constant(daemon, enum, value):
    return f"{enum.c_name(daemon)}_{value}".upper().replace("-", "_")


def _comment(text, indent=""):
    return f"{indent}/* {' '.join(text.split())} */\n"


def _declare(message, f):
    """The struct members of a field."""
    out = _comment(f.doc, "\t")
    if f.optional:
        out += f"\tbool has_{f.name};\n"
    if f.type in SCALARS:
        return out + f"\t{C_TYPE[f.type]} {f.name};\n"
    if f.type == "str":
        return out + f"\tchar {f.name}[{f.max} + 1];\n"
    if f.type == "bytes":
        return out + f"\tuint8_t {f.name}[{f.len}];\n"
    if f.type == "bin":
        return out + f"\tconst uint8_t *{f.name};\n\tsize_t {f.name}_size;\n"
    if f.type == "enum":
        return out + f"\tenum {f.of.c_name(message.daemon)} {f.name};\n"
    if f.type == "record":
        return out + f"\tstruct {f.of.c_name} {f.name};\n"
    if isinstance(f.of, Message):
        item = f"struct {f.of.c_name} item[{f.max}]"
    elif f.of == "str":
        item = f"char item[{f.max}][{f.item_max} + 1]"
    elif f.of == "bytes":
        item = f"uint8_t item[{f.max}][{f.item_len}]"
    else:
        item = f"{C_TYPE[f.of]} item[{f.max}]"
    return out + f"\tstruct {{\n\t\tsize_t count;\n\t\t{item};\n\t}} {f.name};\n"


def _str_bound(n):
    return n + (1 if n < 32 else 2 if n < 256 else 3 if n < 65536 else 5)


def _bin_bound(n):
    return n + (2 if n < 256 else 3 if n < 65536 else 5)


def _value_bound(kind, f):
    """The largest packed size of one value."""
    if kind in SCALARS:
        return 1 if kind == "bool" else 9
    if kind == "str":
        return _str_bound(f.item_max if f.type == "list" else f.max)
    if kind == "bytes":
        return _bin_bound(f.item_len if f.type == "list" else f.len)
    if kind == "bin":
        return _bin_bound(f.max)
    if kind == "enum":
        return max(_str_bound(len(v)) for v in f.of.values)
    return size_bound(kind if isinstance(kind, Message) else f.of)


def size_bound(message):
    total = 1 if len(message.fields) < 16 else 3
    for f in message.fields:
        total += _str_bound(len(f.key))
        if f.type == "list":
            total += (1 if f.max < 16 else 3 if f.max < 65536 else 5) + f.max * _value_bound(f.of, f)
        else:
            total += _value_bound(f.type, f)
    return total


def header(schema):
    guard = f"PROTO_{schema.daemon.upper()}_H"
    out = NOTE.format(schema.daemon) + _comment(schema.doc)
    out += f"#ifndef {guard}\n#define {guard}\n\n#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
    out += '#include "common/buf.h"\n#include "common/mpr.h"\n'
    if schema.daemon != "common":
        out += '#include "proto/common.h"\n'
    for enum in schema.enums.values():
        name = enum.c_name(schema.daemon)
        out += "\n" + _comment(enum.doc) + f"enum {name} {{\n"
        out += "".join(f"\t{enum_constant(schema.daemon, enum, v)},\n" for v in enum.values)
        out += "};\n"
        out += f"const char *{name}_name(enum {name} value);\n"
    for m in schema.messages:
        out += "\n" + _comment(f"{m.kind}: {m.doc}")
        out += f'#define {m.macro} "{m.name}"\n#define {m.macro}_SIZE_MAX {size_bound(m)}\n'
        out += f"struct {m.c_name} {{\n"
        out += "".join(_declare(m, f) for f in m.fields) or "\tchar unused;\n"
        out += "};\n"
        out += f"int {m.c_name}_pack(const struct {m.c_name} *m, struct buf *out);\n"
        out += (f"int {m.c_name}_unpack(struct {m.c_name} *m, const void *data, size_t size,\n"
                f"    struct mpr_error *error);\n")
        out += f"int {m.c_name}_read(struct {m.c_name} *m, struct mpr *reader);\n"
    return out + "\n#endif\n"


def _number(f, value):
    kind = f.type if f.type != "list" else f.of
    if kind == "f64":
        return repr(float(value))
    if kind in UNSIGNED:
        return f"{value}u" if value < 2**32 else f"{value}ull"
    return f"{value}ll" if abs(value) >= 2**31 else str(value)


def _limits(f, value, type_limit):
    """A C condition that is true when value is out of its limits, or "". """
    tests = []
    if f.type == "f64":
        tests.append(f"isnan({value})")
    if f.min is not None and not (f.type in UNSIGNED and f.min == 0):
        tests.append(f"{value} < {_number(f, f.min)}")
    if f.max is not None:
        tests.append(f"{value} > {_number(f, f.max)}")
    elif type_limit and f.type in UNSIGNED and f.type != "u64":
        tests.append(f"{value} > UINT{UNSIGNED[f.type]}_MAX")
    return " || ".join(tests)


def _pack_value(daemon, kind, f, value, size=None):
    if kind in UNSIGNED:
        return f"pack_u64(out, {value})"
    if kind in SCALARS:
        return f"pack_{kind}(out, {value})"
    if kind == "str":
        return f"pack_str(out, {value})"
    if kind == "bytes":
        return f"pack_bin(out, {value}, {f.item_len if f.type == 'list' else f.len})"
    if kind == "bin":
        return f"pack_bin(out, {value}, {value}_size)"
    if kind == "enum":
        return f"pack_str(out, {f.of.c_name(daemon)}_name({value}))"
    record = kind if isinstance(kind, Message) else f.of
    return f"{record.c_name}_pack(&{value}, out)"


def _pack_check(daemon, f):
    """What must hold before a field is packed."""
    at = f"m->{f.name}"
    if f.type in SCALARS and f.type != "bool":
        return _limits(f, at, False)
    if f.type == "str":
        return f"strnlen({at}, sizeof({at})) == sizeof({at})"
    if f.type == "bin":
        return f"{at}_size > {f.max}"
    if f.type == "enum":
        return f"!{f.of.c_name(daemon)}_name({at})"
    if f.type == "list":
        return f"{at}.count > {f.max}"
    return ""


def _packer(m):
    out = f"int {m.c_name}_pack(const struct {m.c_name} *m, struct buf *out)\n{{\n"
    if not m.fields:
        return out + "\t(void)m;\n\treturn pack_map(out, 0);\n}\n"
    fixed = sum(not f.optional for f in m.fields)
    count = " + ".join([str(fixed)] + [f"m->has_{f.name}" for f in m.fields if f.optional])
    count = count if " " not in count else f"(size_t)({count})"
    out += f"\tint r = pack_map(out, {count});\n\n"
    for f in m.fields:
        condition = _pack_check(m.daemon, f)
        if condition:
            if f.optional:
                condition = f"m->has_{f.name} && ({condition})"
            out += f"\tif ({condition})\n\t\treturn -EINVAL;\n"
    for f in m.fields:
        guard = f"m->has_{f.name} && " if f.optional else ""
        tabs = "\t"
        out += f"\tif ({guard}r == 0)\n\t\tr = pack_str(out, \"{f.key}\");\n"
        if f.type == "list":
            item = f"m->{f.name}.item[i]"
            out += f"{tabs}if ({guard}r == 0)\n\t\tr = pack_array(out, m->{f.name}.count);\n"
            loop = f"i < m->{f.name}.count && r == 0"
            out += f"{tabs}for (size_t i = 0; {guard}{loop}; i++)\n"
            out += f"\t\tr = {_pack_value(m.daemon, f.of, f, item)};\n"
        else:
            value = _pack_value(m.daemon, f.type, f, f"m->{f.name}")
            out += f"{tabs}if ({guard}r == 0)\n\t\tr = {value};\n"
    return out + "\treturn r;\n}\n"


def _read_value(m, kind, f, target):
    """Statements that read one value into target, setting r."""
    where = f"{m.name}: {f.name}"
    if kind in UNSIGNED:
        limit = _limits(f, "number", True) if f.type != "list" else (
            f"number > UINT{UNSIGNED[kind]}_MAX" if kind != "u64" else "")
        out = "uint64_t number = 0;\n\nr = mpr_u64(reader, &number);\n"
        if limit:
            out += (f"if (r == 0 && ({limit}))\n\tr = mpr_fail(reader, \"{where}: %llu is out of range\","
                    f" (unsigned long long)number);\n")
        return out + f"{target} = ({C_TYPE[kind]})number;\n"
    if kind == "i64":
        limit = _limits(f, target, True) if f.type != "list" else ""
        out = f"r = mpr_i64(reader, &{target});\n"
        if limit:
            out += (f"if (r == 0 && ({limit}))\n\tr = mpr_fail(reader, \"{where}: %lld is out of range\","
                    f" (long long){target});\n")
        return out
    if kind == "f64":
        limit = _limits(f, target, True) if f.type != "list" else f"isnan({target})"
        return (f"r = mpr_f64(reader, &{target});\nif (r == 0 && ({limit}))\n"
                f"\tr = mpr_fail(reader, \"{where}: %g is out of range\", {target});\n")
    if kind == "bool":
        return f"r = mpr_bool(reader, &{target});\n"
    if kind == "str":
        return f"r = read_text(reader, {target}, sizeof({target}), \"{where}\");\n"
    if kind == "bytes":
        return f"r = read_bytes(reader, {target}, sizeof({target}), \"{where}\");\n"
    if kind == "bin":
        return (f"uint32_t size = 0;\n\nr = mpr_bin(reader, &{target}, &size);\n"
                f"if (r == 0 && size > {f.max})\n"
                f"\tr = mpr_fail(reader, \"{where}: %u bytes, at most {f.max}\", size);\n"
                f"{target}_size = size;\n")
    if kind == "enum":
        name = f.of.c_name(m.daemon)
        return (f"int word = 0;\n\nr = read_word(reader, {name}_words,"
                f" {len(f.of.values)}, &word, \"{where}\");\n{target} = (enum {name})word;\n")
    record = kind if isinstance(kind, Message) else f.of
    return f"r = {record.c_name}_read(&{target}, reader);\n"


def _indent(text, tabs):
    return "".join("\t" * tabs + line if line.strip() else line
                   for line in text.splitlines(keepends=True))


def _read_list(m, f):
    out = f"uint32_t count = 0;\n\nr = mpr_array(reader, &count);\nif (r == 0 && count > {f.max})\n"
    out += f"\tr = mpr_fail(reader, \"{m.name}: {f.name}: %u items, at most {f.max}\", count);\n"
    out += f"for (uint32_t i = 0; i < count && r == 0; i++) {{\n"
    out += _indent(_read_value(m, f.of, f, f"m->{f.name}.item[i]"), 1)
    return out + f"}}\nif (r == 0)\n\tm->{f.name}.count = count;\n"


def _default(m, f):
    if f.type == "enum":
        return f"m->{f.name} = {enum_constant(m.daemon, f.of, f.default)};\n"
    if f.type == "str":
        return f"snprintf(m->{f.name}, sizeof(m->{f.name}), \"%s\", \"{f.default}\");\n"
    if f.type == "bool":
        return f"m->{f.name} = {'true' if f.default else 'false'};\n"
    return f"m->{f.name} = {_number(f, f.default)};\n"


def _unpacker(m):
    out = f"int {m.c_name}_read(struct {m.c_name} *m, struct mpr *reader)\n{{\n"
    out += "\tconst char *key;\n\tuint32_t entries, length;\n\tuint64_t seen = 0;\n\tint r;\n\n"
    out += "\tmemset(m, 0, sizeof(*m));\n"
    out += "".join("\t" + _default(m, f) for f in m.fields if f.default is not None)
    out += "\tr = mpr_map(reader, &entries);\n"
    out += "\twhile (r == 0 && entries-- > 0) {\n\t\tr = mpr_str(reader, &key, &length);\n\t\tif (r < 0)\n\t\t\tbreak;\n"
    for i, f in enumerate(m.fields):
        word = "if" if i == 0 else "} else if"
        out += f"\t\t{word} (mpr_is(key, length, \"{f.key}\")) {{\n"
        body = _read_list(m, f) if f.type == "list" else _read_value(m, f.type, f, f"m->{f.name}")
        out += _indent(body, 3)
        if f.optional:
            out += f"\t\t\tm->has_{f.name} = true;\n"
        out += f"\t\t\tr = r < 0 ? r : mark(reader, &seen, {i}, \"{m.name}: {f.name}\");\n"
    if m.fields:
        out += "\t\t} else {\n\t\t\tr = mpr_skip(reader);\n\t\t}\n\t}\n"
    else:
        out += "\t\tr = mpr_skip(reader);\n\t}\n\t(void)seen;\n"
    for i, f in enumerate(m.fields):
        if f.required:
            out += f"\tif (r == 0 && !(seen & 1ull << {i}))\n"
            out += f"\t\tr = mpr_fail(reader, \"{m.name}: {f.name} is missing\");\n"
    out += "\treturn r;\n}\n\n"
    out += (f"int {m.c_name}_unpack(struct {m.c_name} *m, const void *data, size_t size,\n"
            f"    struct mpr_error *error)\n{{\n\tstruct mpr reader;\n\tint r;\n\n"
            f"\tmpr_init(&reader, data, size, error);\n\tr = {m.c_name}_read(m, &reader);\n"
            f"\treturn r < 0 ? r : mpr_end(&reader);\n}}\n")
    return out


HELPERS = """
static __attribute__((unused)) int read_text(struct mpr *reader, char *text, size_t room,
    const char *where)
{
	const char *string;
	uint32_t length;
	int r = mpr_str(reader, &string, &length);

	if (r < 0)
		return mpr_fail(reader, "%s: not a string", where);
	if (length >= room)
		return mpr_fail(reader, "%s: %u bytes, at most %zu", where, length, room - 1);
	if (memchr(string, 0, length))
		return mpr_fail(reader, "%s: a zero byte inside", where);
	memcpy(text, string, length);
	text[length] = '\\0';
	return 0;
}

static __attribute__((unused)) int read_bytes(struct mpr *reader, uint8_t *bytes, size_t size,
    const char *where)
{
	const uint8_t *data;
	uint32_t length;
	int r = mpr_bin(reader, &data, &length);

	if (r < 0)
		return mpr_fail(reader, "%s: not binary", where);
	if (length != size)
		return mpr_fail(reader, "%s: %u bytes, not %zu", where, length, size);
	memcpy(bytes, data, size);
	return 0;
}

static __attribute__((unused)) int read_word(struct mpr *reader, const char *const *words,
    int count, int *word, const char *where)
{
	const char *string;
	uint32_t length;
	int r = mpr_str(reader, &string, &length);

	if (r < 0)
		return mpr_fail(reader, "%s: not a string", where);
	for (*word = 0; *word < count; ++*word)
		if (mpr_is(string, length, words[*word]))
			return 0;
	*word = 0;
	return mpr_fail(reader, "%s: unknown word", where);
}

static __attribute__((unused)) int mark(struct mpr *reader, uint64_t *seen, unsigned i,
    const char *where)
{
	if (*seen & 1ull << i)
		return mpr_fail(reader, "%s: twice", where);
	*seen |= 1ull << i;
	return 0;
}
"""


def source(schema):
    out = NOTE.format(schema.daemon)
    out += f'#include "proto/{schema.daemon}.h"\n\n#include <errno.h>\n#include <math.h>\n'
    out += '#include <stdio.h>\n#include <string.h>\n\n#include "common/pack.h"\n' + HELPERS
    for enum in schema.enums.values():
        name = enum.c_name(schema.daemon)
        out += f"\nstatic const char *const {name}_words[] = {{\n"
        out += "".join(f'\t"{v}",\n' for v in enum.values) + "};\n"
        out += (f"\nconst char *{name}_name(enum {name} value)\n{{\n"
                f"\treturn (unsigned)value < {len(enum.values)} ? {name}_words[value] : NULL;\n}}\n")
    for m in schema.messages:
        out += "\n" + _packer(m) + "\n" + _unpacker(m)
    return out
