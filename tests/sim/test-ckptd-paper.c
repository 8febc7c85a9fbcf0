/*
 * The protocol as the paper prints it (section 5, listings 5.2 and 5.3), and why ckptd departs
 * from it.  Two clients, one coordinator, every order and every loss; nobody even crashes.
 *
 * A client votes VOTE_COMMIT and runs on.  On GLOBAL_COMMIT it checkpoints and runs on.  "If the
 * timer expires and the node does not receive GLOBAL_COMMIT, then it sends to all other nodes a
 * GLOBAL_ABORT."  These are the cases that must fail; ckptd's own core passes the same questions
 * in test-ckptd-search.c.
 */
#include "common/test.h"

#include <stdbool.h>

#define CLIENTS 2

enum coordinator { C_START, C_WAITING, C_COMMITTED, C_ABORTED };
enum client { WAITING, VOTED, CHECKPOINTED, CONTINUED };
enum message { VOTE_REQUEST, VOTE_COMMIT, GLOBAL_COMMIT, GLOBAL_ABORT, MESSAGES };

struct state {
	enum coordinator coordinator;
	unsigned votes;
	enum client client[CLIENTS];
	bool sent[MESSAGES][CLIENTS];
	/* The service of a client that has checkpointed talked to one that has not: if that one
	 * checkpoints as well, it has received what, after a restore, nobody has sent. */
	bool heard_from_future[CLIENTS];
};

struct findings {
	bool seen[1 << 19];
	unsigned states;
	unsigned mixed;        /* one client checkpointed, the other gave the round up */
	unsigned inconsistent; /* both checkpointed, and the two images contradict each other */
	unsigned consistent;
};

static unsigned code(const struct state *s)
{
	unsigned c = (unsigned)s->coordinator | s->votes << 2;
	unsigned bit = 4;

	for (unsigned i = 0; i < CLIENTS; i++) {
		c |= (unsigned)s->client[i] << bit;
		bit += 2;
		c |= (unsigned)s->heard_from_future[i] << bit++;
		for (unsigned m = 0; m < MESSAGES; m++)
			c |= (unsigned)s->sent[m][i] << bit++;
	}
	return c;
}

static void judge(const struct state *s, struct findings *f)
{
	bool both = s->client[0] == CHECKPOINTED && s->client[1] == CHECKPOINTED;

	f->mixed += (s->client[0] == CHECKPOINTED && s->client[1] == CONTINUED) ||
		    (s->client[1] == CHECKPOINTED && s->client[0] == CONTINUED);
	f->inconsistent += both && (s->heard_from_future[0] || s->heard_from_future[1]);
	f->consistent += both && !s->heard_from_future[0] && !s->heard_from_future[1];
}

static void explore(struct state s, struct findings *f);

static void send_all(struct state *s, enum message m)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		s->sent[m][i] = true;
}

static void coordinator_moves(struct state s, struct findings *f)
{
	struct state next = s;

	if (s.coordinator == C_START) {
		next.coordinator = C_WAITING;
		send_all(&next, VOTE_REQUEST);
		explore(next, f);
		return;
	}
	if (s.coordinator != C_WAITING)
		return;
	next.coordinator = C_ABORTED; /* its timer */
	send_all(&next, GLOBAL_ABORT);
	explore(next, f);
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (!s.sent[VOTE_COMMIT][i] || s.votes & 1u << i)
			continue;
		next = s;
		next.votes |= 1u << i;
		if (next.votes == (1u << CLIENTS) - 1) {
			next.coordinator = C_COMMITTED;
			send_all(&next, GLOBAL_COMMIT);
		}
		explore(next, f);
	}
}

static void client_moves(struct state s, unsigned i, struct findings *f)
{
	struct state next = s;
	unsigned other = 1 - i;

	if (s.client[i] == WAITING && s.sent[VOTE_REQUEST][i]) {
		next.client[i] = VOTED;
		next.sent[VOTE_COMMIT][i] = true;
		explore(next, f);
	}
	if (s.client[i] == CHECKPOINTED && s.client[other] == VOTED) {
		next.heard_from_future[other] = true;
		explore(next, f);
	}
	if (s.client[i] != VOTED)
		return;
	if (s.sent[GLOBAL_COMMIT][i]) {
		next.client[i] = CHECKPOINTED;
		explore(next, f);
	}
	next = s;
	next.client[i] = CONTINUED;
	if (s.sent[GLOBAL_ABORT][i])
		explore(next, f);
	next.sent[GLOBAL_ABORT][other] = true; /* its timer */
	explore(next, f);
}

static void explore(struct state s, struct findings *f)
{
	unsigned c = code(&s);

	if (f->seen[c])
		return;
	f->seen[c] = true;
	f->states++;
	judge(&s, f);
	coordinator_moves(s, f);
	for (unsigned i = 0; i < CLIENTS; i++)
		client_moves(s, i, f);
}

static struct findings findings;

static void the_printed_protocol_can_work(void)
{
	explore((struct state){0}, &findings);
	printf("# %u states: %u consistent, %u inconsistent, %u mixed\n", findings.states,
	    findings.consistent, findings.inconsistent, findings.mixed);
	check(findings.consistent > 0);
}

static void the_printed_protocol_lets_a_client_run_on_before_the_other_is_captured(void)
{
	check(findings.inconsistent > 0);
}

static void the_printed_protocol_reaches_mixed_outcomes(void)
{
	check(findings.mixed > 0);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(the_printed_protocol_can_work),
	    TEST(the_printed_protocol_lets_a_client_run_on_before_the_other_is_captured),
	    TEST(the_printed_protocol_reaches_mixed_outcomes),
	    {0},
	});
}
