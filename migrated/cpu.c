#include "migrated/cpu.h"

#include <stdio.h>
#include <string.h>

/* A place in this list is a bit in facts: names are added at the end only. */
static const char *const names[] = {"pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "movbe", "aes",
    "pclmulqdq", "xsave", "avx", "f16c", "fma", "rdrand", "bmi1", "avx2", "bmi2", "erms", "rdseed",
    "adx", "sha_ni", "abm", "lahf_lm", "rtm", "xsavec", "xsaves", "gfni", "vaes", "vpclmulqdq",
    "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd", "avx512_vnni", "avx512vbmi",
    "avx512_vbmi2", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "fsrm",
    "rdpid", "pku", "waitpkg", "clwb", "movdiri", "movdir64b", "avx_vnni", "sse4a", "fma4", "xop",
    "tbm", /* AArch64 */ "atomics", "asimddp", "sve", "sve2", "bf16", "paca", "bti"};

_Static_assert(sizeof(names) / sizeof(names[0]) <= 64, "a bit for each");

uint64_t cpu_features(const char *line)
{
	uint64_t features = 0;
	size_t length;

	for (; *line; line += length + (line[length] != '\0')) {
		length = strcspn(line, " \t\n");
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strlen(names[i]) == length && memcmp(names[i], line, length) == 0)
				features |= UINT64_C(1) << i;
	}
	return features;
}

void cpu_names(char *text, size_t size, uint64_t features)
{
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (features >> i & 1 && used + strlen(names[i]) + 2 < size)
			used += (size_t)snprintf(
			    text + used, size - used, "%s%s", used ? " " : "", names[i]);
}
