#include "common/config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/test.h"

#define KEY1 "1111111111111111111111111111111111111111111111111111111111111111"
#define KEY2 "2222222222222222222222222222222222222222222222222222222222222222"
#define KEY3 "3333333333333333333333333333333333333333333333333333333333333333"
#define NODE "[node]\nname = n1\naddress = 10.0.0.1\n"
#define PEERS                                                                                      \
	"[peer n1]\naddress = 10.0.0.1\nkey = " KEY1                                               \
	"\n[peer n2]\naddress = 10.0.0.2\nkey = " KEY2 "\n"

struct settings {
	int64_t interval_ms;
	double factor;
	bool fast;
	int estimator;
	char text[16];
};

static const char *const estimators[] = {"kama", "kama-paper", NULL};
static const struct config_key keys[] = {
    {"fdd", "interval_ms", CONFIG_INT, offsetof(struct settings, interval_ms), 0, "500", 10, 60000,
	NULL, NULL},
    {"fdd", "factor", CONFIG_FLOAT, offsetof(struct settings, factor), 0, "0.5", 0, 1, NULL, NULL},
    {"fdd", "fast", CONFIG_BOOL, offsetof(struct settings, fast), 0, "no", 0, 0, NULL, NULL},
    {"fdd", "estimator", CONFIG_CHOICE, offsetof(struct settings, estimator), 0, "kama", 0, 0,
	estimators, NULL},
    {"fdd", "text", CONFIG_STRING, offsetof(struct settings, text), 16, "", 0, 0, NULL, NULL},
    {0},
};

static char directory[] = "/tmp/dst-config-XXXXXX";
static struct config_error error;
static struct node_config node;
static struct settings settings;

static void put(const char *name, const char *text)
{
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	check(file);
	fputs(text, file);
	fclose(file);
}

static int load(const char *text)
{
	char path[300];

	put("depsys.conf", text);
	snprintf(path, sizeof(path), "%s/depsys.conf", directory);
	return config_load(path, &node, keys, &settings, &error);
}

static void a_good_file_is_read_with_its_defaults(void)
{
	int r = load(NODE PEERS
	    "[fdd]\nestimator = kama-paper ; the literal one\n[gossipd]\nanything = 1\n");

	if (r < 0)
		printf("# %s\n", error.text);
	check_int(r, 0);
	check_str(node.name, "n1");
	check_int(node.port, 7400);
	check_int(node.peers.count, 2);
	check_str(node.self->name, "n1");
	check_int(settings.interval_ms, 500);
	check_int(settings.estimator, 1);
	check(!settings.fast);
}

static void refused(const char *text, const char *why)
{
	check_int(load(text), -EINVAL);
	if (!strstr(error.text, why)) {
		printf("# %s\n", error.text);
		check(!"the error says why");
	}
}

/* A page that is not written to takes no memory. */
static void places_for_peers_that_are_not_there_are_not_written_to(void)
{
	const uint8_t *last = (const uint8_t *)&node.peers.peer[PEERS_MAX - 1];

	memset(node.peers.peer, 0x5a, sizeof(node.peers.peer));
	check_int(load(NODE PEERS), 0);
	for (size_t i = 0; i < sizeof(struct peer); i++)
		check_int(last[i], 0x5a);
	check(!node.peers.peer[0].gone && !node.peers.peer[1].old);
}

static void faults_are_told_with_file_and_line(void)
{
	refused(NODE PEERS "[fdd]\ninterval_ms = 5\n",
	    "depsys.conf:11: interval_ms: 5 is not in 10 to 60000");
	refused(NODE PEERS "[fdd]\ninterval_ms = 50x\n", "\"50x\" is not a whole number");
	refused(NODE PEERS "[fdd]\nintervall = 50\n", "[fdd]: unknown key intervall");
	refused(NODE PEERS "[fddd]\n", "unknown section [fddd]");
	refused(NODE PEERS "[fdd]\nfast = true\n", "\"true\" is not yes or no");
	refused(NODE PEERS "[fdd]\nestimator = chen\n", "\"chen\" is not one of kama kama-paper");
	refused(NODE PEERS "[fdd]\nfast = yes\nfast = no\n", "twice in this file");
	refused(NODE PEERS "[fdd]\ntext = 0123456789abcdef\n", "longer than 15 bytes");
	refused(NODE PEERS "[fdd\n", "a section reads");
	refused("name = x\n", "before any [section]");
	refused(NODE PEERS "what is this\n", "expected key = value");
	refused("[node]\nname = n1\n" PEERS, "[node]: address is missing");
	refused(NODE "[peer n2]\naddress = 10.0.0.2\nkey = " KEY2 "\n", "no section [peer n1]");
	refused(NODE "[peer n1]\naddress = host.name\nkey = " KEY1 "\n", "not a numeric address");
	refused(NODE "[peer n1]\naddress = 10.0.0.1\nkey = 11\n", "key: not 64 hex digits");
	refused(NODE PEERS "[peer n3]\naddress = 10.0.0.3\nkey = " KEY1 "\n", "the same as of n1");
}

struct door {
	char name[NODE_NAME_MAX + 1];
	char command[16];
	int64_t timeout_s;
};

static const struct config_key door_keys[] = {
    {"fence", "command", CONFIG_STRING, offsetof(struct door, command), 16, NULL, 0, 0, NULL, NULL},
    {"fence", "timeout_s", CONFIG_INT, offsetof(struct door, timeout_s), 0, "60", 1, 99, NULL,
	NULL},
    {0},
};
static struct door doors[2];
static size_t n_doors;

