#include "ved/names.h"

#include <string.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"

bool ve_name_ok(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length < VE_NAME && name[0] != '-' &&
	       strspn(name, LOWER DIGIT "-") == length;
}

bool ve_oid_ok(const char *oid)
{
	size_t length = strlen(oid);

	return length > 0 && length < VE_OID && strspn(oid, LOWER UPPER DIGIT "-_") == length;
}
