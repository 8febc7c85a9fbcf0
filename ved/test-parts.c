/* The parts of the engine that need no kernel's help: names, addresses, records, bundles, archives, criu's words. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/test.h"
#include "ved/archive.h"
#include "ved/binds.h"
#include "ved/bundle.h"
#include "ved/criu-words.h"
#include "ved/files.h"
#include "ved/lxc-config.h"
#include "ved/net.h"
#include "ved/record.h"

static char base[] = "/tmp/dst-ved-parts-XXXXXX";

static const char *in_base(const char *name)
{
	static char path[4][VE_PATH];
	static int next;
	char *out = path[next++ % 4];

	snprintf(out, VE_PATH, "%s/%s", base, name);
	return out;
}

static void put_file(const char *path, const char *text)
{
	check_int(file_replace(path, text, strlen(text), 0644), 0);
}

static void a_name_is_a_file_a_cgroup_and_a_host_name(void)
{
	check(ve_name_ok("counter") && ve_name_ok("a-1"));
	check(!ve_name_ok("") && !ve_name_ok("..") && !ve_name_ok("a/b") && !ve_name_ok("-a") &&
	      !ve_name_ok("A"));
	check(!ve_name_ok("0123456789012345678901234567890123456789012345678901234567890123"));
	check(ve_oid_ok("9f3a_X-1") && !ve_oid_ok("") && !ve_oid_ok("../x"));
}

static void the_hardware_address_follows_from_the_address(void)
{
	unsigned char a[6], b[6], c[6], six[6];

	check_int(net_hardware_address("10.1.2.3/24", a), 0);
	check_int(net_hardware_address("10.1.2.3/16", b), 0);
	check_int(net_hardware_address("10.1.2.4/24", c), 0);
	check_int(net_hardware_address("fd00::3/64", six), 0);
	check(memcmp(a, b, 6) == 0 && memcmp(a, c, 6) != 0 && memcmp(a, six, 6) != 0);
	check_int(a[0] & 3, 2); /* local, unicast */
	check_int(net_hardware_address("counter", a), -EINVAL);
}

static void a_record_comes_back_as_it_was_written(void)
{
	struct engine_config config = {0};
	struct ve_record out, record = {
				  .spec = {.name = "counter",
				      .epoch = 7,
				      .address = "10.1.2.3/24",
				      .gateway = "10.1.2.1",
				      .bundle = "abc",
				      .engine = ENGINE_LXC},
				  .state = RECORD_FROZEN,
				  .pid = getpid(),
				  .thaw_by_ms = 123456789012,
			      };

	path_set(config.run, "%s", base);
	check_int(dir_make(in_base("ve/counter"), 0700), 0);
	check_int(process_start_ticks(getpid(), &record.start_ticks), 0);
	check_int(record_save(&config, &record), 0);
	check_int(record_load(&config, "counter", &out), 0);
	check(out.alive && out.spec.epoch == 7 && out.state == RECORD_FROZEN &&
	      out.thaw_by_ms == 123456789012);
	check_str(out.spec.gateway, "10.1.2.1");
	check_int(out.spec.engine, ENGINE_LXC);
}

static void another_process_with_the_same_pid_is_not_the_ve(void)
{
	struct engine_config config = {0};
	struct ve_record record = {.spec = {.name = "counter", .bundle = "abc"},
	    .state = RECORD_RUNNING,
	    .pid = getpid(),
	    .start_ticks = 1};

	path_set(config.run, "%s", base);
	check_int(record_save(&config, &record), 0);
	check_int(record_load(&config, "counter", &record), 0);
	check(!record.alive);
}

static void a_torn_or_foreign_record_is_refused(void)
{
	struct engine_config config = {0};
	struct ve_record record;

	path_set(config.run, "%s", base);
	put_file(in_base("ve/counter/record.json"), "{\"name\": \"counter\", \"ep");
	check_int(record_load(&config, "counter", &record), -EBADMSG);
	put_file(in_base("ve/counter/record.json"), "[1, 2]");
	check_int(record_load(&config, "counter", &record), -EBADMSG);
	check_int(record_load(&config, "other", &record), -ENOENT);
}

static struct engine_config engine = {.mounts = "/srv/shared /mnt/x"};
static struct ve_spec spec = {.name = "counter"};

static int prepare(const char *config, struct cgroup_limits *limits, struct engine_error *error)
{
	put_file(in_base("config.json"), config);
	check_int(dir_make(in_base("out"), 0700), 0);
	return bundle_prepare(
	    base, &engine, &spec, "/root/dir", "/run/netns", in_base("out"), limits, error);
}

