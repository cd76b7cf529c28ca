"""The real coordinator against the wire protocol of SQS and a directory store; the test is client and worker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aioboto3
import msgspec
import pytest

from coordinator.runtime.dead_letters import UNTAKEN
from coordinator.runtime.leadership import Leader
from tests.conftest import Server
from tests.integration.coordinator_process import ME, Scene, scene
from tilefleet import layout
from tilefleet.errors import ErrorInfo
from tilefleet.messages import Cancel, Job, JobFailed, Publish, encode
from tilefleet.records import DeadLetter, from_json, to_json


@pytest.fixture
async def here(tmp_path: Path, fleet: str, moto_server: Server) -> AsyncIterator[Scene]:
    async with scene(tmp_path, fleet, moto_server.endpoint_url) as made:
        yield made


async def started(here: Scene) -> None:
    """A coordinator that leads and knows one worker."""
    here.start()
    await here.leads(1)
    await here.hello()


async def test_an_operation_from_its_record_to_its_end(here: Scene) -> None:
    await started(here)
    record = await here.submit()
    first = await here.take(3)
    assert {job.stage for job in first} == {"random"}
    assert all((job.fleet, job.epoch, job.attempt) == (here.fleet, 1, 0) for job in first)
    status = await here.state(record.id, "running")
    assert [(stage.name, stage.n_jobs, stage.n_done) for stage in status.stages] == [("random", 8, 0), ("publish", 1, 0)]
    await here.do(*first)
    await here.work_off(5)
    (publish,) = await here.take(1)
    assert isinstance(publish.work, Publish)
    await here.do(publish)
    status = await here.state(record.id, "done")
    assert status.totals.jobs == status.totals.attempts == 9
    assert status.totals.bytes_written == 90
    assert status.workers == (ME[0],)
    assert status.result is not None
    assert status.result.url == f"{here.url}/matrices/{record.id}"
    assert status.expires_at is not None
    assert {"plan", "compute", "commit", "total"} <= set(status.phases_s)
    await here.closed(record.id)
    kept = [entry.key async for entry in here.store.entries(layout.result(record.id))]
    assert len(kept) == 8, "the result stays"
    assert [entry async for entry in here.store.entries(layout.facts(record.id, "publish"))] == []


async def test_a_restart_goes_on_with_what_lies_in_the_store(here: Scene) -> None:
    await started(here)
    record = await here.submit()
    done = (await here.take(3))[:2]
    for job in done:
        await here.commit(job)  # committed, but nobody was told
    here.processes[0].send_signal(signal.SIGKILL)
    await here.exit_status(here.processes[0])
    here.start()
    await here.leads(2)
    await here.hello()
    again = await here.work_off(7)
    assert {job.index for job in again[:6]} == set(range(8)) - {job.index for job in done}
    assert again[6].stage == "publish"
    status = await here.state(record.id, "done")
    assert (status.epoch, status.stages[0].n_done) == (2, 8)


def failure(here: Scene, job: Job, error: ErrorInfo, *, is_retryable: bool) -> JobFailed:
    """What a worker says of an attempt that came to nothing."""
    return JobFailed(here.fleet, *ME, job.operation, job.stage, job.index, job.attempt, error, is_retryable)


async def test_a_failed_job_is_sent_again_and_then_fails_its_operation_by_name(here: Scene) -> None:
    await started(here)
    record = await here.submit(shape=(256, 256))
    for attempt in range(4):
        (job,) = await here.take(1)
        assert job.attempt == attempt
        error = ErrorInfo("unreachable", "the store was away")
        await here.tell(
            here.queues.completions, failure(here, job, error, is_retryable=True)
        )  # fmt: skip
    status = await here.state(record.id, "failed")
    assert status.error is not None
    assert status.error.sentence.startswith(f"job random[0] of operation {record.id} was given up after 4 attempts: ")


async def test_bad_input_found_by_a_worker_fails_the_operation_at_once(here: Scene) -> None:
    await started(here)
    record = await here.submit(shape=(256, 256))
    (job,) = await here.take(1)
    error = ErrorInfo("bad_input", "row 7 is odd")
    await here.tell(here.queues.completions, failure(here, job, error, is_retryable=False))
    status = await here.state(record.id, "failed")
    assert status.error == error
    await here.closed(record.id)
    assert await here.store.head(layout.record(record.id)) is not None


async def test_a_lost_queue_is_made_again_and_its_jobs_are_sent_again(here: Scene) -> None:
    await started(here)
    record = await here.submit()
    (first,) = await here.take(1)
    await here.until(lambda: _holds(here, 2))
    await _delete_jobs_queue(here)
    await here.do(first)  # whereupon the next is to be sent
    await here.until(lambda: _said(here, "queues_restored"))
    again = await here.work_off(1)
    while again[-1].stage != "publish":  # a job whose message was under way may come twice
        again += await here.work_off(1)
    assert all(job.attempt == 0 for job in again), "nobody had tried"
    assert {job.index for job in again if job.stage == "random"} == set(range(8)) - {first.index}
    await here.state(record.id, "done")


async def _holds(here: Scene, count: int) -> bool:
    return (await here.queues.jobs.count())[0] >= count


async def _delete_jobs_queue(here: Scene) -> None:
    async with aioboto3.Session().client("sqs", endpoint_url=here.endpoint_url, region_name="us-east-1") as client:
        found = await client.get_queue_url(QueueName=here.queues.jobs.name)
        await client.delete_queue(QueueUrl=found["QueueUrl"])


async def test_messages_nobody_can_read_go_aside_with_a_reason(here: Scene) -> None:
    await started(here)
    await here.queues.operations.send(["{broken", json.dumps({"type": "submit", "v": 99, "fleet": here.fleet, "operation": "x"})])
    await here.queues.completions.send([encode(Cancel(here.fleet, "0123456789ab")), json.dumps({"type": "nonsense"})])
    await here.tell(here.queues.operations, Cancel("another-fleet", "0123456789ab"))
    letters = await here.until(lambda: _letters(here, 5))
    assert all(letter.reason for letter in letters)
    await here.tell(here.queues.dead(here.queues.operations), Cancel(here.fleet, "0123456789ab"))  # as SQS puts it there
    untaken = [letter for letter in await here.until(lambda: _letters(here, 6)) if letter.operation]
    assert [letter.reason for letter in untaken] == [UNTAKEN]
    assert any("another-fleet" in letter.reason for letter in letters)
    queues = [here.queues.dead(queue).name for queue in (here.queues.operations, here.queues.completions)]
    assert sorted(letter.queue for letter in letters) == sorted([queues[0]] * 3 + [queues[1]] * 2)
    record = await here.submit()
    await here.state(record.id, "running")


async def _letters(here: Scene, count: int) -> list[DeadLetter] | None:
    keys = [entry.key async for entry in here.store.entries(layout.DEAD)]
    found = [from_json(bytes(await here.store.get(key)), DeadLetter, key) for key in keys]
    return found if len(found) >= count else None


async def test_a_job_that_every_worker_let_lie_is_given_up_by_name_after_its_attempts(here: Scene) -> None:
    await started(here)
    record = await here.submit(shape=(256, 256))
    (job,) = await here.take(1)
    dead = here.queues.dead(here.queues.jobs)
    await here.tell(dead, msgspec.structs.replace(job, epoch=7))
    await dead.send(["this is no job"])
    await here.until(lambda: _said(here, "job_dead"))
    assert (await here.state(record.id, "running")).error is None, "of another epoch: the present attempt is still out"
    for attempt in range(1, 4):
        await here.tell(dead, job)
        (job,) = await here.take(1)
        assert job.attempt == attempt
    await here.tell(dead, job)
    status = await here.state(record.id, "failed")
    assert status.error is not None
    assert f"job random[0] of operation {record.id} was given up after 4 attempts: the queue gave it up" in status.error.sentence


async def _said(here: Scene, event: str) -> bool:
    return bool(here.said(event))


async def test_a_lost_message_is_made_up_for_by_the_inbox_and_so_is_a_lost_cancel(here: Scene) -> None:
    await started(here)
    record = await here.write()
    await here.state(record.id, "running")
    await here.store.put_new(layout.cancel(record.id), b"{}")
    await here.state(record.id, "cancelled")


async def test_a_cancelled_operation_leaves_nothing_but_its_record_and_status(here: Scene) -> None:
    await started(here)
    record = await here.submit()
    jobs = await here.take(3)
    await here.commit(jobs[0])
    await here.store.put_new(layout.cancel(record.id), b"{}")
    await here.tell(here.queues.operations, Cancel(here.fleet, record.id))
    await here.state(record.id, "cancelled")
    await here.do(*jobs)
    await here.closed(record.id)
    left = {entry.key.split("/")[2] async for entry in here.store.entries(layout.operation(record.id))}
    assert left == {"record.json", "cancel.json", "plan", "status"}
    assert [entry async for entry in here.store.entries(layout.result(record.id))] == []


async def test_a_record_nobody_can_read_ends_its_operation_and_no_other(here: Scene) -> None:
    await here.store.put(layout.open_mark("000000000000"), b"")
    await here.store.put(layout.record("000000000000"), b"{nonsense")
    await started(here)
    record = await here.submit()
    status = await here.state("000000000000", "failed")
    assert status.error is not None
    assert (status.error.code, "record.json" in status.error.sentence) == ("bad_input", True)
    await here.closed("000000000000")
    await here.state(record.id, "running")


@pytest.mark.thorough
async def test_a_stop_is_quick_and_the_next_leads_at_once(here: Scene) -> None:
    await started(here)
    second = here.start(here.config("c2"))
    await here.until(lambda: _stands_by(here))
    here.processes[0].send_signal(signal.SIGTERM)
    assert await here.exit_status(here.processes[0]) == 0
    assert (await here.leads(2)).leader.endswith(f":{second.pid}")
    second.send_signal(signal.SIGTERM)
    assert await here.exit_status(second) == 0


async def _stands_by(here: Scene) -> bool:
    return bool(here.said("standing_by", "c2"))


async def test_a_stand_by_takes_over_when_the_leader_is_killed(here: Scene) -> None:
    await started(here)
    second = here.start(here.config("c2"))
    await here.until(lambda: _stands_by(here))
    here.processes[0].send_signal(signal.SIGKILL)
    assert (await here.leads(2)).leader.endswith(f":{second.pid}")


@pytest.mark.thorough
async def test_a_leader_elsewhere_that_falls_silent_is_succeeded(here: Scene) -> None:
    await here.store.put_new(layout.leader(4), to_json(Leader("another-host", 1, 0.0)))
    here.start()
    await here.leads(5)
    assert here.said("standing_by")


async def test_a_leader_that_was_overtaken_steps_down(here: Scene) -> None:
    await started(here)
    await here.store.put_new(layout.leader(2), to_json(Leader("another-host", 1, 0.0)))
    await here.until(lambda: _said(here, "stepped_down"))
    await here.leads(3)
    assert here.processes[0].poll() is None, "it stands by, and leads again when the other falls silent"


async def test_hangup_takes_the_configuration_again_and_a_broken_one_changes_nothing(here: Scene) -> None:
    await started(here)
    path = here.config()
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[coordinator]", '[log]\nlevel = "debug"\n[coordinator]'), encoding="utf-8")
    os.kill(here.processes[0].pid, signal.SIGHUP)
    await here.until(lambda: _said(here, "reloaded"))
    path.write_text("[nonsense]", encoding="utf-8")
    os.kill(here.processes[0].pid, signal.SIGHUP)
    await here.until(lambda: _said(here, "reload_refused"))
    record = await here.submit(shape=(256, 256))
    await here.take(1)
    await here.state(record.id, "running")
    assert here.said("job_sent"), "debug lines are written"


@pytest.mark.parametrize("text", ["[coordinator]\njobs_per_worker = 0\n", '[fleet]\nkind = "local"\n'])
async def test_a_bad_configuration_is_refused_in_a_sentence(here: Scene, text: str) -> None:
    path = here.directory / "bad.toml"
    path.write_text(text, encoding="utf-8")
    assert await here.exit_status(here.start(path)) == 10
    log = path.with_suffix(".log").read_text(encoding="utf-8")
    assert log.startswith("coordinator: ")
    assert "bad.toml" in log
    assert "Traceback" not in log


async def test_a_store_that_is_away_for_a_while_is_survived(here: Scene) -> None:
    await started(here)
    record = await here.submit()
    jobs = await here.take(3)
    store, aside = here.directory / "store", here.directory / "aside"
    store.rename(aside)
    store.write_text("in the way", encoding="utf-8")
    for job in jobs:
        await here.say_done(job)
    await here.until(lambda: _said(here, "beacon_failed"))
    store.unlink()
    aside.rename(store)
    for job in jobs:
        await here.commit(job)
    await here.work_off(6)
    status = await here.state(record.id, "done")
    assert status.totals.jobs == 9
    assert here.processes[0].poll() is None


async def test_only_the_fleets_own_jobs_are_believed_to_be_dead(here: Scene) -> None:
    await started(here)
    record = await here.submit(shape=(256, 256))
    (job,) = await here.take(1)
    foreign: Job = msgspec.structs.replace(job, fleet="another-fleet")
    await here.tell(here.queues.dead(here.queues.jobs), foreign)
    await here.do(job)
    await here.do(*await here.take(1))
    await here.state(record.id, "done")
