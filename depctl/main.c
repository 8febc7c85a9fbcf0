/*
 * depctl: the command line of a node.  It asks the daemons over their request sockets and needs no bus.
 * Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 not found, 5 denied, 6 timeout.
 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "depctl/command.h"

#define DEFAULT_TIMEOUT_MS 5000

struct globals {
	const char *config;
	enum output_form form;
	uint64_t timeout_ms;
	bool timeout_given, help;
};

static const char examples[] =
    "\nfirst steps:\n"
    "  depctl status\n"
    "  depctl ve run counter ./bundle --address 10.77.0.100/24 --interval 2s\n"
    "  depctl ckpt ls counter\n"
    "  depctl events --follow ve.\n"
    "  depctl -o json ve ls | jq -r '.[].node'\n";

static bool is_group(const char *word)
{
	for (const struct command *command = commands; command->group; command++)
		if (strcmp(command->group, word) == 0)
			return true;
	return false;
}

/* All commands, or those of one group. */
static void print_usage(FILE *out, const char *group)
{
	fprintf(out,
	    "usage: depctl [--config FILE] [-o table|json|jsonl] [--timeout TIME] COMMAND ...\n\n");
	for (const struct command *command = commands; command->group; command++) {
		char words[80];

		if (group && strcmp(group, command->group) != 0)
			continue;
		snprintf(words, sizeof(words), "%s%s%s %s", command->group,
		    command->name ? " " : "", command->name ? command->name : "",
		    command->positionals);
		fprintf(out, "  %-28s %s\n", words, command->summary);
	}
	fprintf(out,
	    "%s\ndepctl COMMAND --help tells its options, with an example.\n"
	    "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 not found, 5 denied, 6 timeout.\n",
	    group ? "" : examples);
}

static void print_command_help(const struct command *command)
{
	printf("usage: depctl %s%s%s %s%s\n%s\n", command->group, command->name ? " " : "",
	    command->name ? command->name : "", command->positionals,
	    command->options[0].name ? " [options]" : "", command->summary);
	for (const struct option_spec *option = command->options; option->name; option++)
		printf("  --%s%s%-*s %s\n", option->name, option->value ? " " : "",
		    (int)(20 - strlen(option->name)), option->value ? option->value : "",
		    option->help);
	printf("\nexample: %s\n", command->example);
}

static int usage(const char *what, const char *word)
{
	fprintf(stderr, "depctl: %s: %s\ntry: depctl --help\n", what, word);
	return EXIT_USAGE;
}

static bool parse_form(const char *text, enum output_form *form)
{
	static const char *const names[] = {"table", "json", "jsonl"};

	for (int i = 0; i < 3; i++)
		if (strcmp(text, names[i]) == 0) {
			*form = (enum output_form)i;
			return true;
		}
	fprintf(stderr, "depctl: -o: %s is not one of table json jsonl\n", text);
	return false;
}

/* The options that every command takes, anywhere on the line; they are taken out of argv. */
static int take_globals(int *argc, char **argv, struct globals *globals)
{
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		const char *word = argv[i];
		bool takes_value = strcmp(word, "--config") == 0 || strcmp(word, "-o") == 0 ||
				   strcmp(word, "--timeout") == 0;

		if (strcmp(word, "--") == 0) {
			while (i < *argc)
				argv[kept++] = argv[i++];
			break;
		}
		if (takes_value && i + 1 == *argc)
			return usage("needs a value", word);
		if (strcmp(word, "--config") == 0) {
			globals->config = argv[++i];
		} else if (strcmp(word, "-o") == 0) {
			if (!parse_form(argv[++i], &globals->form))
				return EXIT_USAGE;
		} else if (strcmp(word, "--timeout") == 0) {
			if (!parse_duration_ms("--timeout", argv[++i], &globals->timeout_ms))
				return EXIT_USAGE;
			globals->timeout_given = true;
		} else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
			globals->help = true;
		} else {
			argv[kept++] = argv[i];
		}
	}
	*argc = kept;
	return 0;
}

static const struct command *find_command(int argc, char **argv, int *words)
{
	for (const struct command *command = commands; command->group; command++) {
		if (argc < 2 || strcmp(command->group, argv[1]) != 0)
			continue;
		*words = command->name ? 2 : 1;
		if (!command->name || (argc > 2 && strcmp(command->name, argv[2]) == 0))
			return command;
	}
	return NULL;
}

