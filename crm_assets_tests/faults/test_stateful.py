"""Anything may happen on both sides and in between, in any order; when it goes quiet, the ends agree."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stamina
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from crm_assets_tests.faults.verdict import quiet
from crm_assets_tests.faults.world import World, live
from crm_assets_tests.plugins.linked import CREDENTIALS
from crm_assets_tests.plugins.postgres import new_database
from crm_assets_tests.plugins.sandbox import MakeSandbox
from crm_assets_tests.plugins.telling import Tell

PRODUCT = (
    *("product inserts", "product inserts with a reference", "product refers"),
    *(*["product updates"] * 4, "product updates and keeps its transaction", "product deletes"),
)
CRM = (
    *("crm inserts", *["crm updates"] * 4, "crm refers", "crm deletes", "crm undeletes", "crm merges"),
    *("crm adds a field", "crm renames a field", "crm drops a field"),
)
BETWEEN = (
    *["product commits"] * 2,
    *["events arrive"] * 3,
    *["time passes"] * 2,
    *["drain"] * 4,
    *["drain is killed"] * 2,
    *["drain is overtaken"] * 3,
    *["events are read"] * 2,
    "events are killed",
    "events are overtaken",
    "sync",
    "person decides",
)
ACTS = st.sampled_from(("product updates", *PRODUCT, *CRM, *BETWEEN))
"""Weighted, in one rule: hypothesis leaves out some rules of each history, and what matters here is the mixture. The
first history is the first act again and again: one hot record."""

MEANWHILE = (*PRODUCT[1:], *CRM[1:], *["drain"] * 3, *["events are read"] * 3)
FAULTS = (None, None, None, "429", "500", "503", "truncate", "partial_batch", "expired_token", "timeout_after")
_SYNCS = 3


def machine(world: World) -> type[RuleBasedStateMachine]:
    """The state machine over one world that is emptied for each example."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            world.begin()
            self.syncs = 0
            self.failed = False

        @initialize()
        def some_records_exist(self) -> None:
            self._do(world.insert)
            self._do(world.crm_insert)
            self._do(world.crm_insert)
            self._do(lambda: world.deliver(world.hints))
            self._do(lambda: self._process(0).run(world.read_events))

        @rule(act=ACTS, number=st.integers(0, 2**20))
        def something_happens(self, act: str, number: int) -> None:
            """``number`` decides who, when and how: a history of drawn values would be too long to be generated."""
            chance = random.Random(number)
            which, other, at, flag = (
                chance.randrange(6),
                chance.randrange(6),
                chance.randint(1, 30),
                chance.random() < 0.5,
            )
            columns = tuple(chance.sample(sorted(world.fields), chance.choice((1, 1, 2, 3))))
            fault, meanwhile = chance.choice(FAULTS), chance.choice(MEANWHILE)
            process, record = self._process(other), self._record(which)

            def besides() -> None:
                if meanwhile == "drain":
                    self._process(other + 1).run(world.drain)
                elif meanwhile == "events are read":
                    self._process(other + 1).run(world.read_events)
                else:
                    self._user(meanwhile, record, self._record(other), columns)

            def between() -> None:
                match act:
                    case "product commits":
                        world.end_transaction()
                    case "events arrive":
                        # In any order, all of them twice, the last one never.
                        hints, world.hints = world.hints, []
                        chance.shuffle(hints)
                        world.deliver((hints[:-1] if flag else hints) * 2)
                    case "time passes":
                        world.time_passes()
                    case "drain":
                        if fault is not None:
                            path = "/composite" if fault in ("partial_batch", "timeout_after") else "/data"
                            world.sandbox.faults({"kind": fault, "path": path, "nth": 1 + at % 3})
                        process.run(world.drain)
                    case "drain is killed":
                        process.run(world.drain, at)
                    case "drain is overtaken":
                        process.run(world.drain, at, besides)
                    case "events are read":
                        process.run(world.read_events)
                    case "events are killed":
                        process.run(world.read_events, at)
                    case "events are overtaken":
                        process.run(world.read_events, at, besides)
                    case "sync" if self.syncs < _SYNCS:
                        self.syncs += 1
                        process.run(lambda p: world.sync(p, "full" if flag else "incremental"), at if at < 15 else 0)
                    case "person decides":
                        world.decide("crm" if flag else "product")

            if act in BETWEEN:
                self._do(between)
            else:
                self._do(lambda: self._user(act, record, self._record(other), columns))

        def _user(self, act: str, record: Any, other: Any, columns: tuple[str, ...]) -> None:
            match act:
                case "product inserts":
                    world.insert()
                case "product inserts with a reference":
                    world.insert(record)
                case "product refers":
                    world.refer(record, other)
                case "product updates":
                    world.update(record, columns)
                case "product updates and keeps its transaction":
                    world.update(record, columns, held=True)
                case "product deletes":
                    world.delete(record)
                case "crm inserts":
                    world.crm_insert()
                case "crm updates":
                    world.crm_update(record, columns)
                case "crm deletes":
                    world.crm_delete(record)
                case "crm undeletes":
                    world.crm_undelete(record)
                case "crm merges":
                    world.crm_merge(record, other)
                case "crm refers":
                    world.crm_refer(record, other)
                case "crm adds a field":
                    world.crm_reshape("add")
                case "crm renames a field":
                    world.crm_reshape("rename")
                case "crm drops a field":
                    world.crm_reshape("drop")

        def _do(self, act: Callable[[], object]) -> None:
            world.steps += 1
            try:
                act()
            except BaseException:
                self.failed = True
                raise

        def _record(self, which: int) -> Any:
            return world.records[which % len(world.records)]

        def _process(self, number: int) -> Any:
            return world.processes[number % len(world.processes)]

        def teardown(self) -> None:
            if not self.failed:
                quiet(world, "crm" if world.steps % 2 else "product")

    return Machine


