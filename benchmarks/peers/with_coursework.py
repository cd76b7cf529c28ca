"""The coursework's method, built again: the master sends pairs of tiles as JSON in SQS messages, workers send products back as
JSON, and the master adds them up. Without its faults: nothing is deleted before it was computed, and no queue is in order.

`python -m benchmarks.peers.with_coursework` is one of its workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import product
from typing import Any

import numpy as np

from benchmarks.peers.contract import Step, Told
from benchmarks.peers.opening import create_array, open_array

TILE = 200  # a product of two, as text, is the largest that a message of 256 KiB takes
N_WORKERS = 2
WAIT_S = 20
MOST_SILENCE_S = 60.0
JOBS, RESULTS = "coursework-jobs", "coursework-results"


class WithCoursework:
    """The master, and the processes of its workers."""

    def warm(self) -> None:
        self._sqs = client()
        self._jobs, self._results = (self._sqs.create_queue(QueueName=name)["QueueUrl"] for name in (JOBS, RESULTS))
        self._workers = [subprocess.Popen([sys.executable, "-m", __name__], stdout=sys.stderr) for _ in range(N_WORKERS)]
        ones = np.ones((TILE, N_WORKERS * TILE), np.int64)
        self._multiply(ones, ones.T)

    def do(self, step: Step) -> Told:
        result = self._multiply(open_array(step.a)[:], open_array(step.b)[:])
        create_array(step.out, result.shape, result.dtype)[:] = result
        return Told()

    def _multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        result = np.zeros((a.shape[0], b.shape[1]), a.dtype)
        places = list(product(*(range(0, length, TILE) for length in (*a.shape, b.shape[1]))))
        for row, k, col in places:
            tiles = {"a": tile(a, row, k).tolist(), "b": tile(b, k, col).tolist(), "at": [row, col]}
            self._sqs.send_message(QueueUrl=self._jobs, MessageBody=text(tiles))
        n_missing, heard = len(places), time.monotonic()
        while n_missing:
            for document in take(self._sqs, self._results):
                (row, col), part = document["at"], np.array(document["product"], a.dtype)
                result[row : row + part.shape[0], col : col + part.shape[1]] += part
                n_missing, heard = n_missing - 1, time.monotonic()
            if time.monotonic() - heard > MOST_SILENCE_S:
                raise TimeoutError(f"{n_missing} products are missing")
        return result

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        for worker in self._workers:
            worker.terminate()
            worker.wait()


def tile(matrix: np.ndarray, row: int, col: int) -> np.ndarray:
    return matrix[row : row + TILE, col : col + TILE]


def text(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def client() -> Any:
    import boto3

    return boto3.client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL_SQS"])


def take(sqs: Any, queue: str, most: int = 10) -> list[dict[str, Any]]:
    """What there is in a queue, which is then deleted."""
    found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=most, WaitTimeSeconds=WAIT_S).get("Messages", [])
    for message in found:
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return [json.loads(message["Body"]) for message in found]


def work() -> None:
    """Multiply pairs of tiles, one after the other, until told to end."""
    sqs = client()
    jobs, results = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in (JOBS, RESULTS))
    while True:
        found = sqs.receive_message(QueueUrl=jobs, MaxNumberOfMessages=1, WaitTimeSeconds=WAIT_S).get("Messages", [])
        for message in found:
            job = json.loads(message["Body"])
            part = np.array(job["a"]) @ np.array(job["b"])
            sqs.send_message(QueueUrl=results, MessageBody=text({"at": job["at"], "product": part.tolist()}))
            sqs.delete_message(QueueUrl=jobs, ReceiptHandle=message["ReceiptHandle"])


def make(_name: str, _options: dict[str, Any]) -> WithCoursework:
    return WithCoursework()


if __name__ == "__main__":
    work()
