/*
 * Commands that are run in VEs on request (ved.exec), one at a time of each VE.
 */
#ifndef VED_COMMANDS_H
#define VED_COMMANDS_H

#include "common/rpc.h"
#include "proto/ved.h"
#include "ved/engine.h"

struct commands;

int commands_new(struct commands **out, sd_event *loop);
struct commands *commands_free(struct commands *commands);
/* Owns the call: answers it when the command has ended, or refuses it. */
void commands_run(struct commands *commands, const struct engine_config *engine,
    struct rpc_call *call, const struct msg_ved_exec *request);

#endif
