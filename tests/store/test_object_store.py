"""What an object store needs besides: chains for files that grow, a lease for the lock."""

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import s3
import synthetic

from pyloric_db.errors import DatabaseError
from pyloric_db.query import database
from pyloric_db.store import bucket, lease
from pyloric_db.store.create import check_target
from pyloric_db.store.files import files_at
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.lock import build_lock
from pyloric_db.store.verify import verify


def another(url) -> bucket.Bucket:
    """The same files as another process sees them."""
    files = files_at(url)
    return bucket.Bucket(files.place, files._bucket, files._prefix)


def lines(start, stop) -> list[bytes]:
    return [f'{{"line":{i}}}\n'.encode() for i in range(start, stop)]


@pytest.fixture
def small_links(monkeypatch):
    monkeypatch.setattr(bucket, "LINK_BYTES", 64)


def test_a_chain_reads_as_one_file(url, small_links):
    files = files_at(url)
    for line in lines(0, 40):
        files.append("ledger.jsonl", line)
    assert another(url).read_lines("ledger.jsonl") == b"".join(lines(0, 40))
    assert len(list(files._list("ledger/"))) > 5
    assert list(files.names()) == ["ledger.jsonl"]  # the chain is part of it
    files.replace_lines("ledger.jsonl", b"".join(lines(7, 9)))
    assert list(files._list("ledger/")) == []
    files.append("ledger.jsonl", lines(9, 10)[0])
    assert another(url).read_lines("ledger.jsonl") == b"".join(lines(7, 10))


def test_two_writers_lose_no_line(url, small_links):
    """A worker stores the cells while the coordinator has an object of its own."""
    writers = [another(url) for _ in range(4)]

    def write(i):
        for line in lines(100 * i, 100 * i + 12):
            writers[i].append("ledger.jsonl", line)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = another(url).read_lines("ledger.jsonl").splitlines(keepends=True)
    assert sorted(found) == sorted(b for i in range(4) for b in lines(100 * i, 100 * i + 12))


def test_a_rewriting_that_is_killed_brings_nothing_old_back(url, small_links):
    files = files_at(url)
    for line in lines(0, 30):
        files.append("ledger.jsonl", line)
    chain = files._chain("ledger.jsonl")
    for cut in range(len(chain)):
        # as `replace_lines` goes: the whole, then the chain from its beginning
        files.write({"ledger.jsonl": b"".join(lines(50, 53))})
        files.remove(chain[cut])
        assert another(url).read_lines("ledger.jsonl") == b"".join(lines(50, 53))
    files = another(url)
    files.remove_leftovers()  # as every build begins
    files.append("ledger.jsonl", lines(53, 54)[0])
    assert another(url).read_lines("ledger.jsonl") == b"".join(lines(50, 54))


def test_a_stale_writer_does_not_overwrite_what_came_after(url, small_links):
    old, new = another(url), another(url)
    for line in lines(0, 12):
        old.append("ledger.jsonl", line)
    new.replace_lines("ledger.jsonl", b"".join(lines(20, 22)))
    for line in lines(22, 30):
        new.append("ledger.jsonl", line)
    old.append("ledger.jsonl", lines(90, 91)[0])
    found = another(url).read_lines("ledger.jsonl").splitlines(keepends=True)
    assert sorted(found) == sorted(lines(20, 30) + lines(90, 91))


def test_a_reader_during_a_build_sees_whole_rows(url, small_links):
    stop = threading.Event()
    seen = []

    def read():
        files = another(url)
        while not stop.is_set():
            seen.append(files.read_lines("ledger.jsonl").splitlines(keepends=True))

    reader = threading.Thread(target=read)
    reader.start()
    files = files_at(url)
    for i, line in enumerate(lines(0, 60)):
        files.append("ledger.jsonl", line)
        if i % 20 == 19:
            files.replace_lines("ledger.jsonl", b"".join(lines(0, i + 1)))
    stop.set()
    reader.join()
    expected = lines(0, 60)
    assert len(seen) > 3
    for found in seen:
        # while it is being made one object a row may be there twice, but none is missing or torn
        assert list(dict.fromkeys(found)) == expected[: len(set(found))]


