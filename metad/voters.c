#include "metad/voters.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/replace-file.h"
#include "metad/dqlite-client.h"
#include "proto/common.h"
#include "proto/metad.h"

#define TICK_MS 1000     /* the list is read from the leader */
#define ASK_AGAIN_MS 200 /* whether there is a store, while this is not known */
#define SURVEY_MS 500    /* for an answer to that */
#define SURVEY_MAX 16
#define BECOME_MS 5000
#define LOST_AFTER_MS 3000 /* without a leader: others may know other voters */

enum stage {
	STAGE_ASKING,    /* whether there is a store */
	STAGE_BEGINNING, /* has the others note it down */
	STAGE_VOTES,
	STAGE_CLIENT,
	STAGE_LOST, /* among the voters, without a log */
};

struct change;
static void change_lost(void *arg);

struct voters {
	struct voters_config config;
	struct voter_list list, first;
	bool begun;  /* the list is the engine's own */
	bool member; /* this node is in that list */
	enum stage stage;
	size_t n_began; /* first voters that began with an empty log */
	char began[VOTERS_MAX][NODE_NAME_MAX + 1];
	uint64_t self, leader;
	struct mono leaderless; /* since when */
	sd_event_source *timer;
	struct dqlite_conn *conn; /* to the leader, for the list */
	struct change *change;
};

/* One question to several metads. */
struct survey {
	struct voters *voters;
	void (*done)(struct survey *survey);
	struct rpc_call *call; /* whose request this is for */
	char name[NODE_NAME_MAX + 1];
	bool begins;
	size_t waiting, count;
	struct answer {
		struct survey *survey;
		char name[NODE_NAME_MAX + 1];
		bool heard, begun, votes, noted;
	} answer[SURVEY_MAX];
};

/* A voter comes or goes. */
struct change {
	struct voters *voters;
	struct rpc_call *call;
	bool add; /* or remove */
	bool granted;
	char name[NODE_NAME_MAX + 1];
	uint64_t id;
	struct dqlite_conn *conn;
};

/* --- the list --- */

static bool is_voter(const struct voter_list *list, uint64_t id)
{
	return engine_voter_find(list->voter, list->count, id);
}

static void list_add(struct voter_list *list, uint64_t id, const char *name)
{
	if (list->count == VOTERS_MAX)
		return;
	snprintf(list->name[list->count], sizeof(list->name[0]), "%s", name);
	list->voter[list->count] = (struct engine_voter){id, list->name[list->count]};
	list->count++;
}

/* The names of a copy are its own. */
static void list_copy(struct voter_list *to, const struct voter_list *from)
{
	*to = *from;
	for (size_t i = 0; i < to->count; i++)
		to->voter[i].name = to->name[i];
}

static bool list_same(const struct voter_list *a, const struct voter_list *b)
{
	for (size_t i = 0; i < a->count; i++) {
		if (!is_voter(b, a->voter[i].id))
			return false;
	}
	return a->count == b->count;
}

static void file_path(const struct voters *voters, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/voters", voters->config.dir);
}

static void save(const struct voters *voters)
{
	char path[PATH_MAX], text[VOTERS_MAX * (16 + 1 + NODE_NAME_MAX + 1) + 1];
	size_t used = 0;

	for (size_t i = 0; i < voters->list.count; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%016lx %s\n",
		    voters->list.voter[i].id, voters->list.name[i]);
	file_path(voters, path);
	replace_file(
	    path, text, used, 0644); /* a failure is logged, and not the end: it is read anew */
}

static bool load(struct voters *voters)
{
	struct voter_list list = {0};
	char path[PATH_MAX], name[NODE_NAME_MAX + 1];
	uint64_t id;
	FILE *file;

	file_path(voters, path);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (fscanf(file, "%16lx %63s", &id, name) == 2)
		list_add(&list, id, name);
	fclose(file);
	if (list.count == 0)
		return false;
	list_copy(&voters->list, &list);
	return true;
}

/* --- who has begun --- */

