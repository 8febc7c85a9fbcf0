#include "tests/sim/recovery.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/recovery-internal.h"

/* A checkpoint's number says what comes of it: some cannot be restored, some answer nobody afterwards. */
static bool is_bad(uint64_t ckpt)
{
	return ckpt % 10 == 1;
}

static bool is_mute(uint64_t ckpt)
{
	return ckpt % 10 == 2;
}

void recovery_name_ve(char *name, unsigned ve)
{
	snprintf(name, NODE_NAME_MAX + 1, "ve%u", ve);
}

unsigned recovery_ve_of(const char *name)
{
	return (unsigned)(name[2] - '0');
}

void recovery_name_node(char *name, unsigned node)
{
	snprintf(name, NODE_NAME_MAX + 1, "n%u", node + 1); /* as the simulator names its host */
}

unsigned recovery_node_of(const char *name)
{
	return *name ? (unsigned)(name[1] - '1') : 0;
}

/* A message without what it does not use. */
static size_t size_of(const struct message *message)
{
	size_t head = offsetof(struct message, leases);

	switch (message->kind) {
	case KIND_WRITE:
	case KIND_RUN:
		return head + sizeof(message->fact);
	case KIND_RENEW:
	case KIND_GRANT:
		return head + sizeof(message->leases);
	case KIND_LISTED:
		return head + sizeof(message->copies);
	default:
		return head;
	}
}

struct message *recovery_compose(enum kind kind)
{
	static struct message message;

	memset(&message, 0, offsetof(struct message, leases));
	message.kind = kind;
	return &message;
}

/* All are datagrams: what is held back by a cut link for ever is worse than lost. */
void recovery_post(struct sim *sim, unsigned from, unsigned to, const struct message *message)
{
	if (sim_act(sim, from))
		sim_send(sim, from, to, SIM_DATAGRAM, message->kind, message, size_of(message));
}

void recovery_take(const struct sim_message *packet, struct message *message)
{
	memset(message, 0, offsetof(struct message, leases));
	memcpy(message, packet->data, packet->size);
}

/* --- the store --- */

static bool is_aside(const struct msg_migrated_ve_fact *fact, uint64_t ckpt)
{
	for (size_t i = 0; i < fact->set_aside.count; i++)
		if (fact->set_aside.item[i] == ckpt)
			return true;
	return false;
}

/* Nodes that have the image are up, or were so a moment ago. */
static bool is_held(struct sim *sim, const struct world *world, const struct migrated_ckpt *ckpt)
{
	for (size_t i = 0; i < ckpt->n_replicas; i++) {
		const struct host *host = &world->hosts[recovery_node_of(ckpt->replicas[i])];

		if (!host->down
			? mono_due(mono_add_ms(mono_before(host->up_since, host->shunned_until)
						   ? host->shunned_until
						   : host->up_since,
				       HELD_MS),
			      sim_time(sim))
			: !mono_due(mono_add_ms(host->down_since, DETECT_MS + IMAGE_WAIT_MS / 2),
			      sim_time(sim)))
			return true;
	}
	return false;
}

/* May it start from this one? Not while there is a newer one that can be had, and not from nothing when there is any. */
static bool is_newest(struct sim *sim, const struct world *world, const struct migrated_ve *ve,
    const struct msg_migrated_ve_fact *fact)
{
	size_t i = ve->n_ckpts;

	while (i-- > 0 && ve->ckpts[i].id != fact->start_ckpt)
		if (!is_aside(fact, ve->ckpts[i].id) &&
		    (!fact->start_ckpt || is_held(sim, world, &ve->ckpts[i])))
			return false;
	return i < ve->n_ckpts || !fact->start_ckpt;
}

/* A copy that nothing silences; it may be about to run. */
static bool is_loose(const struct world *world, unsigned ve, unsigned node)
{
	const struct host *host = &world->hosts[node];

	return host->unfenced && !host->down &&
	       (host->copies[ve].running || host->copies[ve].ready.ns);
}

