/*
 * Cuts a run of bytes where its content says so, so that a change moves the boundaries near it
 * and no others.  Arithmetic only.
 *
 * Idea: a rolling "gear" hash, h = 2 h + G[byte], sees the last 64 bytes; a chunk ends where the
 * top bits of h are zero.  Sources: gear, W. Xia et al., "Ddelta", Performance Evaluation 79,
 * 2014; normalised chunking (a stricter condition before the mean, a laxer one behind it) and the
 * skipped minimum, W. Xia et al., "FastCDC", USENIX ATC 2016.  Departure: the top bits are tested
 * instead of FastCDC's spread masks, because they are the ones that depend on all 64 bytes, and
 * a shift needs no magic constants.  Rejected: Rabin fingerprints (four times slower), fixed
 * pages (an inserted page at the front of pages-1.img would shift all behind it).
 */
#ifndef GDN_STORE_CHUNKER_H
#define GDN_STORE_CHUNKER_H

#include <stddef.h>
#include <stdint.h>

#define CHUNK_MIN 4096
#define CHUNK_MEAN 16384
#define CHUNK_MAX 65536

struct chunker {
	uint64_t gear[256];
};

/* The table comes from a fixed seed: every node cuts alike, for ever. */
void chunker_init(struct chunker *chunker);

/*
 * The length of the first chunk of data; size > 0.  Hand it CHUNK_MAX bytes or all that is left:
 * it takes the end of what it sees for the end of the run.
 */
size_t chunker_cut(const struct chunker *chunker, const uint8_t *data, size_t size);

#endif
