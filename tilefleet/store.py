"""The object store: S3 or a directory behind one small face, by obstore.

The rules: a put is atomic; ``put_new`` creates or says that the key was there (first writer wins); a key that is not
there raises NotFound; every other failure is one of ours with the URL in it. Nothing else in tilefleet touches obstore.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, ObjectStore, S3Store

from tilefleet import aws, causes, skew
from tilefleet.config import StoreSection
from tilefleet.credentials import LAB_IS_OVER, LOOK_S, AccessDenied, ClockIsWrong, CredentialsExpired, Withheld, renewal
from tilefleet.errors import BadInput, DoesNotFit, NotAllowed, NotFound, TilefleetError, Unreachable
from tilefleet.replacing import write_whole

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential

Buffer = Any  # bytes, memoryview, obstore.Bytes, uint8 ndarray: what has the buffer protocol

_INVALID = ("External AWS credential provider", "ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken")
_FULL = ("os error 28", "os error 122", "No space left", "Disk quota exceeded")
_OBSTORE_MARGIN_S = 300.0  # min_ttl of object_store's TokenCache: credentials that end sooner are asked for again
DELETE_AT_ONCE = 1000  # S3 DeleteObjects limit
SAID_CHARACTERS = 200  # of what a service or a codec says, in a sentence of ours
TOLD_CHARACTERS = 400  # of a refusal, which names who may not do what to which resource

# One call survives a hiccup, by 3 tries within about 2 s. What lasts longer is for ``backoff.persist``, which can be told to
# stop and whose waits are logged; obstore alone would go on for 3 minutes.
_RETRIES: Any = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=1), "base": 2},
}


class Entry(NamedTuple):
    """An object: its key relative to the store it was found in, its length and when it was written (UTC seconds)."""

    key: str
    size_bytes: int
    modified_at: float


class Store:
    """Objects under one URL. Keys are relative to it; all methods but the constructor are coroutines."""

    def __init__(self, backend: ObjectStore, url: str, prefix: str = "") -> None:
        self._backend = backend
        self._prefix = prefix
        self.url = url

    def __repr__(self) -> str:
        return f"Store({self.url})"

    @property
    def backend(self) -> ObjectStore:
        """For zarr-python, which reads foreign arrays through it."""
        return self._backend

    @property
    def prefix(self) -> str:
        """Where this store is rooted in its backend; empty for the top."""
        return self._prefix

    def at(self, key: str) -> Store:
        """The same store, rooted at a prefix."""
        return Store(self._backend, self.url_of(key), self._full(key))

    def url_of(self, key: str) -> str:
        """URL of a key, as messages carry it."""
        escaped = quote(key) if self.url.startswith("file:") else key
        return f"{self.url.rstrip('/')}/{escaped}" if key else self.url

    def shown(self, key: str) -> str:
        """A key as people know it: local ones as paths."""
        return shown(self.url_of(key))

    def path(self, key: str) -> Path | None:
        """Where a key lies on this machine's disk; None in S3."""
        self._full(key)  # raises for what is no key
        return path_of(self.url_of(key)) if self.url.startswith("file:") else None

    async def get(self, key: str) -> Buffer:
        """The whole object. Raises NotFound."""
        with self._errors(key):
            answer = await obstore.get_async(self._backend, self._full(key))
            return await answer.bytes_async()

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        """Bytes [start, end), cut at the end of the object. Raises NotFound, and BadInput when start is beyond the end."""
        if end <= start:
            return b""
        with self._errors(key):
            return await obstore.get_range_async(self._backend, self._full(key), start=start, end=end)

    async def get_ranges(self, key: str, starts: list[int], ends: list[int]) -> list[Buffer]:
        """Several ranges of one object; neighbouring ones are fetched together."""
        with self._errors(key):
            return list(await obstore.get_ranges_async(self._backend, self._full(key), starts=starts, ends=ends))

    async def put(self, key: str, data: Buffer) -> None:
        """Create or replace an object, atomically."""
        with self._errors(key):
            if (path := self.path(key)) is not None:
                await asyncio.to_thread(write_whole, path, data)
            else:
                await obstore.put_async(self._backend, self._full(key), data, use_multipart=False)

    async def put_new(self, key: str, data: Buffer) -> bool:
        """Create an object, atomically. False, and no change, when the key was there."""
        with self._errors(key):
            try:
                await obstore.put_async(self._backend, self._full(key), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    async def put_stream(self, key: str, pieces: AsyncIterator[Buffer]) -> None:
        """Create or replace a large object from pieces, in bounded memory (a multi-part upload)."""
        with self._errors(key):
            await obstore.put_async(self._backend, self._full(key), pieces)

    async def head(self, key: str) -> Entry | None:
        """Length and age of an object; None when it is not there."""
        try:
            with self._errors(key):
                meta = await obstore.head_async(self._backend, self._full(key))
        except NotFound:
            return None
        except (NotAllowed, Unreachable):
            await self._explain(key)
            raise
        return Entry(key, meta["size"], meta["last_modified"].timestamp())

    async def _explain(self, key: str) -> None:
        """Raise what a GET says of a request that was refused: the answer to a HEAD has no text."""
        try:
            await self.get_range(key, 0, 1)
        except Withheld:
            raise
        except TilefleetError:
            return

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Objects whose key begins with the whole path segments of ``prefix``, in no particular order."""
        with self._errors(prefix):
            async for batch in obstore.list(self._backend, self._full(prefix) or None, chunk_size=1000):
                for meta in batch:
                    yield Entry(self._relative(meta["path"]), meta["size"], meta["last_modified"].timestamp())

    async def folders(self, prefix: str) -> list[str]:
        """Names of the path segments that follow a prefix and have keys below them, without listing those."""
        with self._errors(prefix):
            found = await obstore.list_with_delimiter_async(self._backend, self._full(prefix) or None)
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in found["common_prefixes"]]

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        full = [self._full(key) for key in keys]
        for start in range(0, len(full), DELETE_AT_ONCE):
            with self._errors(""):
                try:
                    await obstore.delete_async(self._backend, full[start : start + DELETE_AT_ONCE])
                except (NotFoundError, FileNotFoundError):
                    await self._delete_singly(full[start : start + DELETE_AT_ONCE])

    async def delete_prefix(self, prefix: str) -> int:
        """Remove everything below a prefix; how many objects that were. A directory goes with its empty folders."""
        keys = [entry.key async for entry in self.entries(prefix)]
        await self.delete(keys)
        if prefix and self.url.startswith("file:"):
            await asyncio.to_thread(shutil.rmtree, path_of(self.url_of(prefix)), ignore_errors=True)
        return len(keys)

    async def _delete_singly(self, full_keys: list[str]) -> None:
        for key in full_keys:
            try:
                await obstore.delete_async(self._backend, key)
            except (NotFoundError, FileNotFoundError):
                continue

    def _full(self, key: str) -> str:
        if ".." in key.split("/"):
            raise BadInput(f"{key!r} is not a key: '..' is not allowed in it")
        return f"{self._prefix}/{key}".strip("/") if key else self._prefix

    def _relative(self, full_key: str) -> str:
        return full_key[len(self._prefix) :].lstrip("/")

    @contextmanager
    def _errors(self, key: str) -> Any:
        try:
            yield
        except TilefleetError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise translated(error, self.shown(key)) from error


class Stores:
    """Opens URLs: one backend per bucket, so that connections are shared."""

    def __init__(self, settings: StoreSection) -> None:
        self._settings = settings
        self._buckets: dict[str, ObjectStore] = {}

    def open(self, url: str) -> Store:
        """The store rooted at ``s3://bucket/prefix`` or ``file:///directory``. Raises BadInput for another URL."""
        with suppress(ValueError):  # such as a "[" where a host stands, or a NUL in a path
            parts = urlsplit(url, allow_fragments=False)
            if parts.scheme == "s3" and parts.netloc:
                return Store(self._bucket(parts.netloc), url, url.removeprefix(f"s3://{parts.netloc}").strip("/"))
            if parts.scheme == "file" and not parts.netloc:
                path = path_of(url)
                return Store(self._directory(), file_url(path), str(path).strip("/"))
        raise BadInput(f"{url!r} is not a place tilefleet knows; write a local path, s3://bucket/key or file:///path")

    def locate(self, url: str) -> tuple[Store, str]:
        """The store of the directory above a URL, and its last segment as the key: for single files."""
        if not _is_utf8(url):
            raise BadInput(f"{url!r} has a name that is not UTF-8; rename it")
        above, _, name = url.rstrip("/").rpartition("/")
        return self.open(above + ("/" if above in ("file://", "file:") else "")), unquote(name) if url.startswith(
            "file:"
        ) else name

    def _bucket(self, bucket: str) -> ObjectStore:
        if bucket not in self._buckets:
            self._buckets[bucket] = _s3(bucket, self._settings)
        return self._buckets[bucket]

    def _directory(self) -> ObjectStore:
        if "" not in self._buckets:
            self._buckets[""] = LocalStore("/", automatic_cleanup=False)
        return self._buckets[""]


def file_url(path: Path) -> str:
    """``file:///…`` of a local path, made absolute (symbolic links followed), percent-encoded. Raises BadInput for a name that is
    not UTF-8."""
    try:
        return "file://" + quote(str(path.resolve()))
    except UnicodeEncodeError as error:
        raise BadInput(f"{str(path)!r} has a name that is not UTF-8; rename it") from error


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def path_of(url: str) -> Path:
    """The local path of a ``file:///`` URL."""
    return Path(unquote(url.removeprefix("file://")))


def shown(url: str) -> str:
    """A URL as people know it: local ones as paths."""
    return str(path_of(url)) if url.startswith("file:") else url


def _s3(bucket: str, settings: StoreSection) -> ObjectStore:
    region = aws.region_of(settings.region)
    endpoint = settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    extra: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    return S3Store(
        bucket,
        region=region,
        virtual_hosted_style_request=not endpoint,
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=settings.timeout.s)},
        credential_provider=_CredentialProvider(region),
        retry_config=_RETRIES,
        **extra,
    )