static void began_path(const struct voters *voters, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/began", voters->config.dir);
}

static void load_began(struct voters *voters)
{
	char path[PATH_MAX];
	FILE *file;

	began_path(voters, path);
	file = fopen(path, "re");
	while (file && voters->n_began < VOTERS_MAX &&
	       fscanf(file, "%63s", voters->began[voters->n_began]) == 1)
		voters->n_began++;
	if (file)
		fclose(file);
}

static bool has_begun(const struct voters *voters, const char *name)
{
	for (size_t i = 0; i < voters->n_began; i++)
		if (strcmp(voters->began[i], name) == 0)
			return true;
	return false;
}

/* On disk before it is said. */
static void note_began(struct voters *voters, const char *name)
{
	char path[PATH_MAX], text[VOTERS_MAX * (NODE_NAME_MAX + 1) + 1];
	size_t used = 0, count = voters->n_began;

	if (has_begun(voters, name) || count == VOTERS_MAX)
		return;
	snprintf(voters->began[count], sizeof(voters->began[0]), "%s", name);
	for (size_t i = 0; i <= count; i++)
		used +=
		    (size_t)snprintf(text + used, sizeof(text) - used, "%s\n", voters->began[i]);
	began_path(voters, path);
	if (replace_file(path, text, used, 0600) == 0)
		voters->n_began++;
}

/* --- this node's part --- */

static void start(struct voters *voters, const struct voter_list *first)
{
	if (voters->config.start(voters->config.arg, first) < 0)
		exit(EXIT_FAILURE); /* it was said why */
	note_began(voters, voters->config.daemon->node.name);
	voters->stage = STAGE_VOTES;
}

/*
 * dqlite cannot be stopped in good order (main.c), so a voter that is one no longer starts again, as a client.
 */
static void leave(const struct voters *voters)
{
	log_notice("%s votes no longer: starting again without the engine",
	    voters->config.daemon->node.name);
	_exit(EXIT_FAILURE);
}

static void take_list(struct voters *voters, const struct voter_list *list)
{
	bool was = voters->member, same = list_same(&voters->list, list);
	bool first = !voters->begun;

	voters->begun = true;
	voters->member = is_voter(list, voters->self);
	if (same && !first) {
		voters->list.revision = list->revision;
		return;
	}
	list_copy(&voters->list, list);
	save(voters);
	if (!same)
		voters->config.changed(voters->config.arg, &voters->list);
	if (was && !voters->member && voters->stage == STAGE_VOTES)
		leave(voters);
	if (!voters->member && voters->stage == STAGE_LOST)
		voters->stage = STAGE_CLIENT;
	if (voters->member && voters->stage == STAGE_CLIENT && engine_has_log(voters->config.dir))
		start(voters, NULL);
}

static void listed(void *arg, const struct dqlite_answer *what)
{
	struct voters *voters = arg;
	struct voter_list list = {.revision = voters->config.revision(voters->config.arg)};

	if (what->rc != 0) {
		voters->conn = dqlite_conn_free(voters->conn);
		return;
	}
	for (size_t i = 0; i < what->server_count; i++) {
		if (what->servers[i].role == WIRE_VOTER)
			list_add(&list, what->servers[i].id, what->servers[i].address);
	}
	if (list.count)
		take_list(voters, &list);
}

static void conn_lost(void *arg)
{
	struct voters *voters = arg;

	voters->conn = dqlite_conn_free(voters->conn);
}

static int connect_leader(
    struct voters *voters, struct dqlite_conn **conn, void (*lost)(void *), void *arg)
{
	const struct engine_voter *leader =
	    engine_voter_find(voters->list.voter, voters->list.count, voters->leader);
	int fd, r = leader ? voters->config.dial(voters->config.arg, leader->name, &fd) : -ENOTCONN;

	return r < 0 ? r : dqlite_conn_new(conn, voters->config.daemon->loop, fd, lost, arg);
}