static void a_bundle_gets_our_root_namespaces_and_no_cgroups(void)
{
	_cleanup_buf_ struct buf text = {0};
	struct engine_error error;
	struct cgroup_limits limits;

	check_int(
	    prepare(
		"{\"process\": {\"args\": [\"/bin/x\"]}, \"linux\": {\"cgroupsPath\": \"/evil\", \"resources\": "
		"{\"memory\": {\"limit\": 1048576}, \"pids\": {\"limit\": 9}}}}",
		&limits, &error),
	    0);
	check_int(limits.memory_bytes, 1048576);
	check_int(limits.pids, 9);
	check_int(file_read(in_base("out/config.json"), 65536, &text), 0);
	check(strstr((char *)text.data, "\"path\":\"/run/netns\"") &&
	      strstr((char *)text.data, "\"path\":\"/root/dir\""));
	check(!strstr((char *)text.data, "evil") && !strstr((char *)text.data, "resources"));
}

static void what_cannot_move_is_refused_in_plain_words(void)
{
	static const char *const cases[][2] = {
	    {"{\"mounts\": [{\"destination\": \"/d\", \"type\": \"bind\", \"source\": \"/home\"}]}",
		"/d"},
	    {"{\"mounts\": [{\"destination\": \"/d\", \"type\": \"none\", \"options\": [\"rbind\"]}]}",
		"bind mounts"},
	    {"{\"mounts\": [{\"destination\": \"/d\", \"type\": \"nfs\", \"source\": \"host:/home\"}]}",
		"mount /d of type nfs"},
	    {"{\"mounts\": [{\"destination\": \"/d\", \"type\": \"tmpfs\", \"options\": [\"rshared\"]}]}",
		"option rshared"},
	    {"{\"linux\": {\"rootfsPropagation\": \"shared\"}}", "rootfsPropagation"},
	    {"{\"hooks\": {\"prestart\": [{\"path\": \"/bin/sh\"}]}}", "hooks"},
	    {"{\"process\": {\"terminal\": true}}", "terminal"},
	    {"{\"linux\": {\"namespaces\": [{\"type\": \"user\"}]}}", "user namespaces"},
	    {"{\"linux\": {\"devices\": [{\"path\": \"/dev/sda\"}]}}", "devices"},
	    {"{\"a\": }", "config.json:1"},
	    {"[]", "not an object"},
	};
	struct engine_error error;
	struct cgroup_limits limits;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		check_int(prepare(cases[i][0], &limits, &error), -EINVAL);
		check(strstr(error.text, cases[i][1]));
	}
}

static void a_listed_directory_of_the_host_is_mounted_and_nothing_below_it_is(void)
{
	static const char *const cases[][2] = {
	    {"\"destination\": \"/d\", \"type\": \"bind\", \"source\": \"/srv/shared/a\"",
		"/srv/shared/a"},
	    {"\"destination\": \"/d\", \"type\": \"bind\", \"source\": \"/srv\"",
		"/srv is not there"},
	    {"\"destination\": \"/a/../d\", \"type\": \"bind\", \"source\": \"/mnt/x\"",
		"without . and .."},
	    {"\"destination\": \"/d\", \"type\": \"none\", \"source\": \"/mnt/x\", \"options\": [\"rbind\"]",
		"rbind"},
	    {"\"destination\": \"/d\", \"type\": \"bind\", \"source\": \"/mnt/x\", \"options\": [\"bind\", "
	     "\"dev\"]",
		"option dev"},
	};
	static const char good[] = "{\"mounts\": [{\"destination\": \"/d\", \"type\": \"bind\", "
				   "\"source\": \"/mnt/x\", \"options\": [\"bind\", \"ro\"]}]}";
	_cleanup_buf_ struct buf text = {0};
	struct engine_error error;
	struct cgroup_limits limits;
	struct binds binds;
	char config[512];

	check_int(prepare(good, &limits, &error), -EPERM);
	check(strstr(error.text, "/d") && strstr(error.text, "placement"));
	spec.shared = true;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		path_set(config, "{\"mounts\": [{%s}]}", cases[i][0]);
		check_int(prepare(config, &limits, &error), -EINVAL);
		check(strstr(error.text, cases[i][1]));
	}
	check_int(prepare(good, &limits, &error), 0);
	check_int(binds_load(in_base("out"), &binds, &error), 0);
	check_int(binds.count, 1);
	check_str(binds.bind[0].from, "/mnt/x");
	check_str(binds.bind[0].to, "/d");
	check_int(file_read(in_base("out/config.json"), 65536, &text), 0);
	check(strstr((char *)text.data, "[\"bind\",\"rprivate\",\"nosuid\",\"nodev\",\"ro\"]"));
	spec.shared = false;
}

