"""A clock that is wrong, as AWS tells of it: a request that was signed at another time than AWS's own is refused.

S3 allows 15 minutes and says both times in XML (RequestTimeTooSkewed); SQS allows 5 and says them in a sentence (Signature
expired, Signature not yet current). Neither botocore nor obstore signs again by AWS's time.
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import re
from datetime import datetime

_SIGNS = ("RequestTimeTooSkewed", "Signature expired", "Signature not yet current")
_OF_S3 = re.compile(r"<RequestTime>(.*?)</RequestTime>.*<ServerTime>(.*?)</ServerTime>", re.DOTALL)
_OF_SQS = re.compile(r"(\w+) is .*\((\w+)")


def is_of_clock(text: str) -> bool:
    """Whether AWS refused a request for the time at which it was signed."""
    return any(sign in text for sign in _SIGNS)


def sentence(what: str, text: str) -> str:
    """What to tell people. ``what`` refused; ``text`` is what it said."""
    return (
        f"the clock of this machine is wrong{_by(text)}, so {what} refuses what it signs; mend it with 'timedatectl set-ntp true'"
    )


def _by(text: str) -> str:
    found = _OF_S3.search(text) or _OF_SQS.search(text)
    if found is None:
        return ""
    try:
        ours, theirs = (datetime.fromisoformat(stamp) for stamp in found.groups())
    except ValueError:
        return ""
    minutes = (ours - theirs).total_seconds() / 60
    return f" ({abs(minutes):.0f} minutes {'fast' if minutes > 0 else 'slow'})"
