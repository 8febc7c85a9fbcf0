/* A subscriber's own quorum; what takes a cluster is in test-gossipd.c. */
#include "gossipd/terms.h"

#include "common/test.h"

static void a_quorum_of_his_own_waits_for_the_observers_that_share_the_verdict(void)
{
	struct terms shared = {.quorum = 100};
	struct gossipd_status status = {.id = 5, .state = GOSSIPD_DEAD, .votes = 2, .observers = 3};

	terms_change(&shared, &status, mono_ms(1));
	check_int(status.state, GOSSIPD_SUSPECT);
	status =
	    (struct gossipd_status){.id = 5, .state = GOSSIPD_DEAD, .votes = 3, .observers = 3};
	terms_change(&shared, &status, mono_ms(2));
	check_int(status.state, GOSSIPD_DEAD);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_quorum_of_his_own_waits_for_the_observers_that_share_the_verdict),
	    {0},
	});
}