/* What is said of a placement that stays. */
static const char *judge_note(struct sim *sim, const struct msg_migrated_ve_fact *fact,
    const struct msg_migrated_ve_fact *next)
{
	if (next->epoch != fact->epoch || next->want != fact->want ||
	    strcmp(next->node, fact->node) != 0 || next->start_ckpt != fact->start_ckpt)
		return sim_complain(sim, "%s is placed by a note", fact->name);
	return NULL;
}

/* What holds of every placement that is written. */
static const char *judge_placement(
    struct sim *sim, struct world *world, unsigned i, const struct msg_migrated_ve_fact *next)
{
	const struct migrated_ve *ve = &world->ves[i];
	const struct msg_migrated_ve_fact *fact = &ve->fact;
	int64_t since_ms = mono_to_ms(mono_sub(sim_time(sim), world->about[i].written_at));
	int64_t least_ms = BACKOFF_MS / 2;

	if (next->epoch <= fact->epoch)
		return sim_complain(sim, "%s: epoch %u follows %u", fact->name,
		    (unsigned)next->epoch, (unsigned)fact->epoch);
	if (next->want != MSG_MIGRATED_WANT_RUN)
		return NULL;
	for (unsigned k = 1; k <= NODES; k++)
		if (k != recovery_node_of(next->node) && is_loose(world, i, k))
			return sim_complain(sim,
			    "%s goes to %s, and its copy on n%u is heard for ever", fact->name,
			    *next->node ? next->node : "nowhere", k);
	if (!is_newest(sim, world, ve, next))
		return sim_complain(sim, "%s starts from %u, and a newer one can be had",
		    fact->name, (unsigned)next->start_ckpt);
	if (next->restarts > 2 * RESTARTS)
		return sim_complain(
		    sim, "%s is restarted for the %u. time", fact->name, next->restarts);
	for (uint32_t k = 2; k < next->restarts && least_ms < BACKOFF_MAX_MS / 2; k++)
		least_ms *= 2;
	if (next->restarts > fact->restarts && next->restarts >= 2 &&
	    since_ms * 102 / 100 + 10 <
		(least_ms < BACKOFF_MAX_MS / 2 ? least_ms : BACKOFF_MAX_MS / 2))
		return sim_complain(sim, "%s: restart %u follows after %d ms", fact->name,
		    next->restarts, (int)since_ms);
	for (unsigned k = 0; k < VES && next->apart && *next->node; k++) {
		const struct msg_migrated_ve_fact *other = &world->ves[k].fact;

		if (k != i && strcmp(other->group, next->group) == 0 &&
		    strcmp(other->node, next->node) == 0 && other->want == MSG_MIGRATED_WANT_RUN)
			return sim_complain(
			    sim, "%s joins %s on %s", fact->name, other->name, next->node);
	}
	return NULL;
}

static const char *store_write(
    struct sim *sim, struct world *world, const struct message *write, struct message *reply)
{
	struct migrated_ve *ve = &world->ves[write->ve];
	const char *wrong;

	reply->kind = KIND_WRITTEN;
	reply->ve = write->ve;
	reply->ok =
	    (world->weakness == RECOVERY_NO_EPOCH ||
		write->coord.version == world->coord.version) &&
	    (world->weakness == RECOVERY_NO_VERSION || write->version == ve->version) &&
	    (world->weakness == RECOVERY_NO_CATALOGUE || write->cat_version == ve->cat_version);
	if (!reply->ok)
		return NULL;
	wrong = write->note ? judge_note(sim, &ve->fact, &write->fact)
			    : judge_placement(sim, world, write->ve, &write->fact);
	if (!write->note)
		world->about[write->ve].written_at = sim_time(sim);
	ve->fact = write->fact;
	ve->version = ++world->revision;
	sim_trace(sim, STORE, "%s epoch %u %s %s from %u: %s", ve->fact.name,
	    (unsigned)ve->fact.epoch, write->note ? "stays on" : "to",
	    *ve->fact.node ? ve->fact.node : "nowhere", (unsigned)ve->fact.start_ckpt,
	    write->note ? ve->fact.held : ve->fact.reason);
	return wrong;
}

