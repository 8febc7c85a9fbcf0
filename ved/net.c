#include "ved/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/route.h>

#include "ved/announce.h"
#include "ved/files.h"
#include "ved/gate.h"

#define INSIDE "eth0"

/* libnl has errors of its own; its exact and only meaning here is a word for a person, so the nearest errno will do. */
static int from_nl(int rc)
{
	switch (-rc) {
	case 0:
		return 0;
	case NLE_EXIST:
		return -EEXIST;
	case NLE_NODEV:
	case NLE_OBJ_NOTFOUND:
		return -ENODEV;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_INVAL:
		return -EINVAL;
	default:
		return rc < 0 ? -EIO : 0;
	}
}

static void socket_free(struct nl_sock **sock)
{
	nl_socket_free(*sock);
}

#define _cleanup_nl_ __attribute__((cleanup(socket_free)))

static struct nl_sock *route_socket(void)
{
	struct nl_sock *sock = nl_socket_alloc();

	if (sock && nl_connect(sock, NETLINK_ROUTE) < 0) {
		nl_socket_free(sock);
		return NULL;
	}
	return sock;
}

int net_hardware_address(const char *address, unsigned char out[6])
{
	char host[VE_ADDRESS];
	unsigned char ip[16];
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */

	if (path_set(host, "%.*s", (int)strcspn(address, "/"), address) < 0)
		return -EINVAL;
	out[0] = 0x02; /* locally administered, unicast */
	out[1] = 0xde;
	if (inet_pton(AF_INET, host, ip) == 1) {
		memcpy(out + 2, ip, 4);
		return 0;
	}
	if (inet_pton(AF_INET6, host, ip) != 1)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(ip); i++)
		hash = (hash ^ ip[i]) * 0x100000001b3;
	out[1] = 0xd6;
	memcpy(out + 2, &hash, 4);
	return 0;
}

int net_find(struct net *out, const struct engine_config *config, const char *name)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (const char *at = name; *at; at++)
		hash = (hash ^ (unsigned char)*at) * 0x100000001b3;
	snprintf(out->host, sizeof(out->host), "ve%012llx",
	    (unsigned long long)hash & 0xffffffffffffULL);
	return path_set(out->netns, "%s/ve/%s/netns", config->run, name);
}

/* A namespace lives as long as something holds it: here a bind mount over an empty file. Leaves us where we were. */
static int make_namespace(const char *path)
{
	_cleanup_fd_ int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	int rc = 0;

	if (home < 0 || file < 0)
		return -errno;
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	if (mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) < 0)
		rc = -errno;
	if (setns(home, CLONE_NEWNET) < 0)
		abort(); /* nowhere to go on from */
	return rc;
}

/* Goes into the VE's namespace; the way home, to be handed to leave(), or a negative errno. */
static int enter(const struct net *net)
{
	_cleanup_fd_ int netns = open(net->netns, O_RDONLY | O_CLOEXEC);
	int home, rc = 0;

	if (netns < 0)
		return -errno;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0 || setns(netns, CLONE_NEWNET) < 0)
		rc = -errno;
	if (rc < 0)
		fd_close(&home);
	return rc < 0 ? rc : home;
}

static void leave(int home)
{
	if (setns(home, CLONE_NEWNET) < 0)
		abort(); /* nowhere to go on from */
	fd_close(&home);
}

static int set_up(struct nl_sock *sock, int index)
{
	struct rtnl_link *old = rtnl_link_alloc(), *new = rtnl_link_alloc();
	int rc = -NLE_NOMEM;

	if (old && new) {
		rtnl_link_set_ifindex(old, index);
		rtnl_link_set_flags(new, IFF_UP);
		rc = rtnl_link_change(sock, old, new, 0);
	}
	rtnl_link_put(old);
	rtnl_link_put(new);
	return rc;
}

