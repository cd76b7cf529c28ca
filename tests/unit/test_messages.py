"""Messages: golden files of every version ever sent, and refusal of what is not ours."""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.golden.examples import EXAMPLES, OP, decoded, encoded, job
from tilefleet import facts as f
from tilefleet import messages as m
from tilefleet.errors import BadInput
from tilefleet.matrix import MatrixRef, Rect

GOLDEN = Path(__file__).parent / "golden" / "v1"
KEYED_BY_DATA = {"phases_s", "names", "departed", "wrong_results"}
DECODERS = (m.decode_client, m.decode_job, m.decode_worker)


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_file_decodes_to_the_object_and_is_what_we_send(name: str) -> None:
    data = (GOLDEN / f"{name}.json").read_bytes()
    assert decoded(data, EXAMPLES[name]) == EXAMPLES[name]
    assert encoded(EXAMPLES[name]) == data


def test_every_golden_file_that_was_ever_sent_still_decodes() -> None:
    for path in GOLDEN.glob("*.json"):
        decoded(path.read_bytes(), EXAMPLES[path.name.split(".")[0]])


def test_golden_files_cover_every_kind_of_message_and_work() -> None:
    covered: set[object] = {type(example) for example in EXAMPLES.values()}
    covered |= {type(example.work) for example in EXAMPLES.values() if isinstance(example, m.Job)}
    covered |= {type(example.facts) for example in EXAMPLES.values() if isinstance(example, m.JobDone)}
    for union in (m.ClientMessage, m.Work, m.WorkerMessage, f.Facts):
        assert set(typing.get_args(union)) <= covered


def test_jobs_are_small() -> None:
    assert max(len(encoded(example)) for example in EXAMPLES.values() if isinstance(example, m.Job)) < 2048


@pytest.mark.parametrize("name", EXAMPLES)
def test_fields_from_the_future_are_ignored_wherever_they_stand(name: str) -> None:
    newer = with_a_new_field(json.loads(encoded(EXAMPLES[name])))
    assert decoded(json.dumps(newer).encode(), EXAMPLES[name]) == EXAMPLES[name]


def with_a_new_field(value: Any) -> Any:
    """The JSON value with one more field in each object that is a struct's; those whose keys are data keep them."""
    if isinstance(value, list):
        return [with_a_new_field(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: item if key in KEYED_BY_DATA else with_a_new_field(item) for key, item in value.items()}
    return inner | {"from_the_future": {"colour": "red"}}


@pytest.mark.parametrize(
    "body",
    ["", "nonsense", "[]", "null", "{}", '{"type":"submit"}', '{"type":"unknown","fleet":"f","v":1}', "[" * 100_000, "\ud800"],
)
def test_what_is_not_a_message_is_refused_in_a_sentence(body: str) -> None:
    for decode in DECODERS:
        with pytest.raises(BadInput, match="not a message of ours"):
            decode(body)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, -1])
def test_another_version_is_refused(version: object) -> None:
    message = json.loads(encoded(EXAMPLES["job-gemm"])) | {"v": version}
    with pytest.raises(BadInput, match=r"\$\.v"):
        m.decode_job(json.dumps(message))


@pytest.mark.parametrize("field", ["index", "attempt", "epoch", "peak_bytes"])
def test_a_job_counts_from_zero(field: str) -> None:
    message = json.loads(encoded(EXAMPLES["job-gemm"])) | {field: -1}
    with pytest.raises(BadInput, match=field):
        m.decode_job(json.dumps(message))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("submit", "operation", "../../etc"),
        ("cancel", "operation", "0123456789abc"),
        ("cancel", "operation", f"{OP}\n"),
        ("submit", "fleet", "Demo/../x"),
        ("job-gemm", "operation", "a/b"),
        ("job-gemm", "stage", "../facts"),
        ("job-gemm", "stage", "s" * 41),
        ("hello", "worker", "a b"),
        ("hello", "worker", "w" * 256),
        ("bye", "incarnation", "\x1b[2J"),
        ("heartbeat", "held", [["../../etc", "multiply", 0, 0]]),
        ("done", "operation", ""),
        ("failed", "stage", ""),
        ("record", "id", "../../etc"),
        ("status", "id", "LAST"),
        ("control", "cancelled", [".."]),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, field: str, value: object) -> None:
    message = json.loads(encoded(EXAMPLES[name]))
    assert field in message
    with pytest.raises(BadInput, match=rf"\$\.{field}"):
        decoded(json.dumps(message | {field: value}).encode(), EXAMPLES[name])


def test_a_job_is_named_by_operation_stage_and_index() -> None:
    assert job(m.Random(MatrixRef("s3://b/k", "zarr"), Rect(0, 1, 0, 1), "0", "1", 1)).key == (OP, "multiply", 12)


def test_a_message_larger_than_sqs_takes_is_refused() -> None:
    with pytest.raises(BadInput, match="over the 1048576 that SQS takes"):
        m.encode(m.Submit("f", "x" * m.MAX_MESSAGE_BYTES))


@pytest.mark.parametrize("not_finite", [float("nan"), float("inf")])
def test_a_residual_that_is_no_number_never_reads_as_unchecked(not_finite: float) -> None:
    done = msgspec.structs.replace(typing.cast("m.JobDone", EXAMPLES["done"]), check_worst=not_finite)
    received = m.decode_worker(m.encode(done))
    assert isinstance(received, m.JobDone)
    assert received.check_worst == sys.float_info.max
    facts = f.decode_facts(m.encode(f.CheckFacts(worst=not_finite)).encode())
    assert facts == f.CheckFacts(worst=sys.float_info.max)


@given(st.text() | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_text_crashes_a_decoder(body: str) -> None:
    for decode in DECODERS:
        with pytest.raises(BadInput):
            decode(body)


@given(
    st.sampled_from([name for name in EXAMPLES if name.startswith("job")]),
    st.data(),
)
def test_a_job_with_any_one_field_replaced_decodes_or_is_refused(name: str, data: st.DataObject) -> None:
    message = json.loads(encoded(EXAMPLES[name]))
    target = data.draw(st.sampled_from([message, message["work"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(
        st.none() | st.integers() | st.text() | st.lists(st.integers())
    )
    try:
        m.decode_job(json.dumps(message))
    except BadInput as error:
        assert "\n" not in str(error)
