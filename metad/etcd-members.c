#include "metad/etcd-members.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metad/etcd.h"
#include "metad/https.h"
#include "proto/metad.h"

#define ASK_MS 2000
#define ANSWER_MAX 16384

struct etcd_cluster {
	const struct settings *settings;
	struct https *https;
	const char *(*leader)(void *arg);
	void *arg;
};

/* One look at all endpoints; freed when the last has answered or not. */
struct survey {
	struct etcd_cluster *cluster;
	struct rpc_call *call;
	size_t open;
	struct answer {
		struct survey *survey;
		struct etcd_status status;
		bool heard;
	} answer[ETCD_ENDPOINTS_MAX];
};

static struct msg_metad_voter_state *add(struct msg_metad_voters_reply *reply, const char *name)
{
	struct msg_metad_voter_state *state = &reply->voters.item[reply->voters.count++];

	snprintf(state->name, sizeof(state->name), "%s", name);
	return state;
}

/* Who leads need not be one of the endpoints: then it is added by its name, as the store has it. */
static void add_leader(const struct etcd_cluster *cluster, struct msg_metad_voters_reply *reply)
{
	const char *leader = cluster->leader(cluster->arg);
	struct msg_metad_voter_state *state;

	if (!leader[0] || reply->voters.count == VOTERS_MAX)
		return;
	state = add(reply, leader);
	state->reachable = state->votes = state->leads = true;
}

static void tell(struct survey *survey)
{
	const struct settings *settings = survey->cluster->settings;
	struct msg_metad_voters_reply reply = {.begun = true};
	_cleanup_buf_ struct buf out = {0};
	bool led = false;

	for (size_t i = 0; i < settings->etcd_count; i++) {
		struct msg_metad_voter_state *state = add(&reply, settings->etcd[i]);
		const struct answer *answer = &survey->answer[i];

		state->reachable = state->votes = answer->heard;
		state->leads = answer->heard && answer->status.leader == answer->status.member;
		led |= state->leads;
	}
	if (!led)
		add_leader(survey->cluster, &reply);
	msg_metad_voters_reply_pack(&reply, &out);
	rpc_reply(survey->call, MSG_METAD_VOTERS_REPLY, out.data, out.size);
	free(survey);
}

static void end_one(struct survey *survey)
{
	if (--survey->open == 0)
		tell(survey);
}

static void took_status(void *arg, const struct https_answer *https)
{
	struct answer *answer = arg;

	answer->heard = https->rc == 0 && https->status == 200 &&
			etcd_take_status(&answer->status, https->body, https->size) == 0;
	end_one(answer->survey);
}

static void ask(struct survey *survey, size_t index)
{
	struct etcd_cluster *cluster = survey->cluster;
	char url[ETCD_ENDPOINT_MAX + 64];
	struct https_post post = {
	    .url = url,
	    .body = "{}",
	    .size = 2,
	    .limit = ANSWER_MAX,
	    .timeout_ms = ASK_MS,
	    .done = took_status,
	    .arg = &survey->answer[index],
	};
	struct https_call *call;

	survey->answer[index].survey = survey;
	survey->open++;
	snprintf(url, sizeof(url), "%s/v3/maintenance/status", cluster->settings->etcd[index]);
	if (https_post(cluster->https, &post, &call) < 0)
		end_one(survey);
}

static void on_voters(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct etcd_cluster *cluster = userdata;
	struct survey *survey = calloc(1, sizeof(*survey));

	(void)body;
	(void)size;
	if (!survey) {
		rpc_fail(call, RPC_FAILED, "no memory");
		return;
	}
	survey->cluster = cluster;
	survey->call = call;
	survey->open = 1; /* while they are asked */
	for (size_t i = 0; i < cluster->settings->etcd_count; i++)
		ask(survey, i);
	end_one(survey);
}

static void on_change(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	(void)userdata;
	(void)body;
	(void)size;
	rpc_fail(call, RPC_INVALID,
	    "the facts are in etcd ([metad] etcd), and who votes there is its own matter: etcdctl "
	    "member add, member remove; then change the endpoints in the configuration");
}

static const struct rpc_method methods[] = {
    {MSG_METAD_VOTERS, on_voters, true},
    {MSG_METAD_ADD_VOTER, on_change, true},
    {MSG_METAD_REMOVE_VOTER, on_change, true},
    {0},
};

int etcd_members_start(struct daemon *daemon, const struct settings *settings,
    const char *(*leader)(void *arg), void *arg)
{
	struct etcd_cluster *cluster = calloc(1, sizeof(*cluster));
	int r;

	if (!cluster)
		return -ENOMEM;
	*cluster = (struct etcd_cluster){.settings = settings, .leader = leader, .arg = arg};
	r = https_new(&cluster->https, daemon->loop, &settings->etcd_files);
	if (r >= 0)
		r = rpc_server_add(daemon->rpc, methods, cluster);
	return r;
}
