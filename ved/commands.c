/*
 * Beside the core, which does one thing at a time with a VE: a probe must not wait for a dump, nor a dump for a
 * probe.  What the command does to the VE is what its own processes could do.
 */
#include "ved/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ved/files.h"
#include "ved/jobs.h"

enum { COMMANDS_MAX = 64 };

struct command {
	struct rpc_call *call; /* NULL: the place is free */
	bool running;
	uint64_t number; /* of those that wait for one VE the lowest is next */
	struct msg_ved_job job;
};

struct commands {
	struct jobs *jobs;
	uint64_t taken;
	struct command list[COMMANDS_MAX];
};

static struct command *find_running(struct commands *commands, const char *name)
{
	for (size_t i = 0; i < COMMANDS_MAX; i++)
		if (commands->list[i].call && commands->list[i].running &&
		    strcmp(commands->list[i].job.name, name) == 0)
			return &commands->list[i];
	return NULL;
}

static void finish(struct command *command, const struct msg_ved_job_done *done)
{
	struct msg_ved_executed reply = {.status = done->status};
	_cleanup_buf_ struct buf out = {0};

	if (done->error < 0) {
		rpc_fail(command->call,
		    done->error == -ENOENT   ? RPC_NOT_FOUND
		    : done->error == -ESTALE ? RPC_DENIED
		    : done->error == -ETIME  ? RPC_TIMEOUT
					     : RPC_FAILED,
		    "%s: %s", command->job.name, done->text);
	} else {
		path_set(reply.name, "%s", command->job.name);
		path_set(reply.output, "%.*s", (int)sizeof(reply.output) - 1, done->text);
		msg_ved_executed_pack(&reply, &out);
		rpc_reply(command->call, MSG_VED_EXECUTED, out.data, out.size);
	}
	command->call = NULL;
}

static void start(struct commands *commands, struct command *command)
{
	int rc = jobs_start(commands->jobs, &command->job);
	struct msg_ved_job_done failed = {.error = rc};

	command->running = true;
	if (rc == 0)
		return;
	path_set(failed.text, "start a worker: %s", strerror(-rc));
	finish(command, &failed);
}

/* Of those that wait for this VE. */
static void start_next(struct commands *commands, const char *name)
{
	struct command *next = NULL;

	for (size_t i = 0; i < COMMANDS_MAX; i++) {
		struct command *command = &commands->list[i];

		if (command->call && !command->running && strcmp(command->job.name, name) == 0 &&
		    (!next || command->number < next->number))
			next = command;
	}
	if (next)
		start(commands, next);
}

static void on_done(void *userdata, const char *name, const struct msg_ved_job_done *done)
{
	struct commands *commands = userdata;
	struct command *command = find_running(commands, name);

	if (command)
		finish(command, done);
	start_next(commands, name);
}

static void describe(
    struct msg_ved_job *job, const struct engine_config *engine, const struct msg_ved_exec *request)
{
	*job = (struct msg_ved_job){
	    .op = MSG_VED_OP_EXEC, .epoch = request->epoch, .limit_ms = request->timeout_ms};
	path_set(job->name, "%s", request->name);
	path_set(job->command, "%s", request->command);
	jobs_set_engine(job, engine);
}

void commands_run(struct commands *commands, const struct engine_config *engine,
    struct rpc_call *call, const struct msg_ved_exec *request)
{
	struct command *command = commands->list;

	while (command < commands->list + COMMANDS_MAX && command->call)
		command++;
	if (command == commands->list + COMMANDS_MAX) {
		rpc_fail(call, RPC_FAILED, "busy: %d commands are run already", COMMANDS_MAX);
		return;
	}
	command->call = call;
	command->running = false;
	command->number = ++commands->taken;
	describe(&command->job, engine, request);
	if (!find_running(commands, request->name))
		start(commands, command);
}

int commands_new(struct commands **out, sd_event *loop)
{
	struct commands *commands = calloc(1, sizeof(*commands));
	int rc = commands ? jobs_new(&commands->jobs, loop, on_done, commands) : -ENOMEM;

	if (rc < 0)
		free(commands);
	else
		*out = commands;
	return rc;
}

struct commands *commands_free(struct commands *commands)
{
	if (!commands)
		return NULL;
	for (size_t i = 0; i < COMMANDS_MAX; i++)
		if (commands->list[i].call)
			rpc_fail(commands->list[i].call, RPC_UNREACHABLE, "ved ends");
	jobs_free(commands->jobs);
	free(commands);
	return NULL;
}
