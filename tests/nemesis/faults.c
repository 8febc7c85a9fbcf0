/*
 * Faults inside a process, by LD_PRELOAD: its disk is slow, full or broken, its wall clock has jumped or goes too fast or too slow.  What is wrong now stands in the
 * file that NEMESIS_FAULTS names, which is mapped: the nemesis writes it, the process sees it at its next call.
 *
 * The disk is every regular file below /var/lib/depsys: SQLite, our own writers (write, fsync) and raft's (io_submit, which libraft
 * calls by syscall()) pass here.  Only the wall clock is wrong: the kernel's fence reads the others, and a process that alone
 * had another CLOCK_BOOTTIME than its kernel is no fault that a machine can have.
 */
#undef _FILE_OFFSET_BITS /* pwrite and pwrite64 are two names here, as for those who call them */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define DISK "/var/lib/depsys/"
#define NS 1000000000

enum disk { DISK_GOOD, DISK_SLOW, DISK_FULL, DISK_BROKEN };

/* The file; the layout is also in nemesis.py. */
struct faults {
	volatile uint32_t disk; /* enum disk */
	volatile uint32_t delay_ms;
	volatile int64_t wall_ns; /* what is added to the wall clock */
	volatile int64_t wall_ppm,
	    wall_since_ns; /* by how much it is too fast, and since when (CLOCK_MONOTONIC) */
};

static const struct faults none;
static const struct faults *faults = &none;

static void *next(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort();
	return found;
}

/* The function that would be called without us. */
#define REAL(name)                                                                                 \
	(__extension__({                                                                           \
		static void *real;                                                                 \
                                                                                                   \
		if (!real)                                                                         \
			real = next(#name);                                                        \
		(__typeof__(&name))(uintptr_t)real;                                                \
	}))

__attribute__((constructor)) static void map_faults(void)
{
	const char *path = getenv("NEMESIS_FAULTS");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped =
	    fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct faults), PROT_READ, MAP_SHARED, fd, 0);

	if (mapped == MAP_FAILED) { /* a test without its faults would pass for nothing */
		fprintf(stderr, "nemesis: map %s: %s\n", path ? path : "NEMESIS_FAULTS",
		    strerror(errno));
		abort();
	}
	faults = mapped;
	close(fd);
}

/* ---- disk */

static int on_disk(int fd)
{
	char link[32], path[sizeof(DISK)];
	struct stat file;
	int kept = errno;
	ssize_t size;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	size = readlink(link, path, sizeof(path) - 1);
	size = size == sizeof(DISK) - 1 && memcmp(path, DISK, sizeof(DISK) - 1) == 0 &&
	       fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
	errno = kept;
	return (int)size;
}

/* 0, or the error with which a call on that file fails now; a slow disk takes its time here.  Syncing needs no room. */
static int disk_fault(int fd, int needs_room)
{
	uint32_t mode = faults->disk;

	if (mode == DISK_GOOD || !on_disk(fd))
		return 0;
	if (mode == DISK_SLOW) {
		struct timespec delay = {
		    faults->delay_ms / 1000, (long)(faults->delay_ms % 1000) * 1000000};

		REAL(nanosleep)(&delay, NULL);
		return 0;
	}
	if (mode == DISK_FULL)
		return needs_room ? ENOSPC : 0;
	return EIO;
}

#define FAIL_IF(fault)                                                                             \
	do {                                                                                       \
		int error = (fault);                                                               \
                                                                                                   \
		if (error) {                                                                       \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
	} while (0)

ssize_t write(int fd, const void *data, size_t size)
{
	FAIL_IF(disk_fault(fd, 1));
	return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	FAIL_IF(disk_fault(fd, 1));
	return REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
	FAIL_IF(disk_fault(fd, 1));
	return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
	FAIL_IF(disk_fault(fd, 1));
	return REAL(pwrite64)(fd, data, size, at);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
	int error = disk_fault(fd, 1);

	return error ? error : REAL(posix_fallocate)(fd, at, size);
}

int fsync(int fd)
{
	FAIL_IF(disk_fault(fd, 0));
	return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	FAIL_IF(disk_fault(fd, 0));
	return REAL(fdatasync)(fd);
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_io_submit && a[1] > 0)
		FAIL_IF(disk_fault((int)(*(struct iocb **)a[2])->aio_fildes, 1));
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Who looks at the space before is told of the same disk. */
#define STATVFS(name, type)                                                                        \
	int name(const char *restrict path, struct type *restrict out)                             \
	{                                                                                          \
		int rc = REAL(name)(path, out);                                                    \
                                                                                                   \
		if (rc == 0 && faults->disk == DISK_FULL &&                                        \
		    strncmp(path, DISK, sizeof(DISK) - 1) == 0)                                    \
			out->f_bavail = out->f_bfree = 0;                                          \
		return rc;                                                                         \
	}
STATVFS(statvfs, statvfs)
STATVFS(statvfs64, statvfs64)

/* ---- clocks */

static int64_t to_ns(const struct timespec *at)
{
	return (int64_t)at->tv_sec * NS + at->tv_nsec;
}

static struct timespec from_ns(int64_t ns)
{
	return (struct timespec){(time_t)(ns / NS), (long)(ns % NS)};
}

/* What the wall clock is wrong by at present. */
static int64_t wall_error(void)
{
	struct timespec now;

	if (faults->wall_ppm == 0 || REAL(clock_gettime)(CLOCK_MONOTONIC, &now) < 0)
		return faults->wall_ns;
	return faults->wall_ns + (to_ns(&now) - faults->wall_since_ns) / 1000000 * faults->wall_ppm;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
	int rc = REAL(clock_gettime)(clock, out);

	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		*out = from_ns(to_ns(out) + wall_error());
	return rc;
}

time_t time(time_t *out)
{
	struct timespec now = {0};

	clock_gettime(CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now = {0};

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	*out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
	return 0;
}

/* The kernel's stamps of packets are of the same clock. */
ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t size = REAL(recvmsg)(fd, message, flags);
	int64_t error = wall_error();
	struct timespec stamp;

	if (size < 0 || error == 0)
		return size;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
			continue;
		memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
		stamp = from_ns(to_ns(&stamp) + error);
		memcpy(CMSG_DATA(c), &stamp, sizeof(stamp));
	}
	return size;
}
