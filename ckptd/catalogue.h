/*
 * The checkpoints of a VE that are kept (fact cat/<ve>), and names around them.
 */
#ifndef CKPTD_CATALOGUE_H
#define CKPTD_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/ckptd.h"

#define CATALOGUE_MAX 32
#define CATALOGUE_KEY_SIZE 256

/* What is kept: the newest ones, and of so many hours that have one the newest of each.  At most CATALOGUE_MAX together. */
struct retention {
	size_t last; /* 1 and more */
	size_t hourly;
};

/*
 * Puts a checkpoint behind the others and takes away what need not be kept; that goes to retired (room for CATALOGUE_MAX).
 * Returns its number; -EALREADY when a checkpoint of that id is there.  An hour is one of the wall clock that the checkpoints
 * bear; where that jumps, more or fewer hours are told apart, but never more checkpoints kept, and never fewer than the last.
 */
int catalogue_add(struct msg_ckptd_catalogue *catalogue, const struct msg_ckptd_checkpoint *added,
    struct retention retention, struct msg_ckptd_checkpoint *retired);
/* Takes one away; false when it is not there. */
bool catalogue_remove(
    struct msg_ckptd_catalogue *catalogue, uint64_t id, struct msg_ckptd_checkpoint *removed);
bool catalogue_has(const struct msg_ckptd_catalogue *catalogue, uint64_t id);

/* "ckpt/" and 16 hex digits: the cell of a round; and back, false when it is none. */
void cell_key(char key[CATALOGUE_KEY_SIZE], uint64_t id);
bool cell_parse(const char *key, uint64_t *id);
/* "ckpt/<ve>/" and 16 hex digits: the name under which gosd keeps an image; and back. */
void image_name(char name[CATALOGUE_KEY_SIZE], const char *ve, uint64_t id);
bool image_parse(const char *name, char ve[64], uint64_t *id);

#endif