@pytest.fixture
def world(
    postgres: Any, make_sandbox: MakeSandbox, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    for variable in CREDENTIALS.values():
        monkeypatch.setenv(variable, "sandbox")
    stamina.set_testing(True, attempts=3)
    with new_database(postgres) as url:
        writer = postgres.url("writer", url.rpartition("/")[2])
        yield from live(make_sandbox(rows=0), url, writer, tmp_path_factory.mktemp("home"))
    stamina.set_testing(False)


def _run(world: World, histories: int, *, number: int | None = None) -> None:
    """Play so many histories, the same ones each time; ``number`` chooses others."""
    played = machine(world)
    run_state_machine_as_test(
        played if number is None else seed(number)(played),
        settings=settings(
            max_examples=histories,
            stateful_step_count=150,
            derandomize=number is None,
            database=None,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            # The clocks of the database and of the CRM go on, so that a history does not fail at will: to make it
            # shorter takes minutes and seldom works.
            phases=[Phase.generate],
        ),
    )


@pytest.mark.timeout(900)
def test_whatever_happens_the_ends_agree_when_it_is_quiet(world: World, tell: Tell) -> None:
    _run(world, 14)
    tell(f"{world.steps} steps in {world.histories} histories")


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_whatever_happens_for_hours_the_ends_agree_when_it_is_quiet(world: World, tell: Tell) -> None:
    """``MINUTES``, of the environment, says for how long."""
    until = time.monotonic() + 60 * float(os.environ.get("MINUTES", "120"))
    numbers: list[int] = []
    while time.monotonic() < until:
        number = random.randrange(2**32)
        numbers.append(number)
        try:
            _run(world, 20, number=number)
        except BaseException as error:
            error.add_note(f"number={number}, after {world.steps} steps in {world.histories} histories")
            raise
    tell(f"{world.steps} steps in {world.histories} histories, number={numbers}")
