/*
 * What went wrong, in words: the code goes up unchanged, the text says what was attempted and
 * with what.  The first fault is kept.
 */
#ifndef GDN_STORE_FAULT_H
#define GDN_STORE_FAULT_H

struct fault {
	char text[512];
};

/* Returns code (negative).  fault may be NULL. */
int fault_set(struct fault *fault, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