static void what_may_be_mounted_is_named_by_plain_paths(void)
{
	const char *word;
	size_t length;

	check(binds_allowed_ok("", &word, &length));
	check(binds_allowed_ok(" /a  /b/c ", &word, &length));
	check(!binds_allowed_ok("/a b", &word, &length) && *word == 'b');
	check(!binds_allowed_ok("/", &word, &length));
	check(!binds_allowed_ok("/a/../b", &word, &length));
	check(!binds_allowed_ok("/a/", &word, &length));
}

static void an_archive_keeps_links_modes_and_whiteouts(void)
{
	struct engine_error error;
	struct stat one, two, gone;

	check_int(dir_make(in_base("from/sub"), 0750), 0);
	put_file(in_base("from/sub/file"), "hello");
	check_int(link(in_base("from/sub/file"), in_base("from/again")), 0);
	check_int(symlink("sub/file", in_base("from/soft")), 0);
	if (geteuid() == 0)
		check_int(mknod(in_base("from/gone"), S_IFCHR, 0), 0);
	check_int(archive_pack(in_base("from"), in_base("a.tar"), &error), 0);
	check_int(dir_make(in_base("to"), 0700), 0);
	check_int(archive_unpack(in_base("a.tar"), in_base("to"), &error), 0);
	check(stat(in_base("to/sub/file"), &one) == 0 && stat(in_base("to/again"), &two) == 0);
	check(one.st_ino == two.st_ino && one.st_size == 5);
	check(stat(in_base("to/sub"), &one) == 0 && (one.st_mode & 0777) == 0750);
	check(lstat(in_base("to/soft"), &one) == 0 && S_ISLNK(one.st_mode));
	if (geteuid() == 0)
		check(lstat(in_base("to/gone"), &gone) == 0 && S_ISCHR(gone.st_mode) &&
		      gone.st_rdev == 0);
}

static void an_archive_cannot_write_outside_of_its_directory(void)
{
	struct engine_error error;

	/* from/way -> the base; from2/way/escaped is then packed under the same name */
	check_int(dir_make(in_base("evil/one"), 0700), 0);
	check_int(dir_make(in_base("evil/two/way"), 0700), 0);
	check_int(symlink(base, in_base("evil/one/way")), 0);
	put_file(in_base("evil/two/way/escaped"), "x");
	check_int(archive_pack(in_base("evil/one"), in_base("1.tar"), &error), 0);
	check_int(archive_pack(in_base("evil/two"), in_base("2.tar"), &error), 0);
	check_int(dir_make(in_base("jail"), 0700), 0);
	check_int(archive_unpack(in_base("1.tar"), in_base("jail"), &error), 0);
	archive_unpack(in_base("2.tar"), in_base("jail"), &error);
	check(access(in_base("escaped"), F_OK) < 0);
}

static void a_short_archive_is_an_error_not_a_short_tree(void)
{
	struct engine_error error;
	struct stat st;

	check_int(stat(in_base("a.tar"), &st), 0);
	check_int(truncate(in_base("a.tar"), 700), 0);
	check(archive_unpack(in_base("a.tar"), in_base("jail"), &error) < 0);
	check(strlen(error.text) > 0);
}

static void criu_is_put_into_plain_words(void)
{
	struct engine_error error;

	criu_explain_text("(00.1) Warn  (criu/x.c:1): no\n"
			  "(00.2) Error (criu/sk-unix.c:5): unix: External socket is used\n"
			  "(00.3) Error (criu/cr-dump.c:9): Dumping FAILED.\n",
	    NULL, NULL, &error);
	check(strstr(error.text, "outside of the VE") && strstr(error.text, "criu/sk-unix.c:5"));
	check(!strstr(error.text, "Dumping FAILED"));
	criu_explain_text("", NULL, NULL, &error);
	check_str(error.text, "criu failed");
}

static void put_bundle(struct buf *out, int *rc, const char *json, struct engine_error *error)
{
	const struct runner_order order = {
	    .dir = "/d", .root = "/r", .netns = "/n", .name = "counter"};
	json_t *bundle = json_loads(json, 0, NULL);

	check(bundle != NULL);
	buf_fini(out);
	*rc = lxc_config_make(bundle, &order, out, error);
	json_decref(bundle);
	if (*rc == 0)
		check_int(buf_append(out, "", 1), 0);
}

