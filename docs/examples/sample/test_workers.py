"""Tests of it, with a real ZooKeeper: pip install zktwisted kazoo pytest."""

from __future__ import annotations

from workers import Worker


def test_a_job_is_taken_once(zk_client):
    assert Worker(zk_client, "ann").take("dishes")
    assert not Worker(zk_client, "bob").take("dishes")


def test_an_answer_that_is_lost(zk_client, zk_server):
    ann = Worker(zk_client, "ann")
    zk_server.drop_on("create", "/jobs/dishes", answered=True)
    assert ann.take("dishes")


def test_a_worker_that_dies(zk_client, zk_make_client, zk_server):
    other = zk_make_client()
    Worker(other, "bob").join()
    zk_server.expire(other)
    assert zk_client.get_children("/workers") == []


def test_what_it_asks(zk_client, zk_server):
    ann = Worker(zk_client, "ann")
    ann.take("dishes")
    with zk_server.record() as asked:
        ann.take("laundry")
    assert [(request.op, request.path) for request in asked.requests] == [("create", "/jobs/laundry")]


def test_a_new_leader(zk_ensemble, zk_make_client):
    client = zk_make_client(hosts=zk_ensemble.hosts)
    ann = Worker(client, "ann")
    assert ann.take("dishes")
    zk_ensemble.new_leader()
    assert ann.take("laundry")
