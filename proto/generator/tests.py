"""Generated C tests (golden vectors, truncation, flipped bits) and fuzz targets."""

from .c import NOTE
from .samples import c_builder, pack, sample
from .schema import Message

FRAME = '''
static __attribute__((unused)) uint8_t *copy_of(const uint8_t *data, size_t size)
{
	/* An exact heap copy, so that a sanitizer sees any read past the end. */
	uint8_t *copy = malloc(size ? size : 1);

	check(copy);
	if (size)
		memcpy(copy, data, size);
	return copy;
}
'''


def vectors(schema):
    return {m.name: pack(sample(m)).hex() for m in schema.messages}


def _old_vectors(m, vectors):
    """Vectors from before the message grew: they must decode for ever."""
    out = ""
    for number, vector in enumerate(vectors):
        array = ", ".join(f"0x{b:02x}" for b in bytes.fromhex(vector))
        out += f"""
static void {m.c_name}_still_decodes_vector_{number}(void)
{{
	static const uint8_t vector[] = {{{array}}};
	struct {m.c_name} *m = malloc(sizeof(*m));
	struct mpr_error error;

	check(m);
	check_int({m.c_name}_unpack(m, vector, sizeof(vector), &error), 0);
	free(m);
}}
"""
    return out


def _test(m):
    c, macro = m.c_name, m.macro
    return f'''
static void {c}_agrees_with_its_golden_vector(void)
{{
	struct {c} *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
	_cleanup_buf_ struct buf first = {{0}}, second = {{0}};
	struct mpr_error error;

	check(a && b);
	make_{c}(a);
	check_int({c}_pack(a, &first), 0);
	check(first.size <= {macro}_SIZE_MAX);
	check_int(first.size, sizeof(golden_{c}));
	check(memcmp(first.data, golden_{c}, first.size) == 0);
	if ({c}_unpack(b, golden_{c}, sizeof(golden_{c}), &error) < 0) {{
		printf("# %s\\n", error.text);
		check(!"the golden vector decodes");
	}}
	check_int({c}_pack(b, &second), 0);
	check(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
	for (size_t size = 0; size < first.size; size++) {{
		uint8_t *part = copy_of(first.data, size);

		check_int({c}_unpack(b, part, size, &error), -EBADMSG);
		check(error.text[0]);
		free(part);
	}}
	for (size_t bit = 0; bit < 8 * first.size; bit++) {{
		uint8_t *part = copy_of(first.data, first.size);

		part[bit / 8] ^= (uint8_t)(1u << bit % 8);
		(void){c}_unpack(b, part, first.size, &error);
		free(part);
	}}
	free(a);
	free(b);
}}
'''


def test_source(schema, golden):
    out = NOTE.format(schema.daemon)
    out += f'#include "proto/{schema.daemon}.h"\n\n#include <errno.h>\n#include <stdlib.h>\n#include <string.h>\n\n'
    out += '#include "common/test.h"\n' + FRAME
    for m in _records(schema):
        out += "\n" + c_builder(m)
    for m in schema.messages:
        data = bytes.fromhex(golden[m.name][-1])
        array = ", ".join(f"0x{b:02x}" for b in data)
        out += f"\nstatic const uint8_t golden_{m.c_name}[] = {{{array}}};\n" + _test(m) + _old_vectors(m, golden[m.name][:-1])
    out += "\nint main(void)\n{\n\treturn test_main((struct test[]){\n"
    out += "".join(f"\t    TEST({m.c_name}_agrees_with_its_golden_vector),\n" for m in schema.messages)
    out += "".join(f"\t    TEST({m.c_name}_still_decodes_vector_{number}),\n"
                   for m in schema.messages for number in range(len(golden[m.name]) - 1))
    return out + "\t    {0},\n\t});\n}\n"


def _records(schema):
    """The schema's messages, and before them the records of common.toml that they use."""
    found = []

    def visit(m):
        for f in m.fields:
            if isinstance(f.of, Message):
                visit(f.of)
        if m not in found:
            found.append(m)

    for m in schema.messages:
        visit(m)
    return found


def fuzz_source(schema):
    out = NOTE.format(schema.daemon)
    out += "/* The first byte chooses the message; what decodes must pack again. */\n"
    out += f'#include "proto/{schema.daemon}.h"\n\n#include <stdlib.h>\n\n'
    out += "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);\n"
    for m in schema.messages:
        out += (f"\nstatic void fuzz_{m.c_name}(const uint8_t *data, size_t size)\n{{\n"
                f"\tstatic struct {m.c_name} m;\n\t_cleanup_buf_ struct buf out = {{0}};\n\tstruct mpr_error error;\n\n"
                f"\tif ({m.c_name}_unpack(&m, data, size, &error) == 0 &&\n"
                f"\t    ({m.c_name}_pack(&m, &out) != 0 || out.size > {m.macro}_SIZE_MAX))\n\t\tabort();\n}}\n")
    out += "\nint LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)\n{\n"
    out += "\tstatic void (*const targets[])(const uint8_t *, size_t) = {\n"
    out += "".join(f"\t    fuzz_{m.c_name},\n" for m in schema.messages) + "\t};\n\n"
    out += "\tif (size > 0)\n\t\ttargets[data[0] % (sizeof(targets) / sizeof(targets[0]))](data + 1, size - 1);\n"
    return out + "\treturn 0;\n}\n"