static int load_doors(const char *text)
{
	const struct config_named named = {
	    "fence", door_keys, doors, sizeof(doors[0]), 2, &n_doors};
	char path[300];

	put("depsys.conf", text);
	snprintf(path, sizeof(path), "%s/depsys.conf", directory);
	return config_load_named(path, &named, &error);
}

static void refused_doors(const char *text, const char *words)
{
	check_int(load_doors(text), -EINVAL);
	check(strstr(error.text, words));
}

static void sections_with_names_are_read_each_into_its_own(void)
{
	static const char two[] = NODE PEERS "[fence off]\ncommand = /a b\n[fdd]\nfast = yes\n"
					     "[fence pdu-2]\ntimeout_s = 5\ncommand = /c\n";

	check_int(load(two), 0); /* those who do not want them pass over them */
	check_int(load_doors(two), 0);
	check_int(n_doors, 2);
	check_str(doors[0].name, "off");
	check_str(doors[0].command, "/a b");
	check_int(doors[0].timeout_s, 60);
	check_str(doors[1].name, "pdu-2");
	check_int(doors[1].timeout_s, 5);
	refused_doors("[fence off]\ntimeout_s = 5\n", "[fence off]: command is missing");
	refused_doors("[fence off]\ncommand = /a\ncommand = /b\n", "depsys.conf:3: command: twice");
	refused_doors("[fence off]\ncommand = /a\nuser = root\n", "[fence off]: unknown key user");
	refused_doors("[fence off]\ncommand = /a\ntimeout_s = 0\n", "0 is not in 1 to 99");
	refused_doors("[fence Off]\n", "[fence Off]: a name is");
	refused_doors("[door off]\n", "only [peer NAME] and [fence NAME]");
	refused_doors(
	    "[fence a]\ncommand = /a\n[fence b]\ncommand = /a\n[fence c]\n", "more than 2");
}

static void a_long_value_is_taken_whole_or_refused(void)
{
	char text[6000] = NODE PEERS "[fdd]\ntext = ";

	memset(text + strlen(text), 'x', 5000);
	refused(text, "line longer than");
}

static void drop_ins_replace_values_in_the_order_of_their_names(void)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/depsys.conf.d", directory);
	mkdir(path, 0755);
	put("depsys.conf.d/20.conf", "[fdd]\ninterval_ms = 200\n");
	put("depsys.conf.d/10.conf", "[fdd]\ninterval_ms = 100\nfast = yes\n");
	check_int(load(NODE PEERS "[fdd]\ninterval_ms = 1000\n"), 0);
	check_int(settings.interval_ms, 200);
	check(settings.fast);
}

static void a_missing_file_is_one_clear_line(void)
{
	check_int(config_load("/nonexistent/depsys.conf", &node, keys, &settings, &error), -ENOENT);
	check_str(error.text, "/nonexistent/depsys.conf: open: No such file or directory");
}

static void a_key_file_comes_back_and_must_not_be_open_to_others(void)
{
	struct node_keys made, back;
	char path[300];

	snprintf(path, sizeof(path), "%s/node.key", directory);
	keys_generate(&made);
	check_int(keys_save(&made, path), 0);
	check_int(keys_save(&made, path), -EEXIST);
	check_int(keys_load(&back, path), 0);
	check(memcmp(&made, &back, sizeof(made)) == 0);
	chmod(path, 0644);
	check_int(keys_load(&back, path), -EPERM);
}

static void a_node_is_of_the_cluster_of_its_site(void)
{
	char name[CLUSTER_NAME_MAX + 1];
	const struct peer *n1, *n2, *n3;

	check_int(load(NODE "cluster = demo\n" PEERS "site = rome\n"
			    "[peer n3]\naddress = 10.0.0.3\nkey = " KEY3 "\n"),
	    0);
	n1 = peers_by_name(&node.peers, "n1");
	n2 = peers_by_name(&node.peers, "n2");
	n3 = peers_by_name(&node.peers, "n3");
	config_cluster_name(name, &node, n1);
	check_str(name, "demo");
	config_cluster_name(name, &node, n2);
	check_str(name, "demo/rome");
	check(config_is_near(&node, n1) && config_is_near(&node, n3));
	check(!config_is_near(&node, n2));
}

int main(void)
{
	char command_path[300];
	int r;

	if (!mkdtemp(directory))
		return 1;
	r = test_main((struct test[]){
	    TEST(a_good_file_is_read_with_its_defaults),
	    TEST(places_for_peers_that_are_not_there_are_not_written_to),
	    TEST(faults_are_told_with_file_and_line),
	    TEST(sections_with_names_are_read_each_into_its_own),
	    TEST(a_long_value_is_taken_whole_or_refused),
	    TEST(drop_ins_replace_values_in_the_order_of_their_names),
	    TEST(a_missing_file_is_one_clear_line),
	    TEST(a_key_file_comes_back_and_must_not_be_open_to_others),
	    TEST(a_node_is_of_the_cluster_of_its_site),
	    {0},
	});
	for (const char *const *name = (const char *const[]){"depsys.conf.d/10.conf",
		 "depsys.conf.d/20.conf", "depsys.conf.d", "depsys.conf", "node.key", "", NULL};
	     *name; name++) {
		snprintf(command_path, sizeof(command_path), "%s/%s", directory, *name);
		remove(command_path);
	}
	return r;
}
