"""What must hold of a history, however it came about. Pure functions: each takes a history and returns the violations that it found,
as text; an empty list is a pass.

All times are nanoseconds of one monotonic clock: the nodes are namespaces of one kernel. Of a request it is known that it was carried
out, if at all, between its invocation and each of its answers; so of two answers one is later for certain only if its request
was sent after the other had been received. That makes the checks indifferent to how long anybody was stopped: a stall makes
intervals longer, and longer intervals accuse less. (Jepsen's model of histories; Herlihy and Wing for the order.)
"""
import bisect
import dataclasses
import itertools


@dataclasses.dataclass(frozen=True)
class Answer:
    client: str
    number: int
    received: int
    count: int
    copy: int  # who answered; no two copies have the same number


@dataclasses.dataclass(frozen=True)
class Commit:
    """A checkpoint that somebody asked for and was told to be committed."""
    id: int
    epoch: int  # of the VE that is in it
    asked: int
    told: int


@dataclasses.dataclass(frozen=True)
class Heal:
    """A moment from which no fault was there."""
    at: int
    until: int  # the next fault, or the end
    after: str = ""  # what was healed


@dataclasses.dataclass
class History:
    invocations: dict = dataclasses.field(default_factory=dict)  # (client, number) -> when
    answers: list = dataclasses.field(default_factory=list)
    ghosts: list = dataclasses.field(default_factory=list)  # (client, when, text): not even of the right form
    epochs: dict = dataclasses.field(default_factory=dict)  # copy -> (node, epoch), as the node's ved noted it
    commits: list = dataclasses.field(default_factory=list)
    heals: list = dataclasses.field(default_factory=list)
    placements: list = dataclasses.field(default_factory=list)  # (epoch, from checkpoint) as events told
    failed_starts: set = dataclasses.field(default_factory=set)  # epochs of which a start or restore failed
    coordinators: list = dataclasses.field(default_factory=list)  # (cluster epoch, node)

    def invoked(self, answer):
        return self.invocations[answer.client, answer.number]

    def asked_for(self):
        """Answers that belong to a request."""
        return [answer for answer in self.answers if (answer.client, answer.number) in self.invocations]

    def epoch(self, copy):
        return self.epochs.get(copy, (None, None))[1]


def name(history, copy):
    node, epoch = history.epochs.get(copy, ("?", "?"))
    return f"copy {copy} ({node}, epoch {epoch})"


def turns(history):
    """copy -> (the first answer that was received of it, the last one whose request was sent)."""
    found = {}
    for answer in history.asked_for():
        first, last = found.get(answer.copy, (answer, answer))
        found[answer.copy] = (min(first, answer, key=lambda a: a.received), max(last, answer, key=history.invoked))
    return found


# ---- the checks ----


def single_runner(history):
    """Copies answer in turns. Once one was heard after another, the other is heard no more; an older epoch is never heard after a newer
    one; no epoch has two copies that are heard."""
    found, heard = [], turns(history)
    for one, other in itertools.permutations(heard, 2):
        (first_of_other, _), (_, last_of_one) = heard[other], heard[one]
        after = first_of_other.received < history.invoked(last_of_one)
        before = heard[one][0].received < history.invoked(heard[other][1])
        known = history.epoch(one) is not None and history.epoch(other) is not None
        if known and history.epoch(one) == history.epoch(other):
            if one < other:
                found.append(f"{name(history, one)} and {name(history, other)} answered under one epoch")
        elif after and (history.epoch(one) < history.epoch(other) if known else before and one < other):
            late_ms = (history.invoked(last_of_one) - first_of_other.received) / 1e6
            found.append(f"{name(history, one)} answered {last_of_one.client} a request that was sent {late_ms:.1f} ms after "
                         f"{first_of_other.client} had the first answer of {name(history, other)}")
    return found


def no_ghosts(history):
    """An answer is for a request that was sent before."""
    found = [f"{client} received {text!r} at {at}" for client, at, text in history.ghosts]
    for answer in history.answers:
        sent = history.invocations.get((answer.client, answer.number))
        if sent is None or sent > answer.received:
            found.append(f"{answer.client} received an answer to {answer.number} at {answer.received}, sent at {sent}")
    return found


