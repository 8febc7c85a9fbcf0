/*
 * The fence by nf_tables, for hosts where BPF may not be loaded.  One table for each VE, in the family netdev: its chains hang
 * on the node's end of the VE's network pair, where they see every frame (ARP too) before the bridge does, and drop by policy.
 *
 *	table netdev depsys-NAME {
 *		set open { type ifname; flags timeout; elements = { veXXXX timeout 1870ms } }
 *		chain lease { meta time < WALL accept }
 *		chain in { type filter hook ingress device veXXXX policy drop; iifname @open jump lease; counter name dropped }
 *		chain out { type filter hook egress device veXXXX policy drop; oifname @open jump lease; counter name dropped }
 *	}
 *
 * A packet passes only when *both* say so.  The element's timeout is relative and counted in jiffies, so that it is late by up
 * to one, stands still while the machine is suspended, and begins when the kernel gets it: a ved that is stopped between
 * reading the clock and sending would have it begin late.  WALL is the deadline on the wall clock, exact and absolute, goes on
 * during a suspend, and is wrong only when somebody has set the clock since.  So the fence is late only when the wall clock is
 * set back in the same lease in which the machine was suspended or ved stood still just there; a clock that is set forward
 * closes it early, until the next renewal.
 *
 * Each change is one transaction.  Straight netlink, as libnftables takes times in whole seconds only (1.0.6), and asks
 * for the whole rule set on each change.  `nft list ruleset` shows it as above.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "ved/engine.h"
#include "ved/fence.h"
#include "ved/files.h"

#define NS_PER_MS 1000000
#define ATTRIBUTE_HEADER ((size_t)4) /* NLA_HDRLEN without its sign */
#define SET "open"
#define CHAIN "lease"
#define COUNTER "dropped"

enum {
	BATCH_BYTES = 4096, /* the largest below is a third of it */
	FIRST = -500,       /* priority of the chains: before any other */
	TYPE_IFNAME = 41,   /* what nft calls the keys of the set */
	SET_NUMBER = 1,     /* in its transaction */
};

/* ---- messages ---- */

struct batch {
	size_t size;
	size_t message; /* where the last one begins */
	uint32_t count;
	_Alignas(struct nlmsghdr) unsigned char data[BATCH_BYTES];
};

static struct nlmsghdr *last_message(struct batch *batch)
{
	return (void *)(batch->data + batch->message);
}

static void *add(struct batch *batch, size_t size)
{
	void *at = batch->data + batch->size;

	assert(size <= BATCH_BYTES - batch->size);
	memset(at, 0, NLMSG_ALIGN(size));
	batch->size += NLMSG_ALIGN(size);
	last_message(batch)->nlmsg_len = (uint32_t)(batch->size - batch->message);
	return at;
}

static void add_message(
    struct batch *batch, unsigned type, unsigned flags, unsigned family, uint16_t resource)
{
	struct nlmsghdr *header;

	batch->message = batch->size;
	header = add(batch, sizeof(*header));
	header->nlmsg_type = (uint16_t)type;
	header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	header->nlmsg_seq = ++batch->count;
	*(struct nfgenmsg *)add(batch, sizeof(struct nfgenmsg)) =
	    (struct nfgenmsg){.nfgen_family = (uint8_t)family, .res_id = htons(resource)};
}

static void put(struct batch *batch, unsigned type, const void *data, size_t size)
{
	struct nlattr *attribute = add(batch, ATTRIBUTE_HEADER + size);

	attribute->nla_type = (uint16_t)type;
	attribute->nla_len = (uint16_t)(ATTRIBUTE_HEADER + size);
	memcpy((char *)attribute + ATTRIBUTE_HEADER, data, size);
}

static void put_text(struct batch *batch, unsigned type, const char *text)
{
	put(batch, type, text, strlen(text) + 1);
}

static void put_u32(struct batch *batch, unsigned type, uint32_t value)
{
	uint32_t swapped = htonl(value);

	put(batch, type, &swapped, sizeof(swapped));
}

static void put_u64(struct batch *batch, unsigned type, uint64_t value)
{
	uint64_t swapped = htobe64(value);

	put(batch, type, &swapped, sizeof(swapped));
}

static struct nlattr *nest(struct batch *batch, unsigned type)
{
	struct nlattr *attribute = add(batch, ATTRIBUTE_HEADER);

	attribute->nla_type = (uint16_t)(type | NLA_F_NESTED);
	return attribute;
}

