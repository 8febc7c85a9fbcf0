/*
 * The smallest test frame: each test is a claim, printed as it holds (TAP); a failed check says
 * where and with which values and ends the program.
 */
#ifndef COMMON_TEST_H
#define COMMON_TEST_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("Bail out! %s:%d: %s\n", __FILE__, __LINE__, #condition);           \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define check_int(actual, expected)                                                                \
	do {                                                                                       \
		intmax_t a_ = (intmax_t)(actual), e_ = (intmax_t)(expected);                       \
		if (a_ != e_) {                                                                    \
			printf("Bail out! %s:%d: %s is %jd, expected %jd\n", __FILE__, __LINE__,   \
			    #actual, a_, e_);                                                      \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define check_str(actual, expected)                                                                \
	do {                                                                                       \
		const char *a_ = (actual), *e_ = (expected);                                       \
		if (strcmp(a_, e_) != 0) {                                                         \
			printf("Bail out! %s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__,       \
			    __LINE__, #actual, a_, e_);                                            \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* A number within limits, both included. */
#define check_range(actual, low, high)                                                             \
	do {                                                                                       \
		double a_ = (double)(actual), l_ = (double)(low), h_ = (double)(high);             \
		if (!(a_ >= l_ && a_ <= h_)) {                                                     \
			printf("Bail out! %s:%d: %s is %g, expected %g to %g\n", __FILE__,         \
			    __LINE__, #actual, a_, l_, h_);                                        \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

struct test {
	const char *claim;
	void (*run)(void);
};

#define TEST(function)                                                                             \
	{                                                                                          \
#function, function                                                                \
	}

/* int main(void) { return test_main((struct test[]){TEST(a), TEST(b), {0}}); } */
static inline int test_main(const struct test *tests)
{
	int n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (; tests[n].run; n++) {
		tests[n].run();
		printf("ok %d - %s\n", n + 1, tests[n].claim);
	}
	printf("1..%d\n", n);
	return 0;
}

#endif
