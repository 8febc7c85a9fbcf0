/*
 * Rejected: a heartbeat without any body, whose number is the seal's counter.  It would save six bytes more, but then
 * what the seal sends for itself would count as lost heartbeats.
 */
#include "fdd/heartbeat-wire.h"

#include <errno.h>
#include <stdio.h>

#include "proto/fdd.h"

int heartbeat_pack(const struct fdd_heartbeat *beat, bool opening, struct buf *body)
{
	const struct msg_fdd_heartbeat message = {
	    .has_incarnation = opening,
	    .incarnation = beat->incarnation,
	    .sequence = beat->sequence,
	    .has_interval_ms = opening,
	    .interval_ms = (uint32_t)mono_to_ms(beat->interval),
	};

	return msg_fdd_heartbeat_pack(&message, body);
}

static int refuse(struct mpr_error *error, const char *why)
{
	if (error)
		snprintf(error->text, sizeof(error->text), "fdd.heartbeat: %s", why);
	return -EBADMSG;
}

int heartbeat_unpack(struct heartbeat_wire *wire, size_t place, uint64_t from, const void *data,
    size_t size, struct fdd_heartbeat *beat, struct mpr_error *error)
{
	struct msg_fdd_heartbeat message;
	int r = msg_fdd_heartbeat_unpack(&message, data, size, error);

	if (r < 0)
		return r;
	if (message.has_incarnation != message.has_interval_ms)
		return refuse(error, "incarnation and interval_ms go together");
	if (message.has_incarnation) {
		wire->said[place].from = from;
		wire->said[place].incarnation = message.incarnation;
		wire->said[place].interval_ms = message.interval_ms;
	} else if (wire->said[place].from != from) {
		return refuse(error, "a short one before one that says all");
	}
	*beat = (struct fdd_heartbeat){
	    .incarnation = wire->said[place].incarnation,
	    .sequence = message.sequence,
	    .interval = mono_ms(wire->said[place].interval_ms),
	};
	return 0;
}