def counts_grow(history):
    """A copy counts: a later request has a higher count, and no count answers two requests."""
    found = []
    for copy, answers in by_copy(history).items():
        owner = {}
        for answer in answers:
            request = answer.client, answer.number
            if owner.setdefault(answer.count, request) != request:
                found.append(f"{name(history, copy)} gave {answer.count} to {owner[answer.count]} and to {request}")
        found += goes_back(history, copy, answers)
    return found


def by_copy(history):
    found = {}
    for answer in history.asked_for():
        found.setdefault(answer.copy, []).append(answer)
    return found


def goes_back(history, copy, answers):
    """The highest count received before each request was sent must be below what it got."""
    received = sorted(answers, key=lambda a: a.received)
    highest, at = None, 0
    for answer in sorted(answers, key=history.invoked):
        while at < len(received) and received[at].received < history.invoked(answer):
            if highest is None or received[at].count > highest.count:
                highest = received[at]
            at += 1
        if highest and answer.count <= highest.count and (answer.client, answer.number) != (highest.client, highest.number):
            yield f"{name(history, copy)} answered {answer.count} to a request that was sent after {highest.count} had been received"


def keeps_what_was_committed(history):
    """A later epoch begins where the last committed checkpoint of an earlier one was, or after it: whoever had an answer before that
    checkpoint was asked for is in it. Placements that were told to be from an older one, after restores that failed, are not meant."""
    found, heard = [], {}
    for answer in history.asked_for():
        heard.setdefault(history.epoch(answer.copy), []).append(answer)
    heard.pop(None, None)
    lowest = {epoch: min(answers, key=lambda a: a.count) for epoch, answers in heard.items()}
    for answers in heard.values():
        answers.sort(key=lambda a: a.received)
    times = {epoch: [a.received for a in answers] for epoch, answers in heard.items()}
    highest = {epoch: list(itertools.accumulate((a.count for a in answers), max)) for epoch, answers in heard.items()}
    for commit in history.commits:
        before = bisect.bisect_left(times.get(commit.epoch, []), commit.asked)
        least = highest[commit.epoch][before - 1] if before else None
        for epoch, answer in lowest.items():
            if least is not None and epoch > commit.epoch and answer.count <= least and not set_aside(history, commit, epoch):
                found.append(f"epoch {epoch} answered {answer.count}, but checkpoint {commit.id:x} of epoch {commit.epoch} has at least {least}")
    return found


def set_aside(history, commit, epoch):
    """Was this checkpoint given up for that epoch, because an epoch between them had failed to start?"""
    older = any(placed > commit.epoch and placed <= epoch and checkpoint < commit.id for placed, checkpoint in history.placements)
    return older and any(commit.epoch < failed < epoch for failed in history.failed_starts)


def answers_again(history, bound_s=120):
    """Whenever no fault is there any more, somebody gets an answer within the bound, if there is that much time without a new one."""
    received = sorted((a.received, history.invoked(a)) for a in history.asked_for())
    found = []
    for heal in history.heals:
        end = heal.at + int(bound_s * 1e9)
        if not any(sent >= heal.at and at <= end for at, sent in received) and heal.until >= end:
            found.append(f"nobody got an answer within {bound_s} s of the end of {heal.after or 'a fault'} at {heal.at}")
    return found


def one_coordinator(history):
    """No epoch of the cluster has two coordinators."""
    nodes = {}
    for epoch, node in history.coordinators:
        nodes.setdefault(epoch, set()).add(node)
    return [f"epoch {epoch} has the coordinators {' and '.join(sorted(who))}" for epoch, who in sorted(nodes.items()) if len(who) > 1]


CHECKS = (single_runner, no_ghosts, counts_grow, keeps_what_was_committed, answers_again, one_coordinator)


def check(history, checks=CHECKS):
    """All violations, each with the name of its check."""
    return [f"{function.__name__}: {text}" for function in checks for text in function(history)]