static void read_list(struct voters *voters)
{
	if (!voters->conn && connect_leader(voters, &voters->conn, conn_lost, voters) < 0)
		return;
	if (!dqlite_conn_busy(voters->conn) &&
	    dqlite_conn_cluster(voters->conn, listed, voters) < 0)
		voters->conn = dqlite_conn_free(voters->conn);
}

void voters_leader(struct voters *voters, uint64_t id)
{
	if (!voters)
		return;
	if (id != voters->leader)
		voters->conn = dqlite_conn_free(voters->conn);
	if (id == 0)
		voters->leaderless = mono_now();
	if (id != voters->leader && voters->change && voters->change->conn)
		change_lost(voters->change);
	voters->leader = id;
	if (id)
		sd_event_source_set_time_relative(voters->timer, 0);
}

/* --- asking other metads --- */

static void survey_end(struct survey *survey)
{
	if (--survey->waiting)
		return;
	survey->done(survey);
	free(survey);
}

/*
 * May it lead to a voter that leads?  A change of the voters is none of the store, so two lists of one revision may differ:
 * then those of both are asked.  One too many is asked in vain.
 */
static bool is_of_use(const struct voters *voters, struct voter_list *list)
{
	const struct voter_list *own = &voters->list;

	if (list->revision != own->revision)
		return list->revision > own->revision;
	for (size_t i = 0; i < own->count; i++)
		if (!is_voter(list, own->voter[i].id))
			list_add(list, own->voter[i].id, own->name[i]);
	return list->count > own->count;
}

static void take_theirs(struct voters *voters, const struct msg_metad_store_reply *reply)
{
	struct voter_list list = {.revision = reply->revision};

	for (size_t i = 0; i < reply->voters.count; i++)
		list_add(&list, reply->voters.item[i].id, reply->voters.item[i].name);
	if (reply->begun && list.count &&
	    (!voters->begun || (voters->leader == 0 && is_of_use(voters, &list))))
		take_list(voters, &list);
}

static void survey_answered(void *userdata, const struct rpc_answer *answer)
{
	struct answer *to = userdata;
	struct msg_metad_store_reply reply;
	struct mpr_error error;

	if (answer->status == RPC_OK &&
	    msg_metad_store_reply_unpack(&reply, answer->body, answer->size, &error) == 0) {
		to->heard = true;
		to->begun = reply.begun;
		to->votes = reply.votes;
		to->noted = reply.you_began;
		take_theirs(to->survey->voters, &reply);
	}
	survey_end(to->survey);
}

static struct survey *survey_new(struct voters *voters, void (*done)(struct survey *))
{
	struct survey *survey = calloc(1, sizeof(*survey));

	if (survey)
		*survey = (struct survey){.voters = voters, .done = done, .waiting = 1};
	return survey;
}

static void survey_ask(struct survey *survey, const char *name)
{
	struct voters *voters = survey->voters;
	struct answer *answer = &survey->answer[survey->count];
	struct rpc_client *client = voters->config.client(voters->config.arg, name);
	struct msg_metad_store request = {.begins = survey->begins};
	_cleanup_buf_ struct buf body = {0};

	if (survey->count == SURVEY_MAX)
		return;
	survey->count++;
	answer->survey = survey;
	snprintf(answer->name, sizeof(answer->name), "%s", name);
	if (strcmp(name, voters->config.daemon->node.name) == 0) {
		answer->heard = true;
		answer->begun = voters->begun;
		answer->votes = voters->stage == STAGE_VOTES;
		answer->noted = has_begun(voters, name);
	} else if (client && msg_metad_store_pack(&request, &body) == 0 &&
		   rpc_request(client, MSG_METAD_STORE, body.data, body.size, SURVEY_MS,
		       survey_answered, answer) > 0) {
		survey->waiting++;
	}
}

static void survey_list(struct survey *survey, const struct voter_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		survey_ask(survey, list->name[i]);
}

static void survey_voters(struct survey *survey)
{
	survey_list(survey, &survey->voters->list);
}

