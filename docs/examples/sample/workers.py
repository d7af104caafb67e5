"""A program that uses ZooKeeper: workers that take jobs, each job once."""

from __future__ import annotations

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError


class Worker:
    def __init__(self, client: KazooClient, name: str) -> None:
        self.client = client
        self.name = name

    def join(self) -> None:
        """Be among the workers, as long as the session lives."""
        self.client.create(f"/workers/{self.name}", ephemeral=True, makepath=True)

    def take(self, job: str) -> bool:
        """Take a job, unless somebody has it."""
        try:
            self.client.retry(self.client.create, f"/jobs/{job}", self.name.encode(), makepath=True)
        except NodeExistsError:
            # Perhaps by an attempt of our own, whose answer was lost.
            owner, _ = self.client.get(f"/jobs/{job}")
            return owner == self.name.encode()
        return True
