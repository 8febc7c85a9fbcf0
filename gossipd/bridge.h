/*
 * Between the two halves of gossipd's part about clusters: clusters.c holds the table, bridge.c
 * sends.
 */
#ifndef GOSSIPD_BRIDGE_H
#define GOSSIPD_BRIDGE_H

#include "gossipd/clusters.h"

/* ---- clusters.c */

/* By the upper half of its id; NULL. */
struct cluster_record *clusters_find(struct clusters *clusters, uint32_t half);
const struct gossipd_node *clusters_roster(
    const struct clusters *clusters, const struct cluster_record *record);
/* Live members by place as a summary of the cluster says. */
uint64_t clusters_alive(const struct cluster_record *record, const struct gossipd_summary *summary);
size_t clusters_gateways(const struct clusters *clusters, const struct cluster_record *record,
    const struct gossipd_summary *summary, uint64_t ids[2]);
void clusters_set_unknown(struct clusters *clusters, struct cluster_record *record, bool unknown,
    struct mono now, struct gossipd_actions *actions);
void clusters_author(struct clusters *clusters, struct mono now, struct gossipd_actions *actions);
/* Of all that the members of one cluster share; never 0. */
uint64_t clusters_digest(const struct clusters *clusters);

/* ---- bridge.c */

void bridge_set_gateway(struct clusters *clusters, bool gateway, struct mono now);
/* What is held of a cluster has changed; abroad: also for other clusters. */
void bridge_news(
    struct clusters *clusters, struct cluster_record *record, bool abroad, struct mono now);
/* To one that has heard our cluster's beat so far. */
void bridge_answer(struct clusters *clusters, uint64_t to, uint32_t heard, struct mono now);

#endif