/* Others too, as many as there is room for: one that is no voter can know of a store just as well. */
static void survey_others(struct survey *survey)
{
	const struct peers *peers = &survey->voters->config.daemon->node.peers;
	const struct peer *peer = NULL;

	while ((peer = peers_next(peers, peer)) && survey->count < SURVEY_MAX) {
		bool known = peer->old || peer->gone;

		for (size_t i = 0; !known && i < survey->count; i++)
			known = strcmp(survey->answer[i].name, peer->name) == 0;
		if (!known)
			survey_ask(survey, peer->name);
	}
}

static size_t reachable(const struct survey *survey, const char *but)
{
	size_t count = 0;

	for (size_t i = 0; i < survey->count; i++) {
		if (strcmp(survey->answer[i].name, but) != 0)
			count += survey->answer[i].heard && survey->answer[i].votes;
	}
	return count;
}

/* --- is there a store already? --- */

static bool is_self(const struct voters *voters, const struct answer *answer)
{
	return strcmp(answer->name, voters->config.daemon->node.name) == 0;
}

/* How many of the other first voters make a majority with this one. */
static size_t witnesses(const struct voters *voters)
{
	return voters->first.count / 2;
}

static void lose(struct voters *voters)
{
	voters->stage = STAGE_LOST;
	log_error("this node votes, but its log in %s/dqlite was lost: an empty one must not "
		  "vote in its name; try: depctl meta rejoin %s",
	    voters->config.dir, voters->config.daemon->node.name);
}

/* The first answers of a survey are of the first voters, in their order. */
static bool is_lost(const struct survey *survey)
{
	const struct voters *voters = survey->voters;

	for (size_t i = 0; i < voters->first.count; i++)
		if (survey->answer[i].noted)
			return true;
	return voters->begun && voters->first.count == 1;
}

static bool may_begin(const struct survey *survey)
{
	const struct voters *voters = survey->voters;
	size_t fresh = 0, denied = 0;

	for (size_t i = 0; i < voters->first.count; i++) {
		const struct answer *answer = &survey->answer[i];

		fresh += answer->heard && !answer->begun;
		denied += answer->heard && answer->begun && !is_self(voters, answer);
	}
	return voters->begun ? denied + witnesses(voters) >= voters->first.count
			     : 2 * fresh > voters->first.count;
}

/* Enough of the others will tell this node that it has begun, should it lose its log. */
static void witnessed(struct survey *survey)
{
	struct voters *voters = survey->voters;
	size_t noted = 0;

	if (voters->stage != STAGE_BEGINNING)
		return;
	for (size_t i = 0; i < voters->first.count; i++)
		noted += survey->answer[i].noted && !is_self(voters, &survey->answer[i]);
	if (voters->begun && !voters->member)
		voters->stage = STAGE_CLIENT;
	else if (noted >= witnesses(voters))
		start(voters, &voters->first);
}

static void have_witnessed(struct voters *voters)
{
	struct survey *survey = survey_new(voters, witnessed);

	if (!survey)
		return;
	survey->begins = true;
	survey_list(survey, &voters->first);
	survey_end(survey);
}

static void asked(struct survey *survey)
{
	struct voters *voters = survey->voters;

	if (voters->stage != STAGE_ASKING)
		return;
	if (voters->begun && !voters->member) {
		voters->stage = STAGE_CLIENT;
	} else if (is_lost(survey)) {
		lose(voters);
	} else if (may_begin(survey)) {
		voters->stage = STAGE_BEGINNING;
		have_witnessed(voters);
	}
}

static void ask_whether_begun(struct voters *voters)
{
	struct survey *survey = survey_new(voters, asked);

	if (!survey)
		return;
	survey_list(survey, &voters->first);
	survey_others(survey);
	survey_end(survey);
}

static void surveyed(struct survey *survey)
{
	(void)survey; /* take_theirs has done it */
}

static void seek_voters(struct voters *voters)
{
	struct survey *survey = survey_new(voters, surveyed);

	if (!survey)
		return;
	survey_others(survey);
	survey_end(survey);
}

