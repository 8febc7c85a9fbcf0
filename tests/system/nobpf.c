/*
 * nobpf PROGRAM [ARGUMENT ...]: becomes the program, on what is a host without BPF for it and all that it starts: the kernel
 * answers bpf(2) with EPERM, by a seccomp filter, as a hardened host or a container does.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (argc < 2 || !filter ||
	    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(bpf), 0) < 0 ||
	    seccomp_load(filter) < 0) {
		fprintf(stderr, "usage: nobpf PROGRAM [ARGUMENT ...]\n");
		return 2;
	}
	execv(argv[1], argv + 1);
	fprintf(stderr, "nobpf: start %s: %s\n", argv[1], strerror(errno));
	return 1;
}
