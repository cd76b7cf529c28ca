"""How AWS says no, word for word: S3 in XML, SQS in JSON.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from aiohttp import web

SKEW_ALLOWED_S = 300.0  # of SQS; S3 allows 900, and our answers are the same for both
_STAMP = "%Y%m%dT%H%M%SZ"
_WHO = "User: arn:aws:sts::123456789012:assumed-role/tests/i-0 is not authorized to perform"


def unavailable(request: web.Request) -> web.Response:
    return _answer(request, 503, "ServiceUnavailable", "hurt")


def internal_error(request: web.Request) -> web.Response:
    return _answer(request, 500, "InternalError", "hurt")


def throttled(request: web.Request) -> web.Response:
    return _answer(request, 400, "ThrottlingException", "hurt") if _is_sqs(request) else _answer(request, 503, "SlowDown", "hurt")


def denied(request: web.Request) -> web.Response:
    if _is_sqs(request):
        action = "sqs:" + request.headers["X-Amz-Target"].rpartition(".")[2].lower()
        return _answer(request, 400, "com.amazon.coral.service#AccessDeniedException", _not_authorized(action, "arn:aws:sqs:x"))
    action = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "DELETE": "s3:DeleteObject"}.get(request.method, "s3:PutObject")
    return _answer(request, 403, "AccessDenied", _not_authorized(action, f"arn:aws:s3:::{request.path.lstrip('/')}"))


def skewed(request: web.Request) -> web.Response:
    """Real ones have the Date of AWS, too; so have these: aiohttp's server adds it."""
    signed, now, allowed = _signed_at(request), datetime.now(UTC), timedelta(seconds=SKEW_ALLOWED_S)
    if _is_sqs(request):
        is_early = signed < now
        bound, sign = (now - allowed, "-") if is_early else (now + allowed, "+")
        how = "Signature expired: {} is now earlier than" if is_early else "Signature not yet current: {} is still later than"
        text = f"{how.format(f'{signed:{_STAMP}}')} {bound:{_STAMP}} ({now:{_STAMP}} {sign} {SKEW_ALLOWED_S // 60:.0f} min.)"
        return _answer(request, 403, "com.amazon.coral.service#InvalidSignatureException", text)
    more = (
        f"<RequestTime>{signed:{_STAMP}}</RequestTime><ServerTime>{now:%Y-%m-%dT%H:%M:%SZ}</ServerTime>"
        f"<MaxAllowedSkewMilliseconds>{1000 * SKEW_ALLOWED_S:.0f}</MaxAllowedSkewMilliseconds>"
    )
    text = "The difference between the request time and the current time is too large."
    return _answer(request, 403, "RequestTimeTooSkewed", text, more)


def skew_s(request: web.Request) -> float:
    """By how much the clock that signed it is fast; 0 for what is not signed."""
    return (_signed_at(request) - datetime.now(UTC)).total_seconds() if "X-Amz-Date" in request.headers else 0.0


def _signed_at(request: web.Request) -> datetime:
    return datetime.strptime(request.headers["X-Amz-Date"], _STAMP).replace(tzinfo=UTC)


def _not_authorized(action: str, resource: str) -> str:
    return f"{_WHO}: {action} on resource: {resource} because no identity-based policy allows the {action} action"


def _answer(request: web.Request, status: int, code: str, text: str, more: str = "") -> web.Response:
    if _is_sqs(request):
        body = json.dumps({"__type": code, "message": text}).encode()
        status = 500 if status == 503 else status
        return web.Response(status=status, body=body, content_type="application/x-amz-json-1.0")
    xml = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{text}</Message>{more}</Error>"
    return web.Response(status=status, body=b"" if request.method == "HEAD" else xml.encode(), content_type="application/xml")


def _is_sqs(request: web.Request) -> bool:
    return "X-Amz-Target" in request.headers
