/*
 * Goal G1 at its full size: from 24 nodes to 10,000 the time until all know of a failure grows by at
 * most 1.3, and the bytes of a node in quiet by at most a tenth.  For `make soak`: ten thousand
 * nodes take some minutes and gigabytes.
 *
 * usage: sim-scale [NODES...]		default: 1008 10008
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sites.h"

enum {
	SIZE = 24, /* of a cluster */
	SEED = 1,
	KILLS = 10,
};

static bool goal(const char *what, unsigned nodes, double ratio, double limit)
{
	bool met = ratio <= limit;

	printf("goal G1: %s at %u nodes %.2f x those at %d (<= %.1f) %s\n", what, nodes, ratio,
	    SIZE, limit, met ? "met" : "missed");
	return met;
}

static int judge(const struct sites_cost *one, unsigned nodes)
{
	const char *complaint;
	struct sites_cost many;
	bool met;

	if (nodes < SIZE || nodes > SIZE * GOSSIPD_CLUSTERS_MAX) {
		fprintf(stderr, "sim-scale: %d to %d nodes\n", SIZE, SIZE * GOSSIPD_CLUSTERS_MAX);
		return 2;
	}
	complaint = sites_measure(nodes / SIZE, SIZE, SEED, KILLS, &many);
	if (complaint) {
		printf("goal G1: at %u nodes: %s: missed\n", nodes, complaint);
		return 1;
	}
	nodes = nodes / SIZE * SIZE;
	met = goal("milliseconds until all know", nodes, many.time_ms / one->time_ms, 1.3);
	return !(goal("bytes of a node", nodes, many.bytes / one->bytes, 1.1) && met);
}

int main(int argc, char **argv)
{
	struct sites_cost one;
	int status;

	setlinebuf(stdout);
	if (sites_measure(1, SIZE, SEED, 2 * KILLS, &one))
		return 1;
	if (argc < 2) {
		status = judge(&one, 42 * SIZE);
		return judge(&one, 417 * SIZE) || status;
	}
	status = 0;
	for (int i = 1; i < argc; i++)
		status = judge(&one, (unsigned)strtoul(argv[i], NULL, 10)) || status;
	return status;
}