/* One more value of the option that may be repeated. */
static int take_another(const char *word, const char *value, struct arguments *arguments)
{
	if (arguments->n_many == MANY_MAX)
		return usage("given too often", word);
	arguments->many[arguments->n_many++] = value;
	return 0;
}

static bool is_repeatable(const struct option_spec *option)
{
	size_t length = option->value ? strlen(option->value) : 0;

	return length > 3 && strcmp(option->value + length - 3, "...") == 0;
}

static int take_option(
    const struct command *command, int argc, char **argv, int *at, struct arguments *arguments)
{
	const char *word = argv[*at] + 2;

	for (int i = 0; command->options[i].name; i++) {
		if (strcmp(command->options[i].name, word) != 0)
			continue;
		if (arguments->option[i])
			return usage("given twice", argv[*at]);
		if (command->options[i].value && *at + 1 == argc)
			return usage("needs a value", argv[*at]);
		if (is_repeatable(&command->options[i]))
			return take_another(word, argv[++*at], arguments);
		arguments->option[i] = command->options[i].value ? argv[++*at] : "";
		return 0;
	}
	return usage("unknown option", argv[*at]);
}

static int take_arguments(
    const struct command *command, int argc, char **argv, int at, struct arguments *arguments)
{
	size_t least, most;
	int r = 0;

	count_positionals(command->positionals, &least, &most);
	for (; at < argc && r == 0; at++) {
		if (strncmp(argv[at], "--", 2) == 0)
			r = take_option(command, argc, argv, &at, arguments);
		else if (strcmp(argv[at], "-f") == 0 &&
			 strcmp(command->options[0].name ? command->options[0].name : "",
			     "follow") == 0)
			arguments->option[0] = "";
		else if (arguments->n_positionals == most)
			r = usage("one word too many", argv[at]);
		else
			arguments->positional[arguments->n_positionals++] = argv[at];
	}
	if (r == 0 && arguments->n_positionals < least) {
		fprintf(stderr, "depctl: usage: depctl %s%s%s %s\n", command->group,
		    command->name ? " " : "", command->name ? command->name : "",
		    command->positionals);
		return EXIT_USAGE;
	}
	return r;
}

static int run(
    const struct command *command, const struct globals *globals, const struct arguments *arguments)
{
	struct session session = {.form = globals->form,
	    .timeout_ms = (int64_t)globals->timeout_ms,
	    .timeout_given = globals->timeout_given};
	int status;

	if (command->no_session)
		return command->run(&session, arguments);
	if (session_open(&session, globals->config) < 0)
		return 1;
	status = command->run(&session, arguments);
	session_close(&session);
	return status;
}

/* No command, half of one ("ve"), or a wrong one: what there is, on standard output when it was asked for. */
static int no_command(int argc, char **argv, bool help)
{
	bool group = argc > 1 && is_group(argv[1]);

	if (argc > 2 && group)
		fprintf(stderr, "depctl: no such command: %s %s\n", argv[1], argv[2]);
	else if (argc > 1 && !group)
		return usage("no such command", argv[1]);
	help = help && argc <= 2;
	print_usage(help ? stdout : stderr, group ? argv[1] : NULL);
	return help ? 0 : EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct globals globals = {
	    .config = "/etc/depsys/depsys.conf", .timeout_ms = DEFAULT_TIMEOUT_MS};
	struct arguments arguments = {0};
	const struct command *command;
	int words = 0, r;

	log_init("depctl");
	log_set_level(LOG_LEVEL_WARNING);
	if (sodium_init() < 0)
		return 1;
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("depctl %s\n", DEPSYS_VERSION);
		return 0;
	}
	r = take_globals(&argc, argv, &globals);
	if (r)
		return r;
	command = find_command(argc, argv, &words);
	if (!command)
		return no_command(argc, argv, globals.help);
	if (globals.help) {
		print_command_help(command);
		return 0;
	}
	r = take_arguments(command, argc, argv, words + 1, &arguments);
	return r ? r : run(command, &globals, &arguments);
}