# the lease


def locked_by(url, **changes) -> None:
    content = json.loads(lease._content("another")) | changes
    files_at(url).write({"build.lock": json.dumps(content).encode()})


def test_a_holder_on_another_machine_is_believed_until_its_lease_runs_out(url, monkeypatch):
    locked_by(url, machine="another", holder="process 7 on elsewhere")
    with (
        pytest.raises(DatabaseError, match="is being built by process 7 on elsewhere"),
        build_lock(url),
    ):
        pass
    assert files_at(url).builder() == "process 7 on elsewhere"
    monkeypatch.setattr(lease, "LEASE_S", -1.0)
    assert files_at(url).builder() is None
    with build_lock(url):
        pass
    assert list(files_at(url).names()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"holder": 7}'])
def test_a_lock_that_says_nonsense_is_still_a_lock(url, content):
    files_at(url).write({"build.lock": content})
    with pytest.raises(DatabaseError, match="built by another process$"), build_lock(url):
        pass


def test_a_lease_is_renewed_and_one_that_was_taken_over_stops_the_build(url, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.02)
    files = files_at(url)
    manifest = synthetic.build(url, shards=[0])
    with build_lock(url):
        first = files.read("build.lock")
        while files.read("build.lock") == first:
            pass
        Ledger(url).record(synthetic.write(url, manifest, 1))
        locked_by(url, machine="another")
        with pytest.raises(DatabaseError, match="taken over by another build"):
            while True:
                Ledger(url).record(synthetic.write(url, manifest, 2))
    assert files.exists("build.lock")  # it is the other's


def test_a_write_whose_answer_is_lost_does_not_lose_the_lease(url, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.02)
    files, written = files_at(url), []
    put_if = files.put_if

    def unheard(name, data, e_tag):
        tag = put_if(name, data, e_tag)
        if tag is not None:
            written.append(data)
        if len(written) == 1 and tag:
            return None  # the library tried again, and found it changed
        if len(written) == 3 and tag:
            raise OSError("connection reset")
        return tag

    monkeypatch.setattr(files, "put_if", unheard)
    with build_lock(url):
        while len(written) < 6:
            files.check_lock()
    assert not files.exists("build.lock")


def test_a_lease_that_was_taken_over_and_let_go_of_is_lost(url, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.02)
    files = files_at(url)
    with build_lock(url):
        files.remove("build.lock")
        with pytest.raises(DatabaseError, match="taken over by another build"):
            while True:
                files.check_lock()
        assert not files.exists("build.lock")  # it is not taken back
    assert list(files.names()) == []


def test_a_lock_that_is_let_go_of_while_it_is_looked_at_is_taken(url, monkeypatch):
    locked_by(url, machine="another", holder="process 7 on elsewhere")
    files = files_at(url)
    read = files.read_tagged

    def too_late(name):
        monkeypatch.setattr(files, "read_tagged", read)
        files.remove(name)
        return read(name)

    monkeypatch.setattr(files, "read_tagged", too_late)
    with build_lock(url):
        assert files.builder() == f"process {os.getpid()} on {socket.gethostname()}"
    assert list(files.names()) == []


def test_of_many_who_take_over_one_wins(url):
    locked_by(url, pid=2**30)  # of this machine, and dead
    barrier = threading.Barrier(6)
    held, refused = [], []

    def take(i):
        barrier.wait()
        try:
            with lease.held_lease(another(url)):
                held.append(i)
                done.wait()
        except DatabaseError:
            refused.append(i)
            if len(refused) == 5:
                done.set()

    done = threading.Event()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(take, range(6)))
    assert len(held) == 1 and len(refused) == 5


# URLs


