"""Runs on a node, at its first boot, by itself: writes the node's public SSH host keys into the store.

The rules: only Python's own library of version 3.9 and up (cloud-init is written in Python: it is on every image); nothing
secret is written or printed; what is there already is never replaced. The node's role signs the request
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html): curl does it only in newer versions.

Arguments: URL of the place in S3 that the instance's id is added to, region, URL of the metadata service, seconds to try.
"""

from __future__ import annotations

import glob
import hashlib
import hmac
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

HOST_KEYS = "/etc/ssh/ssh_host_*_key.pub"
PAUSE_S = 3.0
TIMEOUT_S = 5.0


def host_keys(pattern: str) -> bytes:
    """Kind and key of each public host key, without its comment."""
    lines = []
    for path in sorted(glob.glob(pattern)):  # noqa: PTH207 - pathlib cannot glob an absolute pattern
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            lines.append(" ".join(file.read().split()[:2]))
    return "".join(f"{line}\n" for line in lines).encode()


def metadata(url: str, path: str) -> str:
    """An item of the instance's metadata, by IMDSv2."""
    ask = urllib.request.Request(  # noqa: S310
        f"{url}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(ask, timeout=TIMEOUT_S) as answer:
        token = answer.read().decode()
    ask = urllib.request.Request(f"{url}/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": token})  # noqa: S310
    with opener.open(ask, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode())


def signed(url: str, region: str, body: bytes, role: dict[str, str], at: str) -> urllib.request.Request:
    """A PUT that creates an object, signed by AWS's version 4 at a time such as ``20261122T210000Z``."""
    parts = urllib.parse.urlsplit(url)
    headers = {
        "host": parts.netloc,
        "if-none-match": "*",
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-amz-date": at,
        "x-amz-security-token": role["Token"],
    }
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = "\n".join(["PUT", urllib.parse.quote(parts.path), "", lines, names, headers["x-amz-content-sha256"]])
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + role["SecretAccessKey"].encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    given = f"AWS4-HMAC-SHA256 Credential={role['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
    sent = {name: value for name, value in headers.items() if name != "host"} | {"Content-Type": "text/plain"}
    return urllib.request.Request(  # noqa: S310
        parts._replace(path=urllib.parse.quote(parts.path)).geturl(),
        data=body,
        method="PUT",
        headers={**sent, "Authorization": given},
    )


def publish(place: str, region: str, metadata_url: str, pattern: str = HOST_KEYS) -> None:
    """One try. Raises OSError (of which HTTP errors are), ValueError or KeyError when something is not ready."""
    keys = host_keys(pattern)
    if not keys:
        raise OSError(f"there is no {pattern} yet")
    name = metadata(metadata_url, "iam/security-credentials/").split()[0]
    role = json.loads(metadata(metadata_url, f"iam/security-credentials/{name}"))
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    request = signed(f"{place}/{metadata(metadata_url, 'instance-id')}", region, keys, role, at)
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 412:  # 412: a try before this one got through
            raise


def main() -> int:
    """Try until it is done or the time is over."""
    place, region, metadata_url, for_s = sys.argv[1:5]
    end = time.monotonic() + float(for_s)
    while True:
        try:
            publish(place, region, metadata_url, *sys.argv[5:])
        except (OSError, ValueError, KeyError, IndexError) as error:
            sys.stderr.write(f"tilefleet: the host keys are not published yet: {error!r}\n")
            if time.monotonic() > end:
                return 1
            time.sleep(PAUSE_S)
        else:
            return 0


if __name__ == "__main__":
    sys.exit(main())