static void unnest(struct batch *batch, struct nlattr *attribute)
{
	attribute->nla_len = (uint16_t)(batch->data + batch->size - (unsigned char *)attribute);
}

/* A request about a VE's table; all of them name the table in their first attribute. */
static void request(struct batch *batch, unsigned type, unsigned flags, const char *name)
{
	char table[VE_NAME + 8];

	path_set(table, "depsys-%s", name);
	add_message(batch, NFNL_SUBSYS_NFTABLES << 8 | type, flags, NFPROTO_NETDEV, 0);
	put_text(batch, NFTA_TABLE_NAME, table);
}

static void begin(struct batch *batch)
{
	batch->size = batch->message = batch->count = 0;
	add_message(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

/* The kernel has dealt with it when send() returns: the answers are there, or there is none. */
static ssize_t exchange(const struct batch *batch, int sock, void *answer, size_t size)
{
	if (sock < 0 || send(sock, batch->data, batch->size, 0) < 0)
		return -errno;
	return recv(sock, answer, size, MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* All of it or nothing: the answer is the first error, or the acknowledgement of the last request. */
static int commit(struct batch *batch)
{
	_cleanup_fd_ int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[BATCH_BYTES];
	} answer;
	int rc;

	last_message(batch)->nlmsg_flags |= NLM_F_ACK;
	add_message(batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	rc = (int)exchange(batch, sock, &answer, sizeof(answer));
	if (rc < 0)
		return rc;
	return answer.header.nlmsg_type == NLMSG_ERROR ? answer.error.error : -EIO;
}

/* ---- expressions of rules ---- */

struct expression {
	struct nlattr *element, *data;
};

static struct expression open_expression(struct batch *batch, const char *name)
{
	struct expression expression = {.element = nest(batch, NFTA_LIST_ELEM)};

	put_text(batch, NFTA_EXPR_NAME, name);
	expression.data = nest(batch, NFTA_EXPR_DATA);
	return expression;
}

static void close_expression(struct batch *batch, struct expression expression)
{
	unnest(batch, expression.data);
	unnest(batch, expression.element);
}

static void load_meta(struct batch *batch, enum nft_meta_keys key)
{
	struct expression expression = open_expression(batch, "meta");

	put_u32(batch, NFTA_META_KEY, key);
	put_u32(batch, NFTA_META_DREG, NFT_REG_1);
	close_expression(batch, expression);
}

static void look_up(struct batch *batch, const char *set)
{
	struct expression expression = open_expression(batch, "lookup");

	put_text(batch, NFTA_LOOKUP_SET, set);
	put_u32(batch, NFTA_LOOKUP_SREG, NFT_REG_1);
	put_u32(batch, NFTA_LOOKUP_SET_ID, SET_NUMBER);
	close_expression(batch, expression);
}

static void to_network_order(struct batch *batch, uint32_t size)
{
	struct expression expression = open_expression(batch, "byteorder");

	put_u32(batch, NFTA_BYTEORDER_SREG, NFT_REG_1);
	put_u32(batch, NFTA_BYTEORDER_DREG, NFT_REG_1);
	put_u32(batch, NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON);
	put_u32(batch, NFTA_BYTEORDER_LEN, size);
	put_u32(batch, NFTA_BYTEORDER_SIZE, size);
	close_expression(batch, expression);
}

static void is_below(struct batch *batch, uint64_t limit)
{
	struct expression expression = open_expression(batch, "cmp");
	struct nlattr *data;

	put_u32(batch, NFTA_CMP_SREG, NFT_REG_1);
	put_u32(batch, NFTA_CMP_OP, NFT_CMP_LT);
	data = nest(batch, NFTA_CMP_DATA);
	put_u64(batch, NFTA_DATA_VALUE, limit);
	unnest(batch, data);
	close_expression(batch, expression);
}

static void count(struct batch *batch, const char *counter)
{
	struct expression expression = open_expression(batch, "objref");

	put_u32(batch, NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
	put_text(batch, NFTA_OBJREF_IMM_NAME, counter);
	close_expression(batch, expression);
}

/* chain: where a jump goes to, or NULL */
static void judge(struct batch *batch, int32_t verdict, const char *chain)
{
	struct expression expression = open_expression(batch, "immediate");
	struct nlattr *data, *inner;

	put_u32(batch, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = nest(batch, NFTA_IMMEDIATE_DATA);
	inner = nest(batch, NFTA_DATA_VERDICT);
	put_u32(batch, NFTA_VERDICT_CODE, (uint32_t)verdict);
	if (chain)
		put_text(batch, NFTA_VERDICT_CHAIN, chain);
	unnest(batch, inner);
	unnest(batch, data);
	close_expression(batch, expression);
}

static struct nlattr *open_rule(struct batch *batch, const char *name, const char *chain)
{
	request(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, name);
	put_text(batch, NFTA_RULE_CHAIN, chain);
	return nest(batch, NFTA_RULE_EXPRESSIONS);
}

/* ---- life ---- */

static void add_table(struct batch *batch, const char *name)
{
	request(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
	/* What a VE of that name has left: deleting it needs that it exists. */
	request(batch, NFT_MSG_DELTABLE, 0, name);
	request(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
}

static void add_set(struct batch *batch, const char *name)
{
	request(batch, NFT_MSG_NEWSET, NLM_F_CREATE, name);
	put_text(batch, NFTA_SET_NAME, SET);
	put_u32(batch, NFTA_SET_FLAGS, NFT_SET_TIMEOUT);
	put_u32(batch, NFTA_SET_KEY_TYPE, TYPE_IFNAME);
	put_u32(batch, NFTA_SET_KEY_LEN, IFNAMSIZ);
	put_u32(batch, NFTA_SET_ID, SET_NUMBER);
}

static void add_counter(struct batch *batch, const char *name)
{
	request(batch, NFT_MSG_NEWOBJ, NLM_F_CREATE, name);
	put_text(batch, NFTA_OBJ_NAME, COUNTER);
	put_u32(batch, NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
	unnest(batch, nest(batch, NFTA_OBJ_DATA));
}

int fence_nft_make(struct fence *fence, struct engine_error *error)
{
	struct batch batch;
	int rc;

	begin(&batch);
	add_table(&batch, fence->name);
	add_set(&batch, fence->name);
	add_counter(&batch, fence->name);
	request(&batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE, fence->name);
	put_text(&batch, NFTA_CHAIN_NAME, CHAIN);
	rc = commit(&batch);
	return rc < 0 ? engine_fail(error, rc, "make nft table netdev depsys-%s", fence->name) : 0;
}

int fence_nft_open(const struct fence *fence)
{
	uint64_t ignored;

	return fence_nft_dropped(fence, &ignored);
}

static void add_hook(struct batch *batch, const struct fence *fence, const char *chain,
    uint32_t hook, enum nft_meta_keys interface)
{
	struct nlattr *nested;

	request(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE, fence->name);
	put_text(batch, NFTA_CHAIN_NAME, chain);
	nested = nest(batch, NFTA_CHAIN_HOOK);
	put_u32(batch, NFTA_HOOK_HOOKNUM, hook);
	put_u32(batch, NFTA_HOOK_PRIORITY, (uint32_t)FIRST);
	put_text(batch, NFTA_HOOK_DEV, fence->interface);
	unnest(batch, nested);
	put_u32(batch, NFTA_CHAIN_POLICY, NF_DROP);
	put_text(batch, NFTA_CHAIN_TYPE, "filter");

	nested = open_rule(batch, fence->name, chain);
	load_meta(batch, interface);
	look_up(batch, SET);
	judge(batch, NFT_JUMP, CHAIN);
	unnest(batch, nested);

	nested = open_rule(batch, fence->name, chain);
	count(batch, COUNTER);
	unnest(batch, nested);
}

int fence_nft_interface(const struct fence *fence, struct engine_error *error)
{
	struct batch batch;
	int rc;

	begin(&batch);
	add_hook(&batch, fence, "in", NF_NETDEV_INGRESS, NFT_META_IIFNAME);
	add_hook(&batch, fence, "out", NF_NETDEV_EGRESS, NFT_META_OIFNAME);
	rc = commit(&batch);
	return rc < 0 ? engine_fail(error, rc, "bind nft table netdev depsys-%s to %s", fence->name,
			    fence->interface)
		      : 0;
}

int fence_nft_remove(const char *name)
{
	struct batch batch;
	int rc;

	begin(&batch);
	request(&batch, NFT_MSG_DELTABLE, 0, name);
	rc = commit(&batch);
	/* The others: a kernel without nf_tables has no table. */
	return rc == -ENOENT || rc == -EINVAL || rc == -EOPNOTSUPP || rc == -EPROTONOSUPPORT ? 0
											     : rc;
}

/* ---- its deadline ---- */

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void close_it(struct batch *batch, const char *name)
{
	request(batch, NFT_MSG_DELSETELEM, 0, name);
	put_text(batch, NFTA_SET_ELEM_LIST_SET, SET);
	request(batch, NFT_MSG_DELRULE, 0, name);
	put_text(batch, NFTA_RULE_CHAIN, CHAIN);
}

static void open_for(struct batch *batch, const struct fence *fence, uint64_t left_ms)
{
	struct nlattr *elements, *element, *key;
	char name[IFNAMSIZ] = {0};

	memcpy(name, fence->interface, strlen(fence->interface));
	request(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, fence->name);
	put_text(batch, NFTA_SET_ELEM_LIST_SET, SET);
	elements = nest(batch, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = nest(batch, NFTA_LIST_ELEM);
	key = nest(batch, NFTA_SET_ELEM_KEY);
	put(batch, NFTA_DATA_VALUE, name, sizeof(name));
	unnest(batch, key);
	put_u64(batch, NFTA_SET_ELEM_TIMEOUT, left_ms);
	unnest(batch, element);
	unnest(batch, elements);
}

static void open_until(struct batch *batch, const char *name, uint64_t wall_ns)
{
	struct nlattr *rule = open_rule(batch, name, CHAIN);

	load_meta(batch, NFT_META_TIME_NS);
	to_network_order(batch, sizeof(wall_ns));
	is_below(batch, wall_ns);
	judge(batch, NF_ACCEPT, NULL);
	unnest(batch, rule);
}

int fence_nft_set(const struct fence *fence, int64_t deadline_ns)
{
	/* In this order: who is stopped between the two reckons a deadline that is too early. */
	int64_t wall_ns = clock_ns(CLOCK_REALTIME);
	int64_t left_ns = deadline_ns - clock_ns(CLOCK_BOOTTIME);
	struct batch batch;

	begin(&batch);
	close_it(&batch, fence->name);
	if (left_ns >= NS_PER_MS) {
		open_for(&batch, fence, (uint64_t)(left_ns / NS_PER_MS));
		open_until(&batch, fence->name, (uint64_t)(wall_ns + left_ns));
	}
	return commit(&batch);
}

/* ---- what it dropped ---- */

static const struct nlattr *find(const void *data, size_t size, unsigned type)
{
	for (const char *at = data; size >= ATTRIBUTE_HEADER;) {
		const struct nlattr *attribute = (const void *)at;
		size_t length = (attribute->nla_len + 3U) & ~3U;

		if (attribute->nla_len < ATTRIBUTE_HEADER || attribute->nla_len > size)
			return NULL;
		if ((attribute->nla_type & NLA_TYPE_MASK) == type)
			return attribute;
		at += length;
		size -= length < size ? length : size;
	}
	return NULL;
}

static const struct nlattr *find_inside(const struct nlattr *outer, unsigned type)
{
	return outer ? find((const char *)outer + ATTRIBUTE_HEADER,
			   outer->nla_len - ATTRIBUTE_HEADER, type)
		     : NULL;
}

int fence_nft_dropped(const struct fence *fence, uint64_t *packets)
{
	_cleanup_fd_ int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct {
		struct nlmsghdr header;
		union {
			struct nlmsgerr error;
			char body[1024];
		};
	} answer = {0};
	const struct nlattr *found;
	struct batch batch = {0};
	uint64_t value;
	int rc;

	request(&batch, NFT_MSG_GETOBJ, 0, fence->name);
	put_text(&batch, NFTA_OBJ_NAME, COUNTER);
	put_u32(&batch, NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
	rc = (int)exchange(&batch, sock, &answer, sizeof(answer));
	if (rc < 0 || answer.header.nlmsg_type == NLMSG_ERROR)
		return rc < 0 ? rc : answer.error.error;
	if (answer.header.nlmsg_len < NLMSG_HDRLEN + sizeof(struct nfgenmsg) ||
	    answer.header.nlmsg_len > sizeof(answer))
		return -EBADMSG;
	found = find(answer.body + sizeof(struct nfgenmsg),
	    answer.header.nlmsg_len - NLMSG_HDRLEN - sizeof(struct nfgenmsg), NFTA_OBJ_DATA);
	found = find_inside(found, NFTA_COUNTER_PACKETS);
	if (!found || found->nla_len != ATTRIBUTE_HEADER + sizeof(value))
		return -EBADMSG;
	memcpy(&value, (const char *)found + ATTRIBUTE_HEADER, sizeof(value));
	*packets = be64toh(value);
	return 0;
}