class _CredentialProvider:
    """Credentials as obstore asks for them: before a request, when those it has end in ``_OBSTORE_MARGIN_S`` or less."""

    def __init__(self, region: str) -> None:
        self.config: S3Config = {"region": region}
        self._credentials = aws.credentials("the store")

    def __call__(self) -> S3Credential:
        frozen = self._credentials.get_frozen_credentials()
        ends = datetime.now(UTC) + timedelta(seconds=_OBSTORE_MARGIN_S + LOOK_S)  # it comes back after that second
        return {
            "access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "token": frozen.token, "expires_at": ends
        }  # fmt: skip


def is_of_store(error: Exception) -> bool:
    """True for a failure of obstore or of the operating system, as against one of a decoder (gzip's have no errno)."""
    return isinstance(error, BaseError) or (isinstance(error, OSError) and error.errno is not None)


def translated(error: Exception, url: str) -> TilefleetError:  # noqa: PLR0911  one line per kind of failure
    """One of our errors for a failure of obstore or of the file system at ``url`` (or a path)."""
    text = str(error)
    if isinstance(error, ValueError) or "Filenames containing trailing" in text:  # obstore keeps "name#1" for itself
        return BadInput(f"{url!r} has a character that names in the store must not have; rename it")
    if "NoSuchBucket" in text:
        return NotFound(f"the bucket of {url} does not exist; create it or name another")
    if isinstance(error, (NotFoundError, FileNotFoundError, NotADirectoryError)) or "os error 20)" in text:  # 20: no directory
        return NotFound(f"there is no {url}")
    if skew.is_of_clock(text):
        return ClockIsWrong(skew.sentence(f"the store of {url}", text))
    if any(code in text for code in (*_INVALID, LAB_IS_OVER)):
        return CredentialsExpired(f"the store refused the AWS credentials for {url} (wrong or expired); {renewal()}")
    if isinstance(error, UnauthenticatedError) or "SignatureDoesNotMatch" in text:
        return NotAllowed(f"the store refused the credentials for {url} (absent or wrong); mend them and try again")
    if isinstance(error, (PermissionDeniedError, PermissionError)) or "status code: 403" in text:
        kind = AccessDenied if url.startswith("s3:") else NotAllowed
        return kind(f"no permission for {url}{_told(text)}; check its owner and mode, or the IAM policy of these credentials")
    if any(sign in text for sign in _FULL):
        return DoesNotFit(f"the disk that holds {url} is full, or its quota; free space there or choose another place")
    if "invalid range" in text.lower() or "InvalidRange" in text or "status code: 416" in text:
        return BadInput(f"{url} is shorter than it should be; it was truncated or changed")
    return Unreachable(f"the store did not complete a request for {url}: {causes.local(error) or said(error)}")


def _told(text: str) -> str:
    """S3's own words for a refusal, which name the action and the policy that is missing; empty for others."""
    found = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    return f" ({' '.join(found[1].split())[:TOLD_CHARACTERS]})" if found else ""


def said(error: Exception) -> str:
    """What an error says, as much as people can use: its first line without XML or HTML, at most 200 characters."""
    first_line = next(iter(str(error).strip().splitlines()), "").partition("<")[0].rstrip(" :-")
    text = first_line or type(error).__name__
    return text if len(text) <= SAID_CHARACTERS else f"{text[: SAID_CHARACTERS - 1]}…"


async def settle() -> None:
    """Wait until obstore's threads have let go of the event loop. Daemons and commands end their main coroutine with it.

    Its last wake-up of the loop comes a moment after an answer; an interpreter that finalises just then aborts.
    """
    await asyncio.sleep(0.05)  # 20 ms have been enough on an idle machine
