/*
 * The checkpoints of a VE that are kept (fact cat/<ve>), and names around them.
 */
#ifndef CKPTD_CATALOGUE_H
#define CKPTD_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/ckptd.h"

#define CATALOGUE_MAX 8
#define CATALOGUE_KEY_SIZE 256

/*
 * Puts a checkpoint behind the others and takes the oldest away until at most keep (1 to
 * CATALOGUE_MAX) are left; those go to retired (room for CATALOGUE_MAX).  Returns their number; -EALREADY
 * when a checkpoint of that id is there.
 */
int catalogue_add(struct msg_ckptd_catalogue *catalogue, const struct msg_ckptd_checkpoint *added,
    size_t keep, struct msg_ckptd_checkpoint *retired);
bool catalogue_has(const struct msg_ckptd_catalogue *catalogue, uint64_t id);

/* "ckpt/" and 16 hex digits: the cell of a round; and back, false when it is none. */
void cell_key(char key[CATALOGUE_KEY_SIZE], uint64_t id);
bool cell_parse(const char *key, uint64_t *id);
/* "ckpt/<ve>/" and 16 hex digits: the name under which gosd keeps an image; and back. */
void image_name(char name[CATALOGUE_KEY_SIZE], const char *ve, uint64_t id);
bool image_parse(const char *name, char ve[64], uint64_t *id);

#endif
