#include "webd/wish.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CLEAR_USUAL 0.2
#define PERIOD_MIN_MS 100
#define PERIOD_MAX_MS 3600000
#define LEASE_MIN_MS 1000
#define LEASE_MAX_MS 86400000
#define LEASE_USUAL_MS 600000
#define BEATS_MAX 1000

static int fail(struct wish_fault *fault, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(struct wish_fault *fault, const char *where, const char *format, ...)
{
	va_list arguments;

	snprintf(fault->where, sizeof(fault->where), "%s", where);
	va_start(arguments, format);
	vsnprintf(fault->what, sizeof(fault->what), format, arguments);
	va_end(arguments);
	return -EINVAL;
}

/* --- kinds of values --- */

static int take_text(
    char *out, size_t size, const json_t *value, const char *key, struct wish_fault *fault)
{
	const char *text = json_string_value(value);
	size_t length = json_string_length(value);

	if (!text || length == 0 || length >= size || strlen(text) != length)
		return fail(fault, key, "expected a string of 1 to %zu bytes", size - 1);
	memcpy(out, text, length + 1);
	return 0;
}

static int take_number(uint32_t *out, const json_t *value, const char *key, json_int_t least,
    json_int_t most, struct wish_fault *fault)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < least || number > most)
		return fail(fault, key, "expected a whole number from %lld to %lld",
		    (long long)least, (long long)most);
	*out = (uint32_t)number;
	return 0;
}

static int take_raise(struct wish *wish, const json_t *value, struct wish_fault *fault)
{
	const char *expected = "expected 1 to 4 levels, ascending, each above 0 and below 1";
	double before = 0;

	if (!json_is_array(value) || json_array_size(value) < 1 ||
	    json_array_size(value) > RAISE_MAX)
		return fail(fault, "raise", "%s", expected);
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *item = json_array_get(value, i);
		double level = json_number_value(item);

		if (!json_is_number(item) || !(level > before && level < 1))
			return fail(fault, "raise", "%s", expected);
		wish->raise[wish->raise_count++] = before = level;
	}
	return 0;
}

/* --- fields --- */

static int take_application(struct wish *wish, const json_t *value, struct wish_fault *fault)
{
	static const char good[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	int r =
	    take_text(wish->application, sizeof(wish->application), value, "application", fault);

	if (r == 0 && strspn(wish->application, good) != strlen(wish->application))
		return fail(fault, "application", "expected letters, digits, dots, - and _");
	return r;
}

static int take_clear(struct wish *wish, const json_t *value, struct wish_fault *fault)
{
	wish->clear = json_number_value(value);
	if (!json_is_number(value) || !(wish->clear >= 0 && wish->clear < 1))
		return fail(fault, "clear", "expected a level from 0 to below the lowest of raise");
	return 0;
}

static int take_field(
    struct wish *wish, const char *key, const json_t *value, struct wish_fault *fault)
{
	if (strcmp(key, "application") == 0)
		return take_application(wish, value, fault);
	if (strcmp(key, "node") == 0)
		return take_text(wish->node, sizeof(wish->node), value, key, fault);
	if (strcmp(key, "service") == 0)
		return take_text(wish->service, sizeof(wish->service), value, key, fault);
	if (strcmp(key, "raise") == 0)
		return take_raise(wish, value, fault);
	if (strcmp(key, "clear") == 0)
		return take_clear(wish, value, fault);
	if (strcmp(key, "beats") == 0)
		return take_number(&wish->beats, value, key, 0, BEATS_MAX, fault);
	if (strcmp(key, "period_ms") == 0)
		return take_number(
		    &wish->period_ms, value, key, PERIOD_MIN_MS, PERIOD_MAX_MS, fault);
	if (strcmp(key, "lease_ms") == 0)
		return take_number(&wish->lease_ms, value, key, LEASE_MIN_MS, LEASE_MAX_MS, fault);
	return fail(fault, key,
	    "unknown field; there are application, node, service, raise, clear, beats, period_ms, "
	    "lease_ms");
}

/* What no field alone can say. */
static int check_whole(struct wish *wish, struct wish_fault *fault)
{
	if (*wish->node && *wish->service)
		return fail(fault, "service", "node or service, not both");
	if (wish->raise_count == 0 && wish->period_ms == 0)
		return fail(fault, "raise", "nothing to tell: raise, period_ms, or both");
	if (isnan(wish->clear))
		wish->clear = wish->raise_count && wish->raise[0] <= CLEAR_USUAL
				  ? wish->raise[0] / 2
				  : CLEAR_USUAL;
	else if (wish->raise_count && wish->clear >= wish->raise[0])
		return fail(fault, "clear", "must be below the lowest of raise");
	return 0;
}

int wish_parse(struct wish *wish, const char *body, size_t size, struct wish_fault *fault)
{
	json_error_t error;
	json_t *object = json_loadb(body, size, JSON_REJECT_DUPLICATES, &error), *value;
	const char *key;
	int r = 0;

	*wish = (struct wish){.clear = NAN, .beats = 1, .lease_ms = LEASE_USUAL_MS};
	if (!object)
		return fail(fault, "body", "line %d: %.120s", error.line, error.text);
	if (!json_is_object(object))
		r = fail(fault, "body", "expected a JSON object");
	else
		json_object_foreach(object, key, value)
		{
			r = take_field(wish, key, value, fault);
			if (r < 0)
				break;
		}
	json_decref(object);
	return r < 0 ? r : check_whole(wish, fault);
}
