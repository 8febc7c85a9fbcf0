/*
 * A service that hangs is not captured: the image would push a good one out of the catalogue, and hang again where it is
 * restored.  What its probes say is asked of this node's fdd right before each freeze, so it is as fresh as can be, and no
 * other daemon has to be told.  A service is well when each of its probes has succeeded under its epoch and none is suspect.
 *
 * When fdd cannot say, it is taken for well: a probe that nobody evaluates is no reason to go without checkpoints.
 *
 * Rejected: to ask migrated, whose health says the same some scans later; to pass the VE over in the schedule, as the
 * coordinator would have to be told of each probe of each node, and a request by hand would still capture it.
 */
#include "ckptd/shell-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/fdd.h"

#define ASK_MS 300
#define SUSPECT 0.8 /* as for a restart: nine times the silence that is expected */

struct asking {
	char ve[CKPTD_VE_SIZE];
	uint64_t ve_epoch;
	health_done *done;
	void *userdata;
};

static bool is_unwell(const struct asking *asking, const struct msg_fdd_service *service)
{
	return strcmp(service->ve, asking->ve) == 0 && service->epoch == asking->ve_epoch &&
	       (service->level >= SUSPECT || service->good == 0);
}

static const struct msg_fdd_service *find_unwell(
    const struct asking *asking, const struct msg_fdd_ls_reply *listed)
{
	for (size_t i = 0; listed->has_services && i < listed->services.count; i++)
		if (is_unwell(asking, &listed->services.item[i]))
			return &listed->services.item[i];
	return NULL;
}

static void finish(struct asking *asking, const char *fault)
{
	asking->done(asking->userdata, fault);
	free(asking);
}

static void on_listed(void *userdata, const struct rpc_answer *answer)
{
	struct msg_fdd_ls_reply *listed = calloc(1, sizeof(*listed)); /* large */
	struct asking *asking = userdata;
	const struct msg_fdd_service *service = NULL;
	struct mpr_error error;
	char fault[HEALTH_FAULT] = "";

	if (listed && answer->status == RPC_OK &&
	    msg_fdd_ls_reply_unpack(listed, answer->body, answer->size, &error) == 0)
		service = find_unwell(asking, listed);
	if (service)
		snprintf(fault, sizeof(fault), "%.63s: %.60s", service->name,
		    *service->fault ? service->fault : "silence");
	free(listed);
	finish(asking, fault);
}

void health_ask(
    struct shell *shell, const char *ve, uint64_t ve_epoch, health_done *done, void *userdata)
{
	struct asking *asking = calloc(1, sizeof(*asking));

	if (!asking) {
		done(userdata, "");
		return;
	}
	*asking = (struct asking){.ve_epoch = ve_epoch, .done = done, .userdata = userdata};
	ckptd_name_copy(asking->ve, ve);
	if (rpc_request(shell->fdd, MSG_FDD_LS, NULL, 0, ASK_MS, on_listed, asking) < 0)
		finish(asking, "");
}