static uint64_t take_snapshot(struct world *world)
{
	struct snapshot *snapshot = &world->snapshots[world->revision % SNAPSHOTS];

	if (snapshot->revision != world->revision) {
		snapshot->revision = world->revision;
		memcpy(snapshot->ves, world->ves, sizeof(snapshot->ves));
	}
	return world->revision;
}

static void store_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *packet)
{
	static struct message message;
	struct message *reply = recovery_compose(KIND_COORD);
	struct world *world = state;
	const char *wrong = NULL;

	recovery_take(packet, &message);
	if (message.kind == KIND_WRITE) {
		wrong = store_write(sim, world, &message, reply);
	} else if (message.kind == KIND_GET) {
		reply->kind = KIND_FACTS;
		reply->revision = take_snapshot(world);
	} else if (message.kind == KIND_RAISE && message.coord.version == world->coord.version) {
		reply->ok = true;
		world->coord.version++;
		world->coord.epoch = message.coord.epoch;
		world->coord.node = message.coord.node;
	}
	reply->ticket = message.ticket;
	reply->coord = world->coord;
	if (wrong)
		world->wrong = wrong;
	recovery_post(sim, process, packet->from, reply);
}

static void *store_boot(struct sim *sim, unsigned process, void *context)
{
	(void)sim;
	(void)process;
	return context;
}

static void store_halt(void *state)
{
	(void)state;
}

static void store_timeout(struct sim *sim, unsigned process, void *state)
{
	(void)sim;
	(void)process;
	(void)state;
}

static struct mono store_deadline(void *state)
{
	(void)state;
	return MONO_NEVER;
}

static const struct sim_program store_program = {.boot = store_boot,
    .halt = store_halt,
    .receive = store_receive,
    .timeout = store_timeout,
    .deadline = store_deadline};

/* --- ved --- */

static void *ved_boot(struct sim *sim, unsigned process, void *context)
{
	struct host *host = context;

	(void)sim;
	(void)process;
	/* What was half made is removed. */
	for (unsigned i = 0; i < VES; i++)
		if (host->copies[i].ready.ns)
			host->copies[i] = (struct copy){0};
	return host;
}

static void ved_answer(struct sim *sim, unsigned process, const struct host *host, enum kind kind,
    unsigned ve, uint64_t ticket, int result, uint64_t epoch)
{
	struct message *reply = recovery_compose(kind);

	reply->ve = ve;
	reply->ticket = ticket;
	reply->result = result;
	reply->epoch = epoch;
	recovery_post(sim, process, host->node, reply);
}

/* Its gosd gets it from any node that is up and has it. */
static bool has_image(const struct host *host, unsigned ve, uint64_t ckpt)
{
	const struct migrated_ve *facts = &host->world->ves[ve];

	for (size_t i = 0; i < facts->n_ckpts; i++) {
		const struct migrated_ckpt *one = &facts->ckpts[i];

		for (size_t k = 0; one->id == ckpt && k < one->n_replicas; k++)
			if (!host->world->hosts[recovery_node_of(one->replicas[k])].down)
				return true;
	}
	return !ckpt || host->image[ve] == ckpt;
}

static void ved_run(
    struct sim *sim, unsigned process, struct host *host, const struct message *message)
{
	struct copy *copy = &host->copies[message->ve];
	int64_t takes_ms = 20 + (int64_t)rng_below(sim_rng(sim), 600);

	if (!has_image(host, message->ve, message->fact.start_ckpt)) {
		ved_answer(sim, process, host, KIND_RAN, message->ve, message->ticket,
		    -EHOSTUNREACH, message->fact.epoch);
		return;
	}
	host->image[message->ve] = message->fact.start_ckpt;
	if (copy->present && copy->epoch >= message->fact.epoch) {
		ved_answer(sim, process, host, KIND_RAN, message->ve, message->ticket, -ESTALE,
		    copy->epoch);
		return;
	}
	*copy = (struct copy){.present = true,
	    .epoch = message->fact.epoch,
	    .ckpt = message->fact.start_ckpt,
	    .gate = message->until,
	    .ready = mono_add_ms(sim_now(sim, process), takes_ms),
	    .ticket = message->ticket};
}

