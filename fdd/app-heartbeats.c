/*
 * A service in a VE sends to the broadcast address of its network.  The datagram's source address names the VE:
 * what comes from an address that no watched VE has is dropped.  Nothing is sealed: a VE's neighbours on the
 * bridge could send in its name, and would make a silent service look alive, no more.
 *
 * Rejected: a unix socket mounted into the VE.  CRIU has to be told of every outside file of a dump, the mount must
 * be made again wherever the VE goes, and an unchanged bundle has no place for it.
 */
#include "fdd/app-heartbeats.h"

#include <errno.h>
#include <stdlib.h>

#include "common/udp.h"
#include "fdd/shell-internal.h"

enum { TEXT_MAX = 64, ONE_WAKE_UP = 256 };

struct app_heartbeats {
	struct shell *shell;
	struct udp udp;
	sd_event_source *io;
};

static void take(struct app_heartbeats *heartbeats, const struct udp_datagram *datagram)
{
	struct msg_fdd_heartbeat message;
	struct mpr_error error;

	if (datagram->size > TEXT_MAX ||
	    msg_fdd_heartbeat_unpack(&message, datagram->bytes, datagram->size, &error) < 0) {
		log_debug("application heartbeat refused from=%s", datagram->from);
		return;
	}
	services_heard(heartbeats->shell->services, &(struct app_heartbeat){.from = datagram->from,
							.arrived = datagram->arrived,
							.incarnation = message.incarnation,
							.sequence = message.sequence,
							.interval_ms = message.interval_ms});
}

static int on_datagrams(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct app_heartbeats *heartbeats = userdata;
	struct udp_datagram datagram;

	(void)source;
	(void)fd;
	(void)events;
	for (int i = 0; i < ONE_WAKE_UP && udp_receive(&heartbeats->udp, &datagram) == 0; i++)
		take(heartbeats, &datagram);
	shell_wake(heartbeats->shell);
	return 0;
}

int app_heartbeats_new(struct app_heartbeats **out, struct shell *shell)
{
	struct app_heartbeats *heartbeats = calloc(1, sizeof(*heartbeats));
	struct daemon *daemon = shell->daemon;
	int r;

	if (!heartbeats)
		return -ENOMEM;
	*out = heartbeats;
	heartbeats->shell = shell;
	r = udp_open(
	    &heartbeats->udp, "0.0.0.0", (uint16_t)(daemon->node.port + PORT_APPLICATIONS));
	if (r < 0) {
		log_warning("services that tell by themselves are not heard by this fdd");
		return 0;
	}
	r = sd_event_add_io(
	    daemon->loop, &heartbeats->io, heartbeats->udp.fd, EPOLLIN, on_datagrams, heartbeats);
	return r < 0 ? r : 0;
}

struct app_heartbeats *app_heartbeats_free(struct app_heartbeats *heartbeats)
{
	if (!heartbeats)
		return NULL;
	sd_event_source_disable_unref(heartbeats->io);
	udp_close(&heartbeats->udp);
	free(heartbeats);
	return NULL;
}
