"""What AWS says of a wrong clock, as people read it."""

from __future__ import annotations

import pytest

from tests.unit.test_aws import answer, translated
from tilefleet import skew
from tilefleet.credentials import ClockIsWrong

OF_S3 = (
    "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large."
    "</Message><RequestTime>{}</RequestTime><ServerTime>{}</ServerTime></Error>"
)
OF_SQS = "Signature {} (20260301T120000Z {} 5 min.)"


@pytest.mark.parametrize(
    ("text", "by"),
    [
        (OF_S3.format("20260301T121000Z", "2026-03-01T12:00:00Z"), " (10 minutes fast)"),
        (OF_S3.format("20260228T233000Z", "2026-03-01T00:00:00Z"), " (30 minutes slow)"),
        (OF_SQS.format("expired: 20260301T115000Z is now earlier than 20260301T115500Z", "-"), " (10 minutes slow)"),
        (OF_SQS.format("not yet current: 20260301T121000Z is still later than 20260301T120500Z", "+"), " (10 minutes fast)"),
        (OF_SQS.format("expired: then is now earlier than now", "-"), ""),
        (OF_S3.format("20269901T121000Z", "2026-03-01T12:00:00Z"), ""),
        ("RequestTimeTooSkewed", ""),
    ],
)  # fmt: skip
def test_it_says_by_how_much_when_aws_does(text: str, by: str) -> None:
    assert skew.is_of_clock(text)
    assert skew.sentence("S3", text).startswith(f"the clock of this machine is wrong{by}, so S3 refuses what it signs; mend it")


def test_a_signature_that_is_wrong_for_another_reason_is_not_of_the_clock() -> None:
    assert not skew.is_of_clock("The request signature we calculated does not match the signature you provided.")


def test_an_answer_of_sqs_is_recognised_by_its_text() -> None:
    said = OF_SQS.format("expired: 20260301T115000Z is now earlier than 20260301T115500Z", "-")
    error = translated(answer("InvalidSignatureException", said, 403))
    assert type(error) is ClockIsWrong
    assert "10 minutes slow" in str(error)