static void ved_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *packet)
{
	static struct message message;
	struct message *reply;
	struct host *host = state;
	struct copy *copy;

	recovery_take(packet, &message);
	copy = &host->copies[message.ve];
	switch (message.kind) {
	case KIND_LIST:
		reply = recovery_compose(KIND_LISTED);
		reply->ticket = message.ticket;
		memcpy(reply->copies, host->copies, sizeof(reply->copies));
		recovery_post(sim, process, host->node, reply);
		break;
	case KIND_RUN:
		ved_run(sim, process, host, &message);
		break;
	case KIND_END:
		*copy = (struct copy){0};
		ved_answer(sim, process, host, KIND_ENDED, message.ve, message.ticket, 0, 0);
		break;
	default: /* ARM */
		if (copy->present && copy->epoch == message.epoch &&
		    mono_before(copy->gate, message.until))
			copy->gate = message.until;
		break;
	}
}

static void ved_timeout(struct sim *sim, unsigned process, void *state)
{
	struct host *host = state;
	struct world *world = host->world;
	struct mono now = sim_now(sim, process);

	for (unsigned i = 0; i < VES; i++) {
		struct copy *copy = &host->copies[i];
		uint64_t ticket = copy->ticket, epoch = copy->epoch;
		bool fails = !world->calm && (is_bad(copy->ckpt) || rng_chance(sim_rng(sim), 0.05));

		if (!copy->ready.ns || !mono_due(copy->ready, now))
			continue;
		copy->ready = MONO_ZERO;
		copy->running = true;
		if (!fails && world->about[i].begun[epoch % EPOCHS])
			world->wrong = sim_complain(
			    sim, "ve%u is begun twice under epoch %u", i, (unsigned)epoch);
		if (!fails)
			world->about[i].begun[epoch % EPOCHS] = true;
		copy->mute = !world->calm && is_mute(copy->ckpt);
		copy->ill_since = now;
		sim_trace(sim, process, "ve%u epoch %u from %u %s", i, (unsigned)epoch,
		    (unsigned)copy->ckpt,
		    fails        ? "cannot be started"
		    : copy->mute ? "is mute"
				 : "runs");
		if (fails)
			*copy = (struct copy){.epoch = epoch};
		ved_answer(sim, process, host, KIND_RAN, i, ticket, fails ? -EIO : 0, epoch);
	}
}

static struct mono ved_deadline(void *state)
{
	const struct host *host = state;
	struct mono at = MONO_NEVER;

	for (unsigned i = 0; i < VES; i++)
		if (host->copies[i].ready.ns)
			at = mono_min(at, host->copies[i].ready);
	return at;
}

static const struct sim_program ved_program = {.boot = ved_boot,
    .halt = store_halt,
    .receive = ved_receive,
    .timeout = ved_timeout,
    .deadline = ved_deadline};

/* --- the invariant --- */

static bool is_heard(struct sim *sim, const struct host *host, const struct copy *copy)
{
	return !host->down && copy->running &&
	       (host->unfenced || host->world->weakness == RECOVERY_NO_LEASE ||
		   mono_before(sim_now(sim, host->node), copy->gate));
}

static const char *one_is_heard(struct sim *sim, struct world *world, unsigned ve)
{
	struct ve *about = &world->about[ve];
	unsigned heard = 0;

	for (unsigned i = 1; i <= NODES; i++) {
		const struct host *host = &world->hosts[i];
		const struct copy *copy = &host->copies[ve];

		if (!is_heard(sim, host, copy))
			continue;
		if (heard)
			return sim_complain(
			    sim, "ve%u is heard from n%u and n%u at one time", ve, heard, i);
		if (copy->epoch < about->heard)
			return sim_complain(sim, "ve%u is heard under epoch %u after %u", ve,
			    (unsigned)copy->epoch, (unsigned)about->heard);
		heard = i;
		about->heard = copy->epoch;
	}
	return NULL;
}

static const char *holds(struct sim *sim, unsigned process, void *argument)
{
	struct world *world = argument;
	const char *broken = world->wrong;

	(void)process;
	for (unsigned i = 0; i < VES && !broken; i++)
		broken = one_is_heard(sim, world, i);
	return broken;
}

