#include "ved/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "ved/engine.h"
#include "ved/files.h"

#define PROBE "_probe" /* not the name of a VE; a bpf file system takes none with a dot */

static const char *const kind_names[] = {"none", "bpf", "nft"};

const char *fence_kind_name(enum fence_kind kind)
{
	return kind_names[kind];
}

int fence_kind_parse(const char *name, enum fence_kind *out)
{
	for (size_t i = 0; i < FENCE_KINDS; i++)
		if (strcmp(name, kind_names[i]) == 0) {
			*out = (enum fence_kind)i;
			return 0;
		}
	return -EINVAL;
}

static int identify(
    struct fence *out, enum fence_kind kind, const char *name, const char *interface)
{
	*out = (struct fence){.kind = kind, .map = -1};
	return path_set(out->name, "%s", name) < 0 || path_set(out->interface, "%s", interface) < 0
		   ? -ENAMETOOLONG
		   : 0;
}

int fence_make(struct fence *out, enum fence_kind kind, const struct engine_config *config,
    const char *name, const char *interface, struct engine_error *error)
{
	int rc = identify(out, kind, name, interface);

	if (rc < 0)
		return engine_fail(error, rc, "name the fence of %s", name);
	return kind == FENCE_BPF ? fence_bpf_make(out, config, error) : fence_nft_make(out, error);
}

int fence_open(
    struct fence *out, const struct engine_config *config, const char *name, const char *interface)
{
	int rc = identify(out, FENCE_BPF, name, interface);

	if (rc == 0)
		rc = fence_bpf_open(out, config);
	if (rc != -ENOENT)
		return rc;
	out->kind = FENCE_NFT;
	return fence_nft_open(out);
}

void fence_close(struct fence *fence)
{
	fd_close(&fence->map);
}

int fence_cgroup(const struct fence *fence, const char *cgroup, struct engine_error *error)
{
	/* The pair is the VE's only way out, so that what nft does there is enough. */
	return fence->kind == FENCE_BPF ? fence_bpf_cgroup(fence, cgroup, error) : 0;
}

int fence_interface(const struct fence *fence, struct engine_error *error)
{
	return fence->kind == FENCE_BPF ? fence_bpf_interface(fence, error)
					: fence_nft_interface(fence, error);
}

int fence_set(const struct fence *fence, int64_t deadline_ns)
{
	return fence->kind == FENCE_BPF ? fence_bpf_set(fence, deadline_ns)
					: fence_nft_set(fence, deadline_ns);
}

int fence_get(const struct fence *fence, int64_t *deadline_ns)
{
	return fence->kind == FENCE_BPF ? fence_bpf_get(fence, deadline_ns) : -ENOTSUP;
}

int fence_dropped(const struct fence *fence, uint64_t *packets)
{
	return fence->kind == FENCE_BPF ? fence_bpf_dropped(fence, packets)
					: fence_nft_dropped(fence, packets);
}

int fence_remove(const struct engine_config *config, const char *name)
{
	int rc = fence_bpf_remove(config, name);
	int next = fence_nft_remove(name);

	return rc < 0 ? rc : next;
}

/* ---- which kinds work here ---- */

static int build_and_remove(
    enum fence_kind kind, const struct engine_config *config, struct engine_error *error)
{
	struct fence fence = {.map = -1};
	int rc = fence_make(&fence, kind, config, PROBE, "lo", error);

	if (rc == 0)
		rc = fence_interface(&fence, error);
	if (rc == 0 && (rc = fence_set(&fence, 1)) < 0)
		engine_fail(error, rc, "set the deadline of a fence");
	fence_close(&fence);
	fence_remove(config, PROBE);
	return rc;
}

int fence_probe(
    enum fence_kind kind, const struct engine_config *config, struct engine_error *error)
{
	_cleanup_fd_ int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int rc;

	if (home < 0 || unshare(CLONE_NEWNET) < 0)
		return engine_fail(error, -errno, "make a network namespace");
	rc = kind == FENCE_BPF ? fence_bpf_mount(config) : 0;
	if (rc < 0)
		engine_fail(error, rc, "mount a BPF file system at %s/bpf", config->run);
	else
		rc = build_and_remove(kind, config, error);
	if (setns(home, CLONE_NEWNET) < 0)
		abort(); /* nowhere to go on from */
	return rc;
}