static int index_of(struct nl_sock *sock, const char *name)
{
	struct rtnl_link *link = NULL;
	int rc = rtnl_link_get_kernel(sock, 0, name, &link);

	if (rc < 0)
		return rc;
	rc = rtnl_link_get_ifindex(link);
	rtnl_link_put(link);
	return rc;
}

/* The pair: the outer end on the bridge, the inner one born inside the VE's namespace with its hardware address. */
static int make_pair(
    struct nl_sock *sock, const struct net *net, int netns, const unsigned char mac[6], int bridge)
{
	struct rtnl_link *outer = rtnl_link_veth_alloc();
	struct rtnl_link *inner = outer ? rtnl_link_veth_get_peer(outer) : NULL;
	struct nl_addr *hardware = nl_addr_build(AF_LLC, mac, 6);
	int rc = -NLE_NOMEM;

	if (outer && inner && hardware) {
		rtnl_link_set_name(outer, net->host);
		rtnl_link_set_master(outer, bridge);
		rtnl_link_set_name(inner, INSIDE);
		rtnl_link_set_addr(inner, hardware);
		rtnl_link_set_ns_fd(inner, netns);
		rc = rtnl_link_add(sock, outer, NLM_F_CREATE | NLM_F_EXCL);
	}
	nl_addr_put(hardware);
	rtnl_link_put(inner);
	rtnl_link_put(outer);
	return rc;
}

static int add_address(struct nl_sock *sock, int index, const char *text)
{
	struct rtnl_addr *address = rtnl_addr_alloc();
	struct nl_addr *local = NULL;
	int rc = address ? nl_addr_parse(text, AF_UNSPEC, &local) : -NLE_NOMEM;

	if (rc == 0) {
		rtnl_addr_set_ifindex(address, index);
		if (nl_addr_get_family(local) == AF_INET6)
			rtnl_addr_set_flags(
			    address, IFA_F_NODAD); /* the address is ours by decree */
		rc = rtnl_addr_set_local(address, local);
	}
	if (rc == 0)
		rc = rtnl_addr_add(sock, address, 0);
	nl_addr_put(local);
	rtnl_addr_put(address);
	return rc;
}

static int add_default_route(struct nl_sock *sock, int index, const char *gateway)
{
	struct rtnl_route *route = rtnl_route_alloc();
	struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
	struct nl_addr *via = NULL, *everywhere = NULL;
	int rc = route && hop ? nl_addr_parse(gateway, AF_UNSPEC, &via) : -NLE_NOMEM;

	if (rc == 0)
		rc = nl_addr_parse("default", nl_addr_get_family(via), &everywhere);
	if (rc == 0)
		rc = rtnl_route_set_dst(route, everywhere);
	if (rc == 0) {
		rtnl_route_nh_set_ifindex(hop, index);
		rtnl_route_nh_set_gateway(hop, via);
		rtnl_route_add_nexthop(route, hop); /* the route owns it now */
		hop = NULL;
		rc = rtnl_route_add(sock, route, 0);
	}
	if (hop)
		rtnl_route_nh_free(hop);
	nl_addr_put(via);
	nl_addr_put(everywhere);
	rtnl_route_put(route);
	return rc;
}

static int configure_inside(const struct ve_spec *spec)
{
	_cleanup_nl_ struct nl_sock *sock = route_socket();
	int index, rc;

	if (!sock)
		return -NLE_NOMEM;
	rc = set_up(sock, index_of(sock, "lo"));
	if (rc < 0 || !spec->address[0])
		return rc;
	index = index_of(sock, INSIDE);
	if (index < 0)
		return index;
	rc = add_address(sock, index, spec->address);
	if (rc == 0)
		rc = set_up(sock, index);
	if (rc == 0 && spec->gateway[0])
		rc = add_default_route(sock, index, spec->gateway);
	return rc;
}

static int join_bridge(const struct net *net, const struct engine_config *config,
    const struct ve_spec *spec, int netns, enum net_gate gate, const struct fence *fence,
    struct engine_error *error)
{
	_cleanup_nl_ struct nl_sock *sock = route_socket();
	unsigned char mac[6];
	int bridge, rc;

