/*
 * The store is killed, or its disk fails, at every single step of a put, a removal and a
 * collection: what was acknowledged is whole afterwards, nothing half is to be seen, and nothing
 * is left lying about.
 */
#include "gdn/store/test-store.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

struct trap {
	int left; /* operations until it springs */
	int code; /* what then fails with, 0: the process ends */
	char trace[4096];
};

static int spring(void *arg, enum disk_op op, const char *path)
{
	static const char letters[] = "wfrxc";
	struct trap *trap = arg;
	size_t length = strlen(trap->trace);

	(void)path;
	if (length + 1 < sizeof(trap->trace))
		trap->trace[length] = letters[op];
	if (trap->left-- > 0)
		return 0;
	if (trap->code == 0)
		_exit(99);
	return trap->code;
}

static struct store *open_with(struct trap *trap)
{
	struct store *store = NULL;

	check_int(store_open(&store,
		      &(struct store_config){
			  .path = test_path("store"), .disk = {.before = spring, .arg = trap}},
		      NULL),
	    0);
	return store;
}

/* Puts b, removes a, collects; returns 0 or the first error. */
static int work(struct trap *trap)
{
	struct store *store = open_with(trap);
	struct put_request request = {
	    .path = test_path("b"), .key = test_key, .tag = "", .kind = ""};
	struct put_result result;
	struct gc_result gc;
	struct id a;
	int r = store_put(store, &request, &result, NULL);

	if (r == 0) {
		test_write(test_path("acknowledged"), result.oid.bytes, ID_SIZE);
		request.path = test_path("a");
		check(store_put(store, &request, &result, NULL) <= 0);
		a = result.oid;
		r = store_rm(store, &a, NULL, NULL);
		r = r < 0 ? r : store_gc(store, &gc, NULL);
	}
	store_close(store);
	return r;
}

static void start_over(struct id *a)
{
	struct store *store;

	test_clear(test_path("store"));
	unlink(test_path("acknowledged"));
	store = test_open("store");
	*a = test_put(store, test_path("a"), test_key);
	store_close(store);
}

static int gather(void *arg, const struct object_row *row)
{
	struct id *ids = arg;

	for (int i = 0; i < 2; i++)
		if (id_equal(&ids[i], &(struct id){0})) {
			ids[i] = row->oid;
			return 0;
		}
	return -E2BIG;
}

/* Whatever is listed is whole and right; what was acknowledged is listed; nothing else lies there. */
static void look_after(const struct id *a, const char *what, int step)
{
	struct store *store = test_open("store");
	struct id ids[2] = {0};
	struct index_totals totals;
	bool acknowledged = access(test_path("acknowledged"), F_OK) == 0, has_b = false;

	check_int(store_each(store, gather, ids), 0);
	for (int i = 0; i < 2; i++) {
		bool is_a = id_equal(&ids[i], a);

		if (id_equal(&ids[i], &(struct id){0}))
			continue;
		if (test_get(store, &ids[i], test_key, NULL) < 0 ||
		    !test_same(test_path(is_a ? "a" : "b"), test_path("out"))) {
			printf("# %s at step %d\n", what, step);
			check(false);
		}
		has_b = has_b || !is_a;
	}
	check(has_b || !acknowledged);
	check(acknowledged || id_equal(&ids[0], a) || id_equal(&ids[1], a));
	check_int(store_totals(store, &totals), 0);
	check_int(test_pack_count("store"), totals.packs);
	store_close(store);
}

static int run_to_the_end(void)
{
	struct trap trap = {.left = INT_MAX};
	struct id a;

	start_over(&a);
	check_int(work(&trap), 0);
	return INT_MAX - trap.left;
}

static void a_kill_at_any_step_loses_nothing_acknowledged(void)
{
	int steps = run_to_the_end();

	check(steps > 10);
	for (int step = 0; step < steps; step++) {
		struct id a;
		pid_t child;
		int status;

		start_over(&a);
		child = fork();
		if (child == 0) {
			struct trap trap = {.left = step};

			work(&trap);
			_exit(0);
		}
		check(waitpid(child, &status, 0) == child);
		check_int(WEXITSTATUS(status), 99);
		look_after(&a, "killed", step);
	}
	printf("# %d kill points\n", steps);
}

static void an_error_of_the_disk_at_any_step_loses_nothing_acknowledged(void)
{
	static const int codes[] = {-EIO, -ENOSPC};
	int steps = run_to_the_end();

	for (int step = 0; step < steps; step++)
		for (int i = 0; i < 2; i++) {
			struct trap trap = {.left = step, .code = codes[i]};
			struct id a;

			start_over(&a);
			work(&trap);
			look_after(&a, "failed", step);
		}
}

/* kill -9 keeps the page cache; that a power cut is survived as well hangs on this order. */
static void a_pack_is_durable_before_the_commit_that_needs_it(void)
{
	struct trap trap = {.left = INT_MAX};
	struct store *store;
	const char *rename_at;

	test_clear(test_path("store"));
	store = open_with(&trap);
	test_put(store, test_path("a"), test_key);
	rename_at = strchr(trap.trace, 'r');
	printf("# %s\n", trap.trace);
	check(rename_at && rename_at > trap.trace && rename_at[-1] == 'f');
	check(rename_at[1] == 'f' && rename_at[2] == 'c');
	check(!strchr(trap.trace, 'x'));
	store_close(store);
}

/* A real full disk: a tmpfs of 8 MiB in a mount namespace of its own. */
static void a_full_disk_is_told_and_leaves_earlier_objects_whole(void)
{
	struct fault fault = {0};
	struct put_request request = {.path = test_path("large"), .tag = "", .kind = ""};
	struct put_result result;
	struct store *store;
	struct gc_result gc;
	struct id oid;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("# not allowed to mount: skipped\n");
		return;
	}
	test_image(test_path("large"), 24 << 20, 8);
	mkdir(test_path("full"), 0700);
	check_int(mount("tmpfs", test_path("full"), "tmpfs", 0, "size=8m"), 0);
	for (int reserve = 0; reserve <= 1 << 20; reserve += 1 << 20) {
		memset(&fault, 0, sizeof(fault));
		check_int(store_open(&store,
			      &(struct store_config){
				  .path = test_path("full/store"), .reserve = (uint64_t)reserve},
			      NULL),
		    0);
		oid = test_put(store, test_path("a"), NULL);
		check_int(store_put(store, &request, &result, &fault), -ENOSPC);
		printf("# %s\n", fault.text);
		check(strstr(fault.text, "disk full") || strstr(fault.text, "No space left"));
		check_int(test_get(store, &oid, NULL, NULL), 0);
		check(test_same(test_path("a"), test_path("out")));
		test_put(store, test_path("b"), NULL);
		check_int(store_rm(store, &oid, NULL, NULL), 1);
		check_int(store_gc(store, &gc, NULL), 0);
		store_close(store);
	}
	check_int(umount(test_path("full")), 0);
}

int main(void)
{
	test_begin();
	test_image(test_path("a"), 600000, 1);
	test_image(test_path("b"), 700000, 2);
	return test_main((struct test[]){
	    TEST(a_kill_at_any_step_loses_nothing_acknowledged),
	    TEST(an_error_of_the_disk_at_any_step_loses_nothing_acknowledged),
	    TEST(a_pack_is_durable_before_the_commit_that_needs_it),
	    TEST(a_full_disk_is_told_and_leaves_earlier_objects_whole),
	    {0},
	});
}
