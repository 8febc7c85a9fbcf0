#include "ved/overlay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "ved/archive.h"
#include "ved/files.h"

int overlay_find(
    struct overlay *out, const struct engine_config *config, const struct ve_spec *spec)
{
	if (path_set(out->lower, "%s/lower/%s", config->state, spec->bundle) < 0 ||
	    path_set(out->own, "%s/ve/%s", config->state, spec->name) < 0 ||
	    path_set(out->upper, "%s/ve/%s/upper", config->state, spec->name) < 0 ||
	    path_set(out->work, "%s/ve/%s/work", config->state, spec->name) < 0 ||
	    path_set(out->root, "%s/ve/%s/root", config->run, spec->name) < 0)
		return -ENAMETOOLONG;
	return 0;
}

static int unpack_lower(const char *lower, const char *bundle_dir, struct engine_error *error)
{
	char fresh[VE_PATH * 3], tar[VE_PATH * 2];
	int rc;

	if (path_set(fresh, "%s.unpacking", lower) < 0 ||
	    path_set(tar, "%s/rootfs.tar", bundle_dir) < 0)
		return engine_fail(error, -ENAMETOOLONG, "bundle %s", bundle_dir);
	rc = dir_remove(fresh);
	if (rc == 0)
		rc = dir_make(fresh, 0755);
	if (rc < 0)
		return engine_fail(error, rc, "make %s", fresh);
	rc = archive_unpack(tar, fresh, error);
	if (rc == 0 && rename(fresh, lower) < 0)
		rc = engine_fail(error, -errno, "rename %s to %s", fresh, lower);
	if (rc < 0)
		dir_remove(fresh);
	return rc;
}

/* Two VEs of one bundle may start at once: one unpacks, the other waits for it at the lock. */
static int have_lower(const char *lower, const char *bundle_dir, struct engine_error *error)
{
	char path[VE_PATH * 3], *slash;
	_cleanup_fd_ int lock = -1;
	int rc = path_set(path, "%s", lower);

	if (rc < 0)
		return engine_fail(error, rc, "%s", lower);
	slash = strrchr(path, '/');
	*slash = 0;
	rc = dir_make(path, 0700);
	if (rc < 0)
		return engine_fail(error, rc, "make %s", path);
	lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return engine_fail(error, -errno, "lock %s", path);
	if (access(lower, F_OK) == 0)
		return 0;
	return unpack_lower(lower, bundle_dir, error);
}

static int make_upper(
    const struct overlay *overlay, const char *upper_tar, struct engine_error *error)
{
	struct stat st;
	int rc = dir_remove(overlay->own);

	if (rc == 0)
		rc = dir_make(overlay->upper, 0755);
	if (rc == 0)
		rc = dir_make(overlay->work, 0700);
	if (rc < 0)
		return engine_fail(error, rc, "make %s", overlay->own);
	if (upper_tar)
		return archive_unpack(upper_tar, overlay->upper, error);
	/* The merged root shows the upper directory's own owner and mode. */
	if (stat(overlay->lower, &st) < 0 || chmod(overlay->upper, st.st_mode & 07777) < 0 ||
	    chown(overlay->upper, st.st_uid, st.st_gid) < 0)
		return engine_fail(error, -errno, "set the mode of %s", overlay->upper);
	return 0;
}

/*
 * Volatile: nothing of it is forced to the disk, neither when the VE syncs its files nor at the unmount, which would
 * write out all that the node's file system has in memory while somebody waits for the VE to go on.  An upper directory
 * never outlives its VE (make_upper() removes what was there): after a crash the VE goes on from its last checkpoint,
 * whose files are in its image.
 */
int overlay_make(const struct overlay *overlay, const char *bundle_dir, const char *upper_tar,
    struct engine_error *error)
{
	char options[VE_PATH * 8];
	int rc = have_lower(overlay->lower, bundle_dir, error);

	if (rc == 0)
		rc = make_upper(overlay, upper_tar, error);
	if (rc < 0)
		return rc;
	rc = path_set(options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile", overlay->lower,
	    overlay->upper, overlay->work);
	if (rc == 0)
		rc = dir_make(overlay->root, 0755);
	if (rc == 0 && mount("overlay", overlay->root, "overlay", 0, options) < 0)
		rc = -errno;
	return rc < 0 ? engine_fail(error, rc, "mount the overlay at %s", overlay->root) : 0;
}

int overlay_remove(const struct overlay *overlay)
{
	if (umount2(overlay->root, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return -errno;
	return dir_remove(overlay->own);
}

int overlay_prune(
    const struct engine_config *config, bool (*in_use)(const char *oid, void *data), void *data)
{
	char path[VE_PATH * 3];
	struct dirent *entry;
	int rc = 0, removed;
	DIR *dir;

	path_set(path, "%s/lower", config->state);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || in_use(entry->d_name, data))
			continue;
		removed = path_set(path, "%s/lower/%s", config->state, entry->d_name);
		if (removed == 0)
			removed = dir_remove(path);
		rc = rc < 0 ? rc : removed;
	}
	closedir(dir);
	return rc;
}