	if (!sock)
		return engine_fail(error, -ENOMEM, "open a netlink socket");
	if (net_hardware_address(spec->address, mac) < 0)
		return engine_refuse(error, -EINVAL,
		    "address %s: not an address with a prefix length", spec->address);
	bridge = index_of(sock, config->bridge);
	if (bridge < 0)
		return engine_refuse(error, -ENODEV,
		    "bridge %s: no such interface on this node ([ved] bridge)", config->bridge);
	rc = make_pair(sock, net, netns, mac, bridge);
	if (rc < 0)
		return engine_refuse(error, from_nl(rc), "make interface %s on bridge %s: %s",
		    net->host, config->bridge, nl_geterror(rc));
	rc = gate_install(net->host, gate == GATE_HOLD);
	if (rc < 0)
		return engine_fail(error, rc, "install the gate on %s", net->host);
	if (fence && (rc = fence_interface(fence, error)) < 0)
		return rc;
	rc = set_up(sock, index_of(sock, net->host));
	return rc < 0 ? engine_refuse(
			    error, from_nl(rc), "bring up %s: %s", net->host, nl_geterror(rc))
		      : 0;
}

static int configure(const struct net *net, const struct ve_spec *spec, struct engine_error *error)
{
	int home = enter(net), rc;

	if (home < 0)
		return engine_fail(error, home, "enter %s", net->netns);
	rc = configure_inside(spec);
	leave(home);
	return rc < 0 ? engine_refuse(error, from_nl(rc), "set address %s: %s", spec->address,
			    nl_geterror(rc))
		      : 0;
}

int net_make(const struct net *net, const struct engine_config *config, const struct ve_spec *spec,
    enum net_gate gate, const struct fence *fence, struct engine_error *error)
{
	_cleanup_fd_ int netns = -1;
	int rc = make_namespace(net->netns);

	if (rc < 0)
		return engine_fail(error, rc, "make network namespace %s", net->netns);
	netns = open(net->netns, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return engine_fail(error, -errno, "open %s", net->netns);
	if (spec->address[0])
		rc = join_bridge(net, config, spec, netns, gate, fence, error);
	return rc < 0 ? rc : configure(net, spec, error);
}

int net_gate(const struct net *net, enum net_gate gate)
{
	if (if_nametoindex(net->host) == 0)
		return 0;
	return gate_set(net->host, gate == GATE_HOLD);
}

int net_mute(const struct net *net, bool mute)
{
	int home, rc;

	if (if_nametoindex(net->host) == 0)
		return 0;
	home = enter(net);
	if (home < 0)
		return home;
	rc = mute ? gate_install(INSIDE, true) : gate_remove(INSIDE);
	leave(home);
	return rc;
}

int net_announce(const struct net *net, const struct ve_spec *spec)
{
	unsigned char mac[6];
	int home, rc;

	if (!spec->address[0])
		return 0;
	rc = net_hardware_address(spec->address, mac);
	if (rc < 0)
		return rc;
	home = enter(net);
	if (home < 0)
		return home;
	rc = announce_address(INSIDE, spec->address, mac);
	leave(home);
	return rc;
}

int net_remove(const struct net *net)
{
	_cleanup_nl_ struct nl_sock *sock = route_socket();
	struct rtnl_link *link = rtnl_link_alloc();
	int rc = -NLE_NOMEM;

	if (sock && link) {
		rtnl_link_set_name(link, net->host);
		rc = rtnl_link_delete(sock, link);
		if (rc == -NLE_NODEV || rc == -NLE_OBJ_NOTFOUND)
			rc = 0;
	}
	rtnl_link_put(link);
	if (umount2(net->netns, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT && rc == 0)
		return -errno;
	if (unlink(net->netns) < 0 && errno != ENOENT && rc == 0)
		return -errno;
	return from_nl(rc);
}
