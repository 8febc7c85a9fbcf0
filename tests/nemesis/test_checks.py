#!/usr/bin/env python3
"""Each check finds what it is for, in histories made by hand, and nothing in a good one."""
import sys
import unittest

sys.dont_write_bytecode = True
from checks import Answer, Commit, Heal, History, check, single_runner  # noqa: E402

OLD, NEW, THIRD = 100, 200, 300
S = 1000000000


class Made:
    """A history that is told line by line: who asked when, and who answered what when."""

    def __init__(self, epochs=((OLD, "n1", 1), (NEW, "n2", 2))):
        self.history = History(epochs={copy: (node, epoch) for copy, node, epoch in epochs})
        self.numbers = 0

    def ask(self, sent, received=None, count=None, copy=None, client="c"):
        self.numbers += 1
        self.history.invocations[client, self.numbers] = sent
        if received is not None:
            self.history.answers.append(Answer(client, self.numbers, received, count, copy))
        return self

    def again(self, received, count, copy, client="c"):
        """One more answer to the last request."""
        self.history.answers.append(Answer(client, self.numbers, received, count, copy))
        return self


def failover():
    """One fails at 50, the other goes on from a checkpoint; one request is never answered."""
    made = Made()
    made.ask(10, 11, 1, OLD).ask(20, 21, 2, OLD).ask(30, 31, 3, OLD).ask(40).ask(60, 61, 3, NEW).ask(70, 71, 4, NEW)
    made.history.commits.append(Commit(7, 1, 25, 28))
    made.history.coordinators += [(1, "n1"), (1, "n1"), (2, "n2")]
    made.history.heals.append(Heal(55, 1000 * S))
    return made


class Checks(unittest.TestCase):
    def assert_found(self, made, by):
        found = check(made.history)
        self.assertTrue(found, "nothing was found")
        self.assertEqual({text.partition(":")[0] for text in found}, {by}, found)

    def assert_good(self, made):
        self.assertEqual(check(made.history), [])

    def test_a_failover_to_the_last_checkpoint_is_good(self):
        self.assert_good(failover())

    def test_an_empty_history_is_good(self):
        self.assert_good(Made())

    def test_an_older_epoch_that_answers_after_a_newer_one_is_found(self):
        self.assert_found(failover().ask(80, 81, 4, OLD), "single_runner")

    def test_an_older_epoch_that_answers_another_client_is_found(self):
        self.assert_found(failover().ask(62, 63, 4, OLD, client="d"), "single_runner")

    def test_an_older_epoch_that_starts_after_a_newer_one_is_found(self):
        made = Made(((NEW, "n2", 2), (THIRD, "n1", 1)))
        self.assert_found(made.ask(10, 11, 1, NEW).ask(20, 21, 5, THIRD), "single_runner")

    def test_answers_that_may_have_been_in_the_right_order_are_good(self):
        self.assert_good(failover().ask(59, 90, 4, OLD))

    def test_copies_whose_epoch_nobody_knows_must_answer_in_turns(self):
        made = Made(()).ask(10, 11, 1, OLD).ask(20, 21, 1, NEW)
        self.assert_good(made)
        self.assert_found(made.ask(30, 31, 2, OLD), "single_runner")

    def test_two_copies_of_one_epoch_are_found(self):
        made = Made(((OLD, "n1", 1), (NEW, "n2", 1)))
        self.assert_found(made.ask(10, 11, 1, OLD).ask(20, 21, 2, NEW), "single_runner")

    def test_the_violation_names_nodes_epochs_and_how_late_it_was(self):
        text = single_runner(failover().ask(61 + 5000000, 62 + 5000000, 4, OLD).history)[0]
        for word in ("n1, epoch 1", "n2, epoch 2", "5.0 ms"):
            self.assertIn(word, text)

    def test_an_answer_that_nobody_asked_for_is_found(self):
        made = failover()
        made.history.answers.append(Answer("c", 99, 75, 5, NEW))
        self.assert_found(made, "no_ghosts")

    def test_an_answer_that_came_before_the_question_is_found(self):
        self.assert_found(failover().ask(80, 79, 5, NEW), "no_ghosts")

    def test_words_that_are_no_answer_are_found(self):
        made = failover()
        made.history.ghosts.append(("c", 75, "hello"))
        self.assert_found(made, "no_ghosts")

    def test_a_count_that_goes_back_within_a_copy_is_found(self):
        self.assert_found(failover().ask(80, 81, 4 - 1, NEW), "counts_grow")

    def test_a_count_that_two_requests_got_is_found(self):
        self.assert_found(failover().ask(69, 72, 4, NEW, client="d"), "counts_grow")

    def test_requests_at_one_time_may_be_counted_in_any_order(self):
        self.assert_good(failover().ask(80, 85, 6, NEW).ask(81, 84, 5, NEW, client="d"))

    def test_an_answer_that_comes_twice_is_good(self):
        self.assert_good(failover().ask(80, 81, 5, NEW).again(82, 5, NEW))

    def test_a_state_from_before_the_last_checkpoint_is_found(self):
        made = failover()
        made.history.commits.append(Commit(9, 1, 35, 38))  # has the third count
        self.assert_found(made, "keeps_what_was_committed")

    def test_a_checkpoint_may_lack_what_was_counted_after_it_was_asked_for(self):
        made = failover()
        made.history.commits.append(Commit(9, 1, 29, 48))
        self.assert_good(made)

    def test_a_checkpoint_that_was_set_aside_is_not_meant_but_only_after_a_failed_start(self):
        made = failover()
        made.history.epochs[NEW] = ("n2", 3)
        made.history.commits.append(Commit(9, 1, 35, 38))
        made.history.placements += [(2, 9), (3, 7)]
        self.assert_found(made, "keeps_what_was_committed")
        made.history.failed_starts.add(2)
        self.assert_good(made)

    def test_silence_after_the_faults_is_found(self):
        made = failover()
        made.history.heals.append(Heal(100, 121 * S))
        self.assert_found(made, "answers_again")

    def test_an_answer_to_what_was_asked_before_the_end_of_the_fault_does_not_count(self):
        made = failover().ask(80, 110, 5, NEW)
        made.history.heals.append(Heal(100, 121 * S))
        self.assert_found(made, "answers_again")

    def test_silence_is_good_when_the_next_fault_comes_soon(self):
        made = failover()
        made.history.heals.append(Heal(100, 100 * S))
        self.assert_good(made)

    def test_two_coordinators_of_one_epoch_are_found(self):
        made = failover()
        made.history.coordinators.append((2, "n3"))
        self.assert_found(made, "one_coordinator")


if __name__ == "__main__":
    unittest.main()
