/*
 * Which pages the last image of one service consisted of, and where they lie: what has not changed
 * since is found by one fast hash and neither compressed, encrypted, hashed nor looked up again.
 *
 * Idea: an image of memory (CRIU's pages-*.img) is a sequence of whole pages, of which the next
 * checkpoint finds most unchanged and the others changed here and there.  The changed ones are put
 * together, sixteen to a chunk; the object's extents say where each page lies.  So a changed page
 * costs a page (measured with 5 % of the pages changed at random: 1.0 times the changed bytes; with
 * the content-defined chunks of 16 KiB that other files have: 5.3), and what is counted, looked up
 * and named by the store are chunks of 64 KiB, not pages.  Rejected: content-defined cutting of
 * pages with a smaller mean (4 KiB still costs 2 to 3 times the changed bytes, and four times the rows of
 * the index); a chunk per page (65,536 rows and ids for 256 MiB: the index alone takes longer than
 * encryption).
 *
 * The hash is Poly1305 with a secret key derived from the service's, used as the universal hash
 * that it is: two pages that were chosen without knowledge of the key agree with a probability of
 * at most 8 * 256 / 2^106 = 2^-95 (D. J. Bernstein, "The Poly1305-AES message-authentication code",
 * FSE 2005, theorem 3.3).  One key for many messages is safe for this as long as nobody sees a
 * hash: they stay in memory, and after a restart are made again from the last image.  Not a plain
 * fast hash (xxh3): who sends a service its data could make two pages collide.
 *
 * A chunk of which less than two fifths are still in use is not referred to again: its pages are
 * stored anew.  This bounds what dead pages keep on the disk (2.5 times an image) for at most two
 * thirds more to write, in the long run: the cleaning of a log-structured file system (M. Rosenblum
 * and J. Ousterhout, "The design and implementation of a log-structured file system", 1992).
 */
#ifndef GDN_STORE_PAGES_H
#define GDN_STORE_PAGES_H

#include "gdn/store/manifest.h"

#define MEMORY_PAGE 4096u

struct pages;

struct page_hash {
	uint8_t bytes[16];
};

struct page_place {
	uint32_t chunk; /* of pages_chunks() */
	uint32_t offset;
};

/* key: the service's, CODER_KEY_SIZE bytes (not kept).  0, -ENOMEM. */
int pages_new(struct pages **out, const uint8_t *key);
struct pages *pages_free(struct pages *pages);
size_t pages_count(const struct pages *pages);
/* The memory it takes. */
size_t pages_size(const struct pages *pages);

void pages_hash(const struct pages *pages, const uint8_t page[MEMORY_PAGE], struct page_hash *hash);
bool pages_find(const struct pages *pages, const struct page_hash *hash, struct page_place *place);
/* Notes a page; one that is there keeps its place.  1 added, 0, -ENOMEM. */
int pages_add(struct pages *pages, const struct page_hash *hash, const struct page_place *place);

/* The chunks of the image, known when it is stored; takes the entries over, leaves none.  0, -ENOMEM. */
int pages_set_chunks(struct pages *pages, struct entries *chunks);
const struct entries *pages_chunks(const struct pages *pages);

/*
 * How much of these chunks the next image still uses: begin, say each of its pages, ask.  It is
 * counted before anything is stored, so that the same image put twice is the same object.
 */
void pages_begin_use(struct pages *pages);
void pages_use(struct pages *pages, const struct page_hash *hash);
bool pages_is_sparse(const struct pages *pages, uint32_t chunk);

#endif
