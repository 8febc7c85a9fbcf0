/* A service that criu cannot write down: it holds an io_uring. */
#include <linux/io_uring.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	struct io_uring_params params = {0};

	if (syscall(SYS_io_uring_setup, 4, &params) < 0) {
		perror("io_uring_setup");
		return 1;
	}
	for (;;)
		pause();
}