/* --- weather --- */

static void set_links(struct sim *sim)
{
	struct rng *rng = sim_rng(sim);
	struct sim_link link = {.loss = rng_chance(rng, 0.5) ? 0.1 : 0,
	    .delay = mono_ms((int64_t)rng_below(rng, rng_chance(rng, 0.2) ? 1200 : 20)),
	    .jitter = mono_ms((int64_t)rng_below(rng, rng_chance(rng, 0.2) ? 600 : 20)),
	    .duplicate = 0.05,
	    .reorder = 0.05};

	sim_link_all(sim, &link);
	for (unsigned i = 1; i <= NODES; i++)
		sim_link(sim, i, WRITER)->delay = mono_ms((int64_t)rng_below(rng, 600));
}

static void boot(struct sim *sim, void *argument)
{
	struct host *host = argument;

	if (host->down)
		host->up_since = sim_time(sim);
	host->down = false;
	if (!sim_running(sim, VED(host->node)))
		sim_boot(sim, VED(host->node));
	if (!sim_running(sim, host->node))
		sim_boot(sim, host->node);
}

/* The power is cut: copies go, the disk stays. */
static void kill_host(struct sim *sim, struct host *host)
{
	if (host->down)
		return;
	sim_note(sim, "n%u dies", host->node);
	sim_crash_host(sim, host->node);
	memset(host->copies, 0, sizeof(host->copies));
	host->down = true;
	host->down_since = sim_time(sim);
}

static void kill_for(struct sim *sim, struct host *host, struct mono length)
{
	kill_host(sim, host);
	sim_at(sim, mono_add(sim_time(sim), mono_ms(1000 + length.ns / 500000)), boot, host);
}

static void crash_one(struct sim *sim, unsigned process)
{
	if (sim_running(sim, process))
		sim_crash_in(sim, process, (unsigned)rng_below(sim_rng(sim), 6));
}

/* A service dies or hangs, wherever it is. */
static void harm(struct sim *sim, struct world *world, unsigned ve)
{
	bool dies = rng_chance(sim_rng(sim), 0.5);

	for (unsigned i = 1; i <= NODES; i++) {
		struct copy *copy = &world->hosts[i].copies[ve];

		if (!copy->running)
			continue;
		sim_note(sim, "ve%u %s on n%u", ve, dies ? "dies" : "hangs", i);
		copy->running = !dies;
		copy->hangs = true;
		copy->ill_since = sim_now(sim, i);
	}
}

/* A round of ckptd is committed: a transaction that checks the epoch. */
static void commit(struct sim *sim, struct world *world, unsigned ve)
{
	struct migrated_ve *facts = &world->ves[ve];
	struct migrated_ckpt ckpt = {.id = 10 * ++world->ckpts, .n_replicas = 2};
	unsigned node = recovery_node_of(facts->fact.node);
	const struct copy *copy = &world->hosts[node].copies[ve];
	bool bad = !world->about[ve].last_bad && rng_chance(sim_rng(sim), 0.15);

	if (!node || !copy->running || copy->epoch != facts->fact.epoch)
		return;
	ckpt.id += bad ? 1 + rng_below(sim_rng(sim), 2) : 0;
	world->about[ve].last_bad = bad;
	recovery_name_node(ckpt.replicas[0], node);
	recovery_name_node(ckpt.replicas[1], 1 + node % NODES);
	if (facts->n_ckpts == 3)
		memmove(&facts->ckpts[0], &facts->ckpts[1], --facts->n_ckpts * sizeof(ckpt));
	facts->ckpts[facts->n_ckpts++] = ckpt;
	facts->cat_version = ++world->revision;
	sim_note(sim, "ve%u checkpoint %u", ve, (unsigned)ckpt.id);
}

/* A client of the coordinator. */
static void ask_for(struct sim *sim, enum migrated_ask ask, unsigned ve, uint64_t epoch)
{
	struct migrated_request request = {.ask = ask, .id = 1, .epoch = epoch};

	recovery_name_ve(request.name, ve);
	for (unsigned i = 1; i <= NODES; i++) {
		struct node *node = sim_state(sim, i);

		if (node && node->reigns)
			recovery_step(sim, i, node,
			    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &request});
	}
}

