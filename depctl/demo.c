#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "depctl/command.h"

/* The demo is a script that lays out a cluster; this only finds it. */
int command_demo(struct session *session, const struct arguments *arguments)
{
	(void)session;
	execl(DEPSYS_DEMO, "demo", arguments->option[0] ? "--keep" : NULL, (char *)NULL);
	fprintf(stderr, "depctl: run %s: %s\n", DEPSYS_DEMO, strerror(errno));
	return 1;
}