NO_URL = "must be a directory or a URL such as s3://bucket/name$"
NO_NAME = "whose names behind the bucket are letters, digits and"


@pytest.mark.parametrize(
    "wrong, why",
    [("gs://b/x", NO_URL), ("http://example.com/x", NO_URL), ("s3:/bucket/x", NO_URL),
     ("s3://bucket/../x", NO_NAME), ("s3://bucket//x", NO_NAME), ("s3://bucket/a?b", NO_NAME),
     ("s3://bucket/a\nb", NO_NAME), ("s3://bucket/%2e%2e/x", NO_NAME),
     *((f"s3://{name}{rest}", f"bucket '{name}', but the name of one is 3 to 63 small letters")
       for name in ("", "b", "my_bucket", "MyBucket", "-bucket", "b" * 64)
       for rest in ("", "/y"))],
)  # fmt: skip
def test_other_urls_are_refused(wrong, why):
    for ask in (verify, database.open):
        with pytest.raises(DatabaseError, match=why) as caught:
            ask(wrong)
        assert "\n" not in str(caught.value) or "\n" in wrong


def test_what_is_not_there_is_one_sentence(url, object_store):
    for ask in (verify, database.open):
        with pytest.raises(DatabaseError, match="is empty: it holds no database"):
            ask(url)
        with pytest.raises(DatabaseError, match="bucket does not exist"):
            ask("s3://no-such-bucket/db")
    with pytest.raises(DatabaseError, match="bucket does not exist"):
        check_target(Ledger("s3://no-such-bucket/db"), synthetic.make_manifest())
    files_at(url).write({"thesis.tex": b"x"})
    with pytest.raises(DatabaseError, match=r"not empty .*thesis\.tex"):
        check_target(Ledger(url), synthetic.make_manifest())


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)  # cannot be imported
    with pytest.raises(DatabaseError, match="needs obstore: .* with the extra 's3'"):
        files_at("s3://bucket/never-asked-for")


def test_credentials_that_are_not_there_are_asked_for(url, object_store, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    # a machine without a role, in place of minutes of waiting for one
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", object_store["AWS_ENDPOINT_URL"] + "/none")
    with pytest.raises(OSError):
        another(url).top_names()
    error = Exception("Error performing PUT http://169.254.169.254/latest/api/token: denied")
    assert bucket._sentence(error).startswith("no credentials: set AWS_ACCESS_KEY_ID")


def test_questions_have_the_same_answers(pristine, url):
    s3.upload(pristine[0], url)
    here, there = database.open(pristine[0]), database.open(url)
    assert there.path == url and there.complete
    assert there.circuits.load().identical(here.circuits.load())
    assert there.query("pyloric and lp > 0").identical(here.query("pyloric and lp > 0"))
    assert there.sql("select count(*) from circuits").equals(
        here.sql("select count(*) from circuits")
    )
    assert there.states([47, 3]).identical(here.states([47, 3]))
    assert there.states().load().identical(here.states().load())
    assert there.parameters([5]).identical(here.parameters([5]))
    assert there.cells().identical(here.cells())
    files_at(url).remove("features/part-000001.parquet")
    with pytest.raises(DatabaseError, match=r"part-000001\.parquet is missing"):
        database.open(url)


def test_sql_reaches_nothing_else(pristine, url):
    from pyloric_db.errors import QueryError

    s3.upload(pristine[0], url)
    db = database.open(url)
    for text in (
        f"select * from read_parquet('{url}/cells.parquet')",
        "select * from read_parquet('dir://cells.parquet')",
        "select * from read_text('dir://database.json')",
        "select * from '/etc/passwd'",
        "copy circuits to 'dir://x.parquet'",
    ):
        with pytest.raises(QueryError):
            db.sql(text)


def test_a_holder_that_nobody_has_waited_for_is_dead():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as holder:
        content = {"pid": holder.pid, "machine": lease._machine()}
        assert not lease._has_died(content)
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert lease._has_died(content)
    assert lease._has_died(content)