static struct fencing *add_fencing(struct world *world, const struct fencing *fencing)
{
	struct fencing *own = &world->fencings[world->n_fencings++ % FENCINGS];

	*own = *fencing;
	own->world = world;
	return own;
}

static void give_word(struct sim *sim, void *argument)
{
	const struct fencing *fencing = argument;

	ask_for(sim, MIGRATED_ASK_FENCED, fencing->ve, fencing->epoch);
}

/* Of a VE that is held somebody makes sure, by switching its node off, and says so; it may be on again by then. */
static void vouch(struct sim *sim, struct world *world, unsigned ve)
{
	const struct msg_migrated_ve_fact *fact = &world->ves[ve].fact;
	struct host *host = &world->hosts[recovery_node_of(fact->node)];
	bool rash = world->weakness == RECOVERY_RASH_WORD;
	struct mono later = mono_ms(rash ? 0 : (int64_t)rng_below(sim_rng(sim), 4000));

	if (!*fact->held)
		return;
	if (!rash)
		kill_for(sim, host, mono_ms((int64_t)rng_below(sim_rng(sim), 4000)));
	sim_at(sim, mono_add(sim_time(sim), later), give_word,
	    add_fencing(world, &(struct fencing){.ve = ve, .epoch = fact->epoch}));
}

/* It switches the node off, or does not reach it; what was ended, or is waited for no more, may have done so too. */
static void end_fencing(struct sim *sim, void *argument)
{
	struct fencing *fencing = argument;
	struct world *world = fencing->world;
	struct host *host = &world->hosts[fencing->target];
	bool works = rng_chance(sim_rng(sim), 0.6);
	struct node *node;

	if (works && world->weakness != RECOVERY_FENCE_LIES)
		kill_for(sim, host, mono_ms((int64_t)rng_below(sim_rng(sim), 4000)));
	node = sim_state(sim, fencing->by);
	if (node)
		recovery_fenced(sim, node, fencing, works);
}

void recovery_fence(struct sim *sim, struct world *world, const struct fencing *fencing)
{
	sim_at(sim, mono_add_ms(sim_time(sim), 20 + (int64_t)rng_below(sim_rng(sim), 2000)),
	    end_fencing, add_fencing(world, fencing));
}

static void strike(struct sim *sim, void *argument)
{
	struct world *world = argument;
	struct rng *rng = sim_rng(sim);
	unsigned a = 1 + (unsigned)rng_below(rng, NODES), b = (unsigned)rng_below(rng, NODES + 2);
	struct mono length = mono_ms((int64_t)rng_below(rng, rng_chance(rng, 0.3) ? 5000 : 1500));
	struct mono next = mono_add_ms(sim_time(sim), 50 + (int64_t)rng_below(rng, 800));

	switch (rng_below(rng, 16)) {
	case 0:
		sim_heal(sim);
		sim_partition(sim, rng_u64(rng));
		break;
	case 1:
		sim_cut_one_way(sim, a, b, true);
		break;
	case 2:
		sim_heal(sim);
		break;
	case 3:
		set_links(sim);
		break;
	case 4:
		sim_pause(sim, a, length);
		break;
	case 5:
		sim_pause_host(sim, a, length);
		break;
	case 6:
		kill_for(sim, &world->hosts[a], length);
		/* Several at once, in half of the cases. */
		if (b && b <= NODES && b != a)
			kill_for(sim, &world->hosts[b], length);
		break;
	case 7:
		crash_one(sim, rng_chance(rng, 0.7) ? a : VED(a));
		sim_at(sim, mono_add(sim_time(sim), length), boot, &world->hosts[a]);
		break;
	case 8:
	case 9:
		harm(sim, world, (unsigned)rng_below(rng, VES));
		break;
	case 10:
		for (unsigned ve = 0; ve < VES; ve++)
			vouch(sim, world, ve);
		break;
	case 11: /* nobody of the others reaches it, or so they say */
		world->hosts[a].shunned_until = mono_add(sim_time(sim), length);
		break;
	default:
		commit(sim, world, (unsigned)rng_below(rng, VES));
		break;
	}
	if (mono_before(next, mono_ms(WEATHER_MS)))
		sim_at(sim, next, strike, world);
}

