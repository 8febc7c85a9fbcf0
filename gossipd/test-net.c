#include "gossipd/test-net.h"

#include "common/test.h"

struct net net;
struct gossipd_actions actions;
unsigned quorum = 51;
struct mono stall = {10000000000};

void step(unsigned n, struct gossipd_event event)
{
	if (!net.node[n])
		return;
	event.now = net.now;
	memset(&actions, 0xa5, sizeof(actions)); /* whatever the step leaves unsaid is wrong */
	gossipd_step(net.node[n], &event, &actions);
	check(!gossipd_invariant(net.node[n]));
	for (size_t i = 0; i < actions.count; i++)
		if (actions.list[i].type == GOSSIPD_SEND)
			check_int(actions.gram.clusters + actions.gram.summary_count, 0);
	carry_out(n);
}

static void pull(unsigned n, unsigned peer)
{
	struct gossipd_entry entries[GOSSIPD_MEMBERS_MAX];
	struct gossipd_event event = {.type = GOSSIPD_VIEW};

	if (!net.node[peer] || net.cut[n][peer] || net.cut[peer][n])
		return;
	event.view.from = peer;
	event.view.entries = entries;
	event.view.count = gossipd_view(net.node[peer], entries);
	step(n, event);
}

static void note(unsigned n, const struct gossipd_action *action)
{
	size_t used = strlen(net.log);

	snprintf(net.log + used, sizeof(net.log) - used, "%u:%u %s;", n,
	    (unsigned)action->member.id, gossipd_state_name(action->member.to));
}

void carry_out(unsigned n)
{
	struct gossipd_actions todo = actions;

	for (size_t i = 0; i < todo.count; i++) {
		const struct gossipd_action *action = &todo.list[i];
		struct letter *letter;

		switch (action->type) {
		case GOSSIPD_PERSIST:
			net.stored[n] = action->incarnation;
			break;
		case GOSSIPD_MEMBER:
			note(n, action);
			break;
		case GOSSIPD_PEERS:
			for (size_t r = 0; r < todo.role_count; r++)
				net.watch[n][todo.roles[r].id] = todo.roles[r].watch;
			break;
		case GOSSIPD_SEND:
			letter = &net.queue[net.tail++ % QUEUE_MAX];
			*letter = (struct letter){n, (unsigned)action->send.to, todo.gram};
			letter->gram.accused = action->send.accused;
			letter->gram.damped = action->send.damped;
			letter->gram.reply = action->send.reply;
			letter->gram.answer = action->send.answer;
			check(net.tail - net.head < QUEUE_MAX);
			break;
		case GOSSIPD_REACH:
			check(net.reaching[n][action->reach.id] != action->reach.begin);
			net.reaching[n][action->reach.id] = action->reach.begin;
			break;
		case GOSSIPD_PULL:
			pull(n, (unsigned)action->peer);
			break;
		default:
			break;
		}
	}
}

void deliver_all(void)
{
	while (net.head < net.tail) {
		struct letter letter = net.queue[net.head++ % QUEUE_MAX];
		struct gossipd_event event = {.type = GOSSIPD_GRAM};

		if (net.cut[letter.from][letter.to])
			continue;
		event.gram.from = letter.from;
		event.gram.gram = &letter.gram;
		step(letter.to, event);
	}
}

/* Time goes by in steps of a millisecond; datagrams take none. */
void pass(int64_t ms)
{
	for (; ms > 0; ms--) {
		net.now = mono_add_ms(net.now, 1);
		for (unsigned n = 1; n <= net.count; n++) {
			if (net.node[n] && mono_due(gossipd_deadline(net.node[n]), net.now))
				step(n, (struct gossipd_event){.type = GOSSIPD_TIMEOUT});
		}
		deliver_all();
	}
}

/* Times in which the tests below can count. */
static void quick(struct gossipd_config *config)
{
	gossipd_config_profile(config, GOSSIPD_BALANCED);
	config->observers = 3;
	config->gossip = mono_ms(500);
	config->tell = mono_ms(50);
	config->confirm = mono_ms(200);
	config->quorum = quorum;
	config->stall = stall;
	gossipd_config_derive(config);
}

void boot(unsigned n, uint64_t wall_s)
{
	uint64_t ids[NODES_MAX];
	struct gossipd_config config;
	struct gossipd_event start = {.type = GOSSIPD_START};

	for (unsigned i = 0; i < net.count; i++)
		ids[i] = i + 1;
	quick(&config);
	config.self = n;
	config.members = ids;
	config.member_count = net.count;
	config.lease = MONO_ZERO;
	check_int(gossipd_new(&net.node[n], &config, n), 0);
	start.start.stored_incarnation = net.stored[n];
	start.start.wall_s = wall_s;
	step(n, start);
	deliver_all();
}

void cluster(unsigned count)
{
	for (unsigned n = 1; n <= NODES_MAX; n++)
		gossipd_free(net.node[n]);
	memset(&net, 0, sizeof(net));
	net.count = count;
	net.now = mono_ms(5000);
	for (unsigned n = 1; n <= count; n++)
		boot(n, 1000);
	pass(2000);
	net.log[0] = '\0';
}

void kill_node(unsigned n)
{
	net.node[n] = gossipd_free(net.node[n]);
	memset(net.reaching[n], 0, sizeof(net.reaching[n]));
}

void silence(unsigned a, unsigned b, bool silent)
{
	struct gossipd_event event = {.type = GOSSIPD_LEVEL};

	event.level.id = b;
	event.level.silent = silent;
	step(a, event);
	deliver_all();
}

void reached(unsigned a, unsigned b, bool mute)
{
	struct gossipd_event event = {.type = GOSSIPD_REACHED};

	event.reached.id = b;
	event.reached.mute = mute;
	step(a, event);
	deliver_all();
}

/* All who watch it find it silent. */
void silence_everywhere(unsigned b)
{
	for (unsigned a = 1; a <= net.count; a++) {
		if (a != b && net.watch[a][b])
			silence(a, b, true);
	}
}

void cut_off(unsigned n, bool cut)
{
	for (unsigned i = 1; i <= net.count; i++) {
		if (i != n)
			net.cut[i][n] = net.cut[n][i] = cut;
	}
}

struct gossipd_status status(unsigned at, unsigned of)
{
	struct gossipd_status found;

	check(gossipd_status(net.node[at], of - 1, net.now, &found));
	return found;
}

enum gossipd_state state(unsigned at, unsigned of)
{
	return status(at, of).state;
}

uint64_t incarnation(unsigned at, unsigned of)
{
	return status(at, of).incarnation;
}

bool logged(const char *text)
{
	return strstr(net.log, text) != NULL;
}

/* The members are not in the order of their numbers where some were removed. */
bool knows(unsigned at, unsigned of, struct gossipd_status *status)
{
	for (size_t i = 0; gossipd_status(net.node[at], i, net.now, status); i++) {
		if (status->id == of)
			return true;
	}
	return false;
}
