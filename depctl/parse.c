#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "depctl/command.h"

bool parse_count(const char *option, const char *text, uint64_t low, uint64_t high, uint64_t *value)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || number < low || number > high) {
		fprintf(stderr, "depctl: %s: %s is not a number from %llu to %llu\n", option, text,
		    (unsigned long long)low, (unsigned long long)high);
		return false;
	}
	*value = number;
	return true;
}

bool parse_duration_ms(const char *option, const char *text, uint64_t *ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {{"", 1000}, {"s", 1000}, {"ms", 1}, {"min", 60000}, {"h", 3600000}};
	char *end;
	double number = strtod(text, &end);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (isdigit((unsigned char)*text) && strcmp(units[i].unit, end) == 0 &&
		    number * units[i].ms <= 86400e3) {
			*ms = (uint64_t)(number * units[i].ms);
			return true;
		}
	fprintf(stderr, "depctl: %s: %s is not a time of at most a day, like 500ms, 2s or 1min\n",
	    option, text);
	return false;
}

bool parse_ckpt(const char *text, uint64_t *id)
{
	uint64_t epoch, round;
	char *dot;

	errno = 0;
	epoch = strtoull(text, &dot, 10);
	if (*dot != '.')
		return parse_count("CHECKPOINT", text, 1, UINT64_MAX, id);
	if (isdigit((unsigned char)*text) && !errno && epoch <= UINT32_MAX &&
	    isdigit((unsigned char)dot[1]) &&
	    parse_count("CHECKPOINT", dot + 1, 1, UINT32_MAX, &round)) {
		*id = epoch << 32 | round;
		return true;
	}
	fprintf(
	    stderr, "depctl: CHECKPOINT: %s is not one of those that depctl ckpt ls shows\n", text);
	return false;
}

void count_positionals(const char *spec, size_t *least, size_t *most)
{
	*least = *most = 0;
	for (; *spec; spec += strcspn(spec, " "), spec += *spec == ' ') {
		(*most)++;
		*least += *spec != '[';
		if (strncmp(spec + strcspn(spec, " .]"), "...", 3) == 0)
			*most = POSITIONALS_MAX;
	}
}

bool parse_text(const char *what, const char *text, char *field, size_t size)
{
	if (strlen(text) >= size) {
		fprintf(stderr, "depctl: %s: longer than %zu bytes\n", what, size - 1);
		return false;
	}
	memcpy(field, text, strlen(text) + 1);
	return true;
}