static void a_bundle_is_said_in_the_words_of_lxc(void)
{
	static const char *const lines[] = {"lxc.rootfs.path = dir:/r\n",
	    "lxc.namespace.share.net = /n\n", "lxc.init.uid = 7\n", "lxc.init.groups = 8,9\n",
	    "lxc.cap.keep = chown net_bind_service\n", "lxc.prlimit.nofile = 10:20\n",
	    "lxc.init.cwd = /data\n", "lxc.environment = A=b c\n", "lxc.no_new_privs = 1\n",
	    "lxc.proc.oom_score_adj = 5\n", "lxc.sysctl.kernel.msgmax = 4096\n",
	    "lxc.mount.entry = proc proc proc create=dir,nosuid 0 0\n"};
	_cleanup_buf_ struct buf out = {0};
	struct engine_error error;
	int rc;

	put_bundle(&out, &rc,
	    "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"/r\",\"readonly\":false},\"process\":{"
	    "\"args\":[\"/x\"],\"cwd\":\"/data\",\"env\":[\"A=b c\"],\"terminal\":false,"
	    "\"user\":{\"uid\":7,\"gid\":7,\"additionalGids\":[8,9]},\"noNewPrivileges\":true,"
	    "\"oomScoreAdj\":5,\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":10,\"hard\":20}],"
	    "\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_NET_BIND_SERVICE\"]}},"
	    "\"linux\":{\"sysctl\":{\"kernel.msgmax\":\"4096\"},\"seccomp\":{}},"
	    "\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"options\":[\"nosuid\"]},"
	    "{\"destination\":\"/dev\",\"type\":\"tmpfs\"}]}",
	    &error);
	check_int(rc, 0);
	for (size_t i = 0; rc == 0 && i < sizeof(lines) / sizeof(lines[0]); i++)
		check(strstr((const char *)out.data, lines[i]) != NULL);
	check(rc < 0 || !strstr((const char *)out.data, "= tmpfs dev"));
}

static void what_lxc_cannot_do_is_refused_by_its_name(void)
{
	static const char *const cases[][2] = {
	    {"{\"linux\":{\"seccomp\":{\"defaultAction\":\"x\"}}}", "linux.seccomp"},
	    {"{\"linux\":{\"maskedPaths\":[\"/proc/kcore\"]}}", "linux.maskedPaths"},
	    {"{\"linux\":{\"readonlyPaths\":[\"/proc/sys\"]}}", "linux.readonlyPaths"},
	    {"{\"linux\":{\"mountLabel\":\"x\"}}", "linux.mountLabel"},
	    {"{\"root\":{\"path\":\"/r\",\"readonly\":true}}", "root.readonly"},
	    {"{\"process\":{\"selinuxLabel\":\"x\"}}", "process.selinuxLabel"},
	    {"{\"process\":{\"apparmorProfile\":\"x\"}}", "process.apparmorProfile"},
	    {"{\"process\":{\"user\":{\"umask\":18}}}", "process.user.umask"},
	    {"{\"process\":{\"env\":[\"A=b\\nlxc.cap.keep=sys_admin\"]}}", "lxc.environment"},
	    {"{\"process\":{\"user\":{\"uid\":7},\"capabilities\":{\"ambient\":[\"CAP_CHOWN\"]}}}",
		"process.capabilities.ambient"},
	    {"{\"process\":{\"user\":{\"uid\":0},\"capabilities\":{\"bounding\":[\"CAP_CHOWN\"]}}}",
		"process.capabilities"},
	    {"{\"mounts\":[{\"destination\":\"/a b\",\"type\":\"tmpfs\"}]}", "mounts"},
	    {"{\"mounts\":[{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"/a\"}]}",
		"mounts: the engine lxc cannot do that: a directory of the host"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_buf_ struct buf out = {0};
		struct engine_error error = {0};
		int rc;

		put_bundle(&out, &rc, cases[i][0], &error);
		check_int(rc, -ENOTSUP);
		check(strstr(error.text, cases[i][1]) != NULL);
	}
}

int main(void)
{
	int rc;

	check(mkdtemp(base));
	rc = test_main((struct test[]){
	    TEST(a_name_is_a_file_a_cgroup_and_a_host_name),
	    TEST(the_hardware_address_follows_from_the_address),
	    TEST(a_record_comes_back_as_it_was_written),
	    TEST(another_process_with_the_same_pid_is_not_the_ve),
	    TEST(a_torn_or_foreign_record_is_refused),
	    TEST(a_bundle_gets_our_root_namespaces_and_no_cgroups),
	    TEST(what_cannot_move_is_refused_in_plain_words),
	    TEST(a_listed_directory_of_the_host_is_mounted_and_nothing_below_it_is),
	    TEST(what_may_be_mounted_is_named_by_plain_paths),
	    TEST(a_bundle_is_said_in_the_words_of_lxc),
	    TEST(what_lxc_cannot_do_is_refused_by_its_name),
	    TEST(an_archive_keeps_links_modes_and_whiteouts),
	    TEST(an_archive_cannot_write_outside_of_its_directory),
	    TEST(a_short_archive_is_an_error_not_a_short_tree),
	    TEST(criu_is_put_into_plain_words),
	    {0},
	});
	dir_remove(base);
	return rc;
}
