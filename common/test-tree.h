/* What a test leaves on disk goes with it: for tests with a directory of their own. */
#ifndef COMMON_TEST_TREE_H
#define COMMON_TEST_TREE_H

#include <ftw.h>
#include <stdio.h>

static inline int test_remove_one(
    const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Follows no symbolic links. */
static inline void test_remove_tree(const char *path)
{
	(void)nftw(path, test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
