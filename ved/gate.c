#include "ved/gate.h"

#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "ved/files.h"
#include "ved/packet.h"

enum {
	QUEUE_BYTES = 4 << 20,      /* what may wait */
	LARGEST_PACKET = 128 << 10, /* a coalesced one, larger than any that the stack makes */
	HELD_BUCKET = 32 << 10,     /* below HELD_COST: a packet never finds enough tokens */
	HELD_COST = 65535,
	NS_PER_TICK = 64,    /* PSCHED_SHIFT 6 */
	FRAME_KICK = 0x88b5, /* IEEE 802: local experimental ethertype */
};

#define PASS_RATE 4000000000U /* bytes a second; the field has 32 bits */
#define HELD_RATE 1000000U

struct request {
	struct nlmsghdr header;
	struct tcmsg tc;
	char attributes[256];
};

static struct rtattr *put(
    struct request *request, unsigned short type, const void *data, size_t size)
{
	struct rtattr *attribute =
	    (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(size);
	if (size)
		memcpy(RTA_DATA(attribute), data, size);
	request->header.nlmsg_len =
	    (unsigned)(NLMSG_ALIGN(request->header.nlmsg_len) + RTA_LENGTH(size));
	return attribute;
}

/* The bucket is given in time (ticks at the rate), not in bytes: in bytes the kernel would fit it to the cost. */
static unsigned bucket_ticks(unsigned bytes, unsigned rate)
{
	return (unsigned)((uint64_t)bytes * 1000000000 / rate / NS_PER_TICK);
}

static void fill(struct request *request, int index, bool hold)
{
	unsigned rate = hold ? HELD_RATE : PASS_RATE;
	struct tc_tbf_qopt options = {
	    .rate = {.rate = rate, .linklayer = TC_LINKLAYER_ETHERNET, .mpu = hold ? HELD_COST : 0},
	    .limit = QUEUE_BYTES,
	    .buffer = bucket_ticks(hold ? HELD_BUCKET : LARGEST_PACKET, rate),
	};
	struct rtattr *nested;

	request->header = (struct nlmsghdr){
	    .nlmsg_len = NLMSG_LENGTH(sizeof(request->tc)),
	    .nlmsg_type = RTM_NEWQDISC,
	    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE,
	};
	request->tc = (struct tcmsg){.tcm_family = AF_UNSPEC,
	    .tcm_ifindex = index,
	    .tcm_parent = TC_H_ROOT,
	    .tcm_handle = TC_H_MAKE(1U << 16, 0)};
	put(request, TCA_KIND, "tbf", 4);
	nested = put(request, TCA_OPTIONS, NULL, 0);
	put(request, TCA_TBF_PARMS, &options, sizeof(options));
	nested->rta_len =
	    (unsigned short)((char *)request + request->header.nlmsg_len - (char *)nested);
}

/* One request, one answer: an error message whose error is 0 when all is well. */
static int ask(struct request *request)
{
	_cleanup_fd_ int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[1024];
	} answer;

	if (sock < 0 || send(sock, request, request->header.nlmsg_len, 0) < 0 ||
	    recv(sock, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)))
		return errno ? -errno : -EIO;
	return answer.header.nlmsg_type == NLMSG_ERROR ? answer.error.error : -EIO;
}

/*
 * A changed queue moves with the next packet: one that nobody listens to.  Without it the queue waits for its timer, 33 ms.
 * ENOBUFS says that this packet was dropped: by a queue that is full, which moves all the same (__dev_xmit_skb runs it after
 * the drop), or by the VE's fence, whose hook comes before the queue; while that is closed nobody waits for what is held.
 */
static int kick(const char *interface)
{
	static const unsigned char nobody[6] = {0x02, 0xde, 0, 0, 0, 0};
	static const char nothing[46];
	int rc = packet_send(interface, FRAME_KICK, nobody, nothing, sizeof(nothing));

	return rc == -ENETDOWN || rc == -ENOBUFS ? 0 : rc;
}

int gate_install(const char *interface, bool hold)
{
	struct request request;
	int index = (int)if_nametoindex(interface);

	if (!index)
		return -errno;
	fill(&request, index, hold);
	return ask(&request);
}

int gate_remove(const char *interface)
{
	struct request request = {
	    .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(request.tc)),
		.nlmsg_type = RTM_DELQDISC,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
	    .tc = {.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)if_nametoindex(interface),
		.tcm_parent = TC_H_ROOT},
	};
	int rc = request.tc.tcm_ifindex ? ask(&request) : -ENODEV;

	return rc == -ENOENT || rc == -EINVAL ? 0 : rc;
}

int gate_set(const char *interface, bool hold)
{
	int rc = gate_install(interface, hold);

	return rc < 0 || hold ? rc : kick(interface);
}