static int tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct voters *voters = userdata;
	int64_t next_ms = TICK_MS;

	(void)usec;
	if (voters->stage == STAGE_ASKING)
		ask_whether_begun(voters);
	else if (voters->stage == STAGE_BEGINNING)
		have_witnessed(voters);
	if (voters->stage == STAGE_ASKING || voters->stage == STAGE_BEGINNING)
		next_ms = ASK_AGAIN_MS;
	if (voters->leader)
		read_list(voters);
	else if (mono_due(mono_add_ms(voters->leaderless, LOST_AFTER_MS), mono_now()))
		seek_voters(voters);
	sd_event_source_set_time_relative(source, (uint64_t)next_ms * 1000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- a change --- */

static void end_change(struct change *change)
{
	change->voters->change = NULL;
	dqlite_conn_free(change->conn);
	read_list(change->voters);
	free(change);
}

static void change_done(struct change *change, const struct dqlite_answer *what)
{
	const char *verb = change->add ? "add" : "remove";

	if (what->rc == 0) {
		log_notice("voter %s=%s", change->add ? "added" : "removed", change->name);
		rpc_reply(change->call, MSG_COMMON_DONE, "\x80", 1);
	} else if (what->rc > 0) {
		rpc_fail(change->call, RPC_FAILED, "the engine does not %s %s: %s", verb,
		    change->name, what->message);
	} else {
		rpc_fail(change->call, RPC_UNKNOWN,
		    "the voter that leads was lost meanwhile: depctl meta status tells whether %s "
		    "votes",
		    change->name);
	}
	end_change(change);
}

static void on_changed(void *arg, const struct dqlite_answer *what)
{
	change_done(arg, what);
}

/* Known to the engine now, or from an attempt before: it is to catch up and then to vote. */
static void on_added(void *arg, const struct dqlite_answer *what)
{
	struct change *change = arg;

	if (what->rc < 0 ||
	    dqlite_conn_assign(change->conn, change->id, WIRE_VOTER, on_changed, change) < 0)
		change_done(change, what);
}

static void change_lost(void *arg)
{
	change_done(arg, &(struct dqlite_answer){.rc = -ECONNRESET});
}

static void begin_change(struct change *change)
{
	int r = connect_leader(change->voters, &change->conn, change_lost, change);

	if (r == 0 && change->add)
		r = dqlite_conn_add(change->conn, change->id, change->name, on_added, change);
	else if (r == 0)
		r = dqlite_conn_remove(change->conn, change->id, on_changed, change);
	if (r == 0)
		return;
	rpc_fail(change->call, RPC_UNREACHABLE, "no voter leads");
	end_change(change);
}

static void became(void *userdata, const struct rpc_answer *answer)
{
	struct change *change = userdata;

	if (answer->status == RPC_OK) {
		begin_change(change);
		return;
	}
	rpc_fail(change->call, answer->status, "%s: %s", change->name, answer->error);
	end_change(change);
}

static void fill_voters(const struct voters *voters, struct msg_metad_voter *item, size_t *count)
{
	for (size_t i = 0; i < voters->list.count; i++) {
		struct msg_metad_voter *voter = &item[(*count)++];

		voter->id = voters->list.voter[i].id;
		snprintf(voter->name, sizeof(voter->name), "%s", voters->list.name[i]);
	}
}

/* An engine without a log; one that is left from a time before this node was removed is of no use. */
static void become(struct voters *voters)
{
	if (voters->stage == STAGE_VOTES)
		return;
	engine_forget(voters->config.dir);
	start(voters, NULL);
}

static void let_become(struct change *change)
{
	struct voters *voters = change->voters;
	struct rpc_client *client = voters->config.client(voters->config.arg, change->name);
	struct msg_metad_become_voter message = {.revision = voters->list.revision};
	_cleanup_buf_ struct buf body = {0};

	if (change->id == voters->self) {
		become(voters);
		begin_change(change);
		return;
	}
	fill_voters(voters, message.voters.item, &message.voters.count);
	if (client && msg_metad_become_voter_pack(&message, &body) == 0 &&
	    rpc_request(client, MSG_METAD_BECOME_VOTER, body.data, body.size, BECOME_MS, became,
		change) > 0)
		return;
	rpc_fail(change->call, RPC_INVALID, "%s is no member of this cluster", change->name);
	end_change(change);
}

static bool majority(size_t count, size_t of)
{
	return 2 * count > of;
}

static void say_refused(struct rpc_call *call, const char *what, const char *name, size_t reached,
    size_t of, const struct survey *survey)
{
	char silent[VOTERS_MAX * (NODE_NAME_MAX + 2)] = "";
	size_t used = 0;

	for (size_t i = 0; i < survey->count; i++) {
		const struct answer *answer = &survey->answer[i];

		if (strcmp(answer->name, name) != 0 && !(answer->heard && answer->votes))
			used += (size_t)snprintf(
			    silent + used, sizeof(silent) - used, " %s", answer->name);
	}
	rpc_fail(call, RPC_FAILED,
	    "%s %s would leave no majority: of the %zu voters then, %zu can be reached; not:%s",
	    what, name, of, reached, silent);
}

/* The voters that can be reached are known: may it be? */
static void judge(struct survey *survey)
{
	struct change *change = survey->voters->change;
	const struct voter_list *list = &survey->voters->list;
	size_t reached = reachable(survey, change->name);
	bool listed_now = is_voter(list, change->id);
	struct rpc_call *call = change->call;

	if (change->add && listed_now)
		rpc_fail(call, RPC_FAILED,
		    "%s votes already; if its store was lost: depctl meta rejoin %s", change->name,
		    change->name);
	else if (!change->add && !listed_now)
		rpc_fail(call, RPC_NOT_FOUND, "%s does not vote", change->name);
	else if (!change->add && list->count == 1)
		rpc_fail(call, RPC_FAILED, "%s is the only voter", change->name);
	else if (change->add && list->count == VOTERS_MAX)
		rpc_fail(call, RPC_FAILED, "there are %d voters, the most that can be", VOTERS_MAX);
	else if (change->add && !majority(reached + 1, list->count + 1))
		say_refused(call, "adding", change->name, reached + 1, list->count + 1, survey);
	else if (!change->add && !majority(reached, list->count - 1))
		say_refused(call, "removing", change->name, reached, list->count - 1, survey);
	else
		change->granted = true;
	if (!change->granted)
		end_change(change);
	else if (change->add)
		let_become(change);
	else
		begin_change(change);
}

static void request_change(struct voters *voters, struct rpc_call *call, const char *name, bool add)
{
	struct survey *survey = voters->change ? NULL : survey_new(voters, judge);
	struct change *change = survey ? calloc(1, sizeof(*change)) : NULL;

	if (!change) {
		free(survey);
		rpc_fail(call, RPC_FAILED, "a change of the voters is under way here");
		return;
	}
	*change = (struct change){.voters = voters, .call = call, .add = add};
	snprintf(change->name, sizeof(change->name), "%s", name);
	change->id = settings_engine_id(name);
	voters->change = change;
	survey_voters(survey);
	survey_end(survey);
}

/* --- requests --- */

static void on_add(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_metad_add_voter message;

	if (rpc_unpack(call, &message, msg_metad_add_voter_unpack, body, size) == 0)
		request_change(userdata, call, message.name, true);
}

static void on_remove(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_metad_remove_voter message;

	if (rpc_unpack(call, &message, msg_metad_remove_voter_unpack, body, size) == 0)
		request_change(userdata, call, message.name, false);
}

static void on_become(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct voters *voters = userdata;
	struct msg_metad_become_voter message;
	struct voter_list list;

	if (rpc_unpack(call, &message, msg_metad_become_voter_unpack, body, size) < 0)
		return;
	list = (struct voter_list){.revision = message.revision};
	for (size_t i = 0; i < message.voters.count; i++)
		list_add(&list, message.voters.item[i].id, message.voters.item[i].name);
	if (is_voter(&list, voters->self) || list.count == 0) {
		rpc_fail(call, RPC_INVALID, "this node votes already");
		return;
	}
	take_list(voters, &list);
	become(voters);
	rpc_reply(call, MSG_COMMON_DONE, "\x80", 1);
}

static bool is_first(const struct voters *voters, const char *name)
{
	return is_voter(&voters->first, settings_engine_id(name));
}

static void on_store(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct voters *voters = userdata;
	const char *peer = rpc_call_peer(call);
	struct msg_metad_store request;
	struct msg_metad_store_reply reply = {.begun = voters->begun,
	    .votes = voters->stage == STAGE_VOTES,
	    .revision = voters->list.revision};
	_cleanup_buf_ struct buf out = {0};

	if (rpc_unpack(call, &request, msg_metad_store_unpack, body, size) < 0)
		return;
	if (request.begins && peer && is_first(voters, peer))
		note_began(voters, peer);
	reply.you_began = peer && has_begun(voters, peer);
	fill_voters(voters, reply.voters.item, &reply.voters.count);
	msg_metad_store_reply_pack(&reply, &out);
	rpc_reply(call, MSG_METAD_STORE_REPLY, out.data, out.size);
}

static void tell_voters(struct survey *survey)
{
	const struct voters *voters = survey->voters;
	struct msg_metad_voters_reply reply = {.begun = voters->begun};
	_cleanup_buf_ struct buf out = {0};

	for (size_t i = 0; i < survey->count && i < VOTERS_MAX; i++) {
		struct msg_metad_voter_state *state = &reply.voters.item[reply.voters.count++];
		const struct answer *answer = &survey->answer[i];

		snprintf(state->name, sizeof(state->name), "%s", answer->name);
		state->reachable = answer->heard;
		state->votes = answer->votes;
		state->leads = voters->leader == settings_engine_id(answer->name);
	}
	msg_metad_voters_reply_pack(&reply, &out);
	rpc_reply(survey->call, MSG_METAD_VOTERS_REPLY, out.data, out.size);
}

static void on_voters(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct survey *survey = survey_new(userdata, tell_voters);

	(void)body;
	(void)size;
	if (!survey) {
		rpc_fail(call, RPC_FAILED, "no memory");
		return;
	}
	survey->call = call;
	survey_voters(survey);
	survey_end(survey);
}

static const struct rpc_method methods[] = {
    {MSG_METAD_STORE, on_store, false},
    {MSG_METAD_BECOME_VOTER, on_become, false},
    {MSG_METAD_VOTERS, on_voters, true},
    {MSG_METAD_ADD_VOTER, on_add, true},
    {MSG_METAD_REMOVE_VOTER, on_remove, true},
    {0},
};

/* --- start --- */

int voters_new(struct voters **out, const struct voters_config *config)
{
	struct voters *voters = calloc(1, sizeof(*voters));

	if (!voters)
		return -ENOMEM;
	voters->config = *config;
	voters->self = settings_engine_id(config->daemon->node.name);
	voters->leaderless = mono_now();
	list_copy(&voters->first, config->first);
	load_began(voters);
	voters->begun = load(voters);
	if (!voters->begun)
		list_copy(&voters->list, config->first);
	voters->member = is_voter(&voters->list, voters->self);
	*out = voters;
	return 0;
}

int voters_start(struct voters *voters)
{
	struct daemon *daemon = voters->config.daemon;
	int r = rpc_server_add(daemon->rpc, methods, voters);

	if (r >= 0)
		r = sd_event_add_time_relative(
		    daemon->loop, &voters->timer, MONO_CLOCK, 0, 0, tick, voters);
	if (r < 0)
		return r;
	if (!voters->member)
		voters->stage = STAGE_CLIENT;
	else if (engine_has_log(voters->config.dir))
		start(voters, NULL);
	return 0;
}

const struct voter_list *voters_list(const struct voters *voters)
{
	return &voters->list;
}

bool voters_votes(const struct voters *voters)
{
	return voters->stage == STAGE_VOTES;
}