/* --- one run --- */

static bool all_heard(struct sim *sim, struct world *world)
{
	unsigned count = 0;

	for (unsigned ve = 0; ve < VES; ve++)
		for (unsigned i = 1; i <= NODES; i++) {
			const struct copy *copy = &world->hosts[i].copies[ve];

			count += is_heard(sim, &world->hosts[i], copy) && !copy->hangs &&
				 !copy->mute && copy->epoch == world->ves[ve].fact.epoch;
		}
	return count == VES;
}

/* Quiet weather and sound images: everything comes back, within the sum of all limits. */
static const char *recovers(struct sim *sim, struct world *world)
{
	const struct sim_link fair = {.delay = mono_ms(1), .jitter = mono_ms(1)};
	int64_t until_ms = WEATHER_MS;

	world->calm = true;
	sim_heal(sim);
	sim_link_all(sim, &fair);
	while (!sim_broken(sim) && !all_heard(sim, world)) {
		if (until_ms >= WEATHER_MS + QUIET_MS)
			return sim_complain(
			    sim, "not all is heard after %d s of quiet", QUIET_MS / 1000);
		for (unsigned i = 1; i <= NODES; i++)
			boot(sim, &world->hosts[i]); /* as supervisors do; a crash may be due yet */
		for (unsigned i = 0; i < VES; i++)
			if (world->ves[i].fact.want == MSG_MIGRATED_WANT_FAILED)
				ask_for(sim, MIGRATED_ASK_RESTORE, i, 0); /* what was given up */
		until_ms += 1000;
		sim_run(sim, mono_ms(until_ms));
	}
	return sim_broken(sim);
}

static void place(struct world *world, unsigned ve, bool fence)
{
	struct msg_migrated_ve_fact *fact = &world->ves[ve].fact;

	*fact = (struct msg_migrated_ve_fact){.epoch = 1, .hung_ms = HUNG_MS};
	recovery_name_ve(fact->name, ve);
	recovery_name_node(fact->node, 1 + ve);
	world->ves[ve].version = ++world->revision;
	if (ve < 2) {
		snprintf(fact->group, sizeof(fact->group), "replicas");
		fact->apart = true;
	}
	if (fence)
		snprintf(fact->fence, sizeof(fact->fence), "off");
}

const char *recovery_run(uint64_t seed, enum recovery_weakness weakness, struct sim **out)
{
	struct sim *sim = *out = sim_new(seed, NODES + 2);
	static struct world world;
	bool fence = rng_chance(sim_rng(sim), 0.5);

	memset(&world, 0, sizeof(world));
	world.weakness = weakness;
	world.coord.version = 1;
	sim_keep(sim, 400);
	sim_invariant(sim, holds, &world);
	sim_spawn(sim, STORE, "store", &store_program, &world);
	for (unsigned i = 0; i < VES; i++)
		place(&world, i, fence);
	for (unsigned i = 1; i <= NODES; i++) {
		world.hosts[i] = (struct host){.world = &world, .node = i};
		sim_clock_rate(sim, i, 0.99 + 0.02 * rng_unit(sim_rng(sim)));
		sim_spawn(sim, i, "migrated", &recovery_node, &world.hosts[i]);
	}
	sim_spawn(sim, WRITER, "store", &store_program, &world);
	for (unsigned i = 1; i <= NODES; i++)
		sim_spawn(sim, i, "ved", &ved_program, &world.hosts[i]);
	if (rng_chance(sim_rng(sim), 0.33))
		world.hosts[1 + rng_below(sim_rng(sim), NODES)].unfenced = true;
	set_links(sim);
	sim_at(sim, mono_ms(3000), strike, &world);
	sim_run(sim, mono_ms(WEATHER_MS));
	return sim_broken(sim) ? sim_broken(sim) : recovers(sim, &world);
}
