"""Downloads from a server that goes wrong: each fault is survived or named, nothing is half."""

import random
import re
import resource
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.core.errors import DataError
from segbench.datasets.download.client import Client
from segbench.datasets.download.digests import Expected, digests_of
from segbench.datasets.download.transfer import Policy, fetch
from tests.datasets.fault_server import (
    LOGIN_PAGE,
    PLAIN_PAGE,
    FaultServer,
    content,
    cut,
    dribble,
    dribbled_headers,
    healthy,
    lying_length,
    page,
    redirect,
    silent,
    status,
    without_length,
    wrong_range,
)

DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
PATH = "/camvid/data.bin"
QUICK = Policy(attempts=3, gain_bytes=1000, backoff_s=0.01, timeout_s=0.4, window_s=0.3)


@pytest.fixture
def server():
    with FaultServer({PATH: DATA}) as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "archives" / "data.bin"


def digest_of(data, tmp_path, algorithm="sha256"):
    file = tmp_path / "for_digest"
    file.write_bytes(data)
    return f"{algorithm}:{digests_of(file, frozenset({algorithm}), '')[algorithm]}"


@pytest.fixture
def expected(tmp_path):
    return Expected(len(DATA), digest_of(DATA, tmp_path), "the publisher")


def get(server, target, expected=None, *, policy=QUICK, urls=None):
    target.parent.mkdir(exist_ok=True)
    client = Client(timeout_s=policy.timeout_s)
    urls = urls or [server.url + PATH]
    return fetch(urls, target, expected or Expected(), client=client, policy=policy)


def refused(server, target, expected=None, **options):
    """Return the message of a download that fails; nothing has the final name then."""
    with pytest.raises(DataError) as error:
        get(server, target, expected, **options)
    assert not target.exists()
    return str(error.value)


def test_a_healthy_server_is_asked_once(server, target, expected):
    found = get(server, target, expected)
    assert target.read_bytes() == DATA
    assert found.url == server.url + PATH and f"sha256:{found.sha256}" == expected.digest
    assert len(server.requests) == 1
    assert [file.name for file in target.parent.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_both_kinds_of_published_digests(server, target, tmp_path, algorithm):
    digest = digest_of(DATA, tmp_path, algorithm).removeprefix(algorithm)
    get(server, target, Expected(len(DATA), algorithm + digest.upper(), "the publisher"))
    assert target.read_bytes() == DATA


@pytest.mark.fault(11)
def test_a_cut_connection_goes_on_where_it_stopped(server, target, expected):
    server.faults[PATH] = [cut(100_000), cut(50_000), cut(70_000)]
    get(server, target, expected)
    assert target.read_bytes() == DATA
    assert [r.begin for r in server.requests] == [0, 100_000, 150_000, 220_000]
    assert sum(server.sent(PATH)) == len(DATA)


def test_attempts_that_bring_something_are_not_counted(server, target, expected):
    server.always[PATH] = cut(20_000)
    get(server, target, expected)
    assert len(server.requests) == 15 > QUICK.attempts


def test_a_connection_that_is_cut_at_once_each_time_is_given_up(server, target, expected, capsys):
    server.always[PATH] = cut(10)
    message = refused(server, target, expected)
    assert "cut after 30 of 300000 bytes (3 attempts)" in message
    assert target.with_name("data.bin.part").read_bytes() == DATA[:30]
    assert server.url + PATH in message
    assert "next attempt in" in capsys.readouterr().err
    assert "what has arrived so far is kept" in message


@pytest.mark.fault(11)
def test_a_server_without_ranges_starts_anew(server, target, expected):
    server.ranges = False
    server.faults[PATH] = [cut(100_000)]
    get(server, target, expected)
    assert server.sent(PATH) == [100_000, 300_000]
    assert target.read_bytes() == DATA


def test_without_version_and_digest_nothing_is_appended(server, target):
    server.etags[PATH] = ""
    server.faults[PATH] = [cut(100_000)]
    get(server, target)
    assert [r.begin for r in server.requests] == [0, 0]
    assert target.read_bytes() == DATA


def test_the_date_of_a_file_is_its_version_where_it_has_no_tag(server, target):
    date = "Sat, 21 Nov 2026 15:00:00 GMT"

    def dated(handler, data, **options):
        server.etags[PATH] = ""
        handler.version = lambda: {"Last-Modified": date}
        healthy(handler, data, **options)

    server.faults[PATH] = [lambda handler, data: dated(handler, data, send=100_000), dated]
    get(server, target)
    assert server.requests[1].headers["If-Range"] == date
    assert server.sent(PATH) == [100_000, 200_000]


@pytest.mark.parametrize("fault", [wrong_range(-10), wrong_range(500), wrong_range(0, total=9)])
def test_a_range_that_was_not_asked_for_is_not_appended(server, target, expected, fault):
    server.faults[PATH] = [cut(100_000), fault]
    get(server, target, expected)
    assert target.read_bytes() == DATA


def test_a_file_that_changes_between_two_requests_begins_anew(server, target):
    server.faults[PATH] = [cut(100_000)]

    def change(handler, data):
        server.etags[PATH], server.files[PATH] = '"2"', OTHER
        healthy(handler, OTHER)

    server.faults[PATH].append(change)
    get(server, target)
    assert target.read_bytes() == OTHER


def test_a_changed_file_behind_a_server_that_ignores_if_range(server, target):
    """The version of the answer differs: its bytes are not appended, even without a digest."""

    def changed_range(handler, data):
        server.etags[PATH], server.files[PATH] = '"2"', OTHER
        wrong_range(0)(handler, OTHER)

    server.faults[PATH] = [cut(100_000), changed_range]
    get(server, target)
    assert target.read_bytes() == OTHER


def test_pieces_of_two_files_are_told_by_the_digest_and_fetched_anew(server, target, expected):
    target.parent.mkdir()
    target.with_name("data.bin.part").write_bytes(OTHER[:1000])
    get(server, target, expected)
    assert [r.begin for r in server.requests] == [1000, 0]
    assert target.read_bytes() == DATA


def test_a_whole_part_is_not_asked_for_again(server, target, expected):
    target.parent.mkdir()
    target.with_name("data.bin.part").write_bytes(DATA)
    get(server, target, expected)
    assert server.requests == [] and target.read_bytes() == DATA


def test_a_part_that_is_too_long_begins_anew(server, target, expected):
    target.parent.mkdir()
    target.with_name("data.bin.part").write_bytes(DATA + b"more")
    get(server, target, expected)
    assert target.read_bytes() == DATA


def test_a_whole_part_of_unknown_size_ends_with_416(server, target, tmp_path):
    target.parent.mkdir()
    target.with_name("data.bin.part").write_bytes(DATA)
    get(server, target, Expected(None, digest_of(DATA, tmp_path)))
    assert [r.begin for r in server.requests] == [len(DATA)]
    assert target.read_bytes() == DATA


@pytest.mark.fault(11)
def test_wrong_content_is_refused_before_it_has_a_name(server, target, expected):
    server.always[PATH] = content(OTHER)
    message = refused(server, target, expected)
    assert re.search(r"has the sha256 [0-9a-f]{64}, expected [0-9a-f]{64}", message)
    assert len(server.requests) == 1, "the same bytes would come again"
    assert list(target.parent.iterdir()) == []


def test_the_publishers_size_is_compared_before_the_body(server, target, expected):
    server.always[PATH] = content(DATA[:1000])
    message = refused(server, target, expected)
    assert "the server offers 1000 bytes, expected 300000" in message


@pytest.mark.fault(11)
def test_a_server_that_promises_more_than_it_has(server, target):
    server.ranges = False
    server.always[PATH] = lying_length(5)
    assert "cut after 300000 of 300005 bytes (3 attempts)" in refused(server, target)


@pytest.mark.fault(11)
def test_a_server_that_promises_less_than_the_file(server, target, tmp_path):
    server.always[PATH] = lying_length(-5)
    expected = Expected(None, digest_of(DATA, tmp_path))
    assert "has the sha256" in refused(server, target, expected)


def test_no_length_at_all(server, target, expected):
    server.always[PATH] = without_length
    get(server, target, expected)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(("code", "attempts"), [(404, 1), (403, 1), (410, 1), (500, 3), (503, 3)])
@pytest.mark.fault(11)
def test_status_codes_are_named_with_the_address(server, target, expected, code, attempts):
    server.always[PATH] = status(code)
    message = refused(server, target, expected)
    assert f"{server.url + PATH}: HTTP {code}" in message
    assert len(server.requests) == attempts
    assert f"put the file into {target.parent}" in message and "is kept" not in message


@pytest.mark.fault(11)
def test_errors_of_the_server_that_pass_are_survived(server, target, expected):
    server.faults[PATH] = [status(500), status(503, **{"Retry-After": "0"})]
    get(server, target, expected)
    assert target.read_bytes() == DATA


def test_retry_after_is_honoured(server, target, expected, monkeypatch):
    pauses = []
    monkeypatch.setattr("segbench.datasets.download.transfer.time.sleep", pauses.append)
    server.faults[PATH] = [status(429, **{"Retry-After": "7"}), status(503)]
    get(server, target, expected)
    assert pauses[0] == 7 and 0 < pauses[1] < 1


def test_pauses_grow_and_are_spread():
    policy = Policy(backoff_s=1, max_pause_s=60)
    for failures, longest in ((1, 1), (2, 2), (4, 8), (12, 60)):
        pauses = {policy.pause(failures, 0) for _ in range(50)}
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest and len(pauses) > 10


def test_mirrors_are_tried_in_order_and_all_are_named(server, target, expected):
    server.files["/second/data.bin"] = DATA
    server.always[PATH] = status(404)
    first, second = server.url + PATH, server.url + "/second/data.bin"
    assert get(server, target, expected, urls=[first, second]).url == second
    assert target.read_bytes() == DATA
    target.unlink()
    server.always["/second/data.bin"] = content(OTHER)
    message = refused(server, target, expected, urls=[first, second])
    assert f"{first}: HTTP 404" in message and f"{second}: the file has the sha256" in message


def test_a_second_mirror_goes_on_with_the_bytes_of_the_first(server, target, expected):
    server.files["/second/data.bin"] = DATA
    server.faults[PATH] = [cut(100_000), status(404)]
    get(server, target, expected, urls=[server.url + PATH, server.url + "/second/data.bin"])
    assert server.sent("/second/data.bin") == [200_000]
    assert target.read_bytes() == DATA


def test_a_second_mirror_starts_anew_where_no_digest_would_tell(server, target):
    server.files["/second/data.bin"] = DATA
    server.faults[PATH] = [cut(100_000), status(404)]
    get(server, target, urls=[server.url + PATH, server.url + "/second/data.bin"])
    assert server.sent("/second/data.bin") == [300_000]


@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
@pytest.mark.fault(11)
def test_a_login_page_is_named(server, target, expected, kind):
    server.always[PATH] = page(LOGIN_PAGE, kind)
    message = refused(server, target, None if kind != "text/html" else expected)
    assert "a login page came in place of the file, titled 'Cityscapes login'\n" in message


def test_any_other_page_is_named_with_its_title(server, target):
    server.always[PATH] = page(PLAIN_PAGE)
    assert "a web page (HTML) came in place of the file, titled 'Moved house'" in refused(
        server, target
    )


def test_a_page_in_single_bytes_is_still_a_page(server, target):
    server.files[PATH] = LOGIN_PAGE
    server.always[PATH] = dribble(0.0001)
    assert "a login page" in refused(server, target)


@pytest.mark.fault(11)
def test_a_silent_server_is_left(server, target, expected):
    server.always[PATH] = silent(2)
    assert "gave no answer within 0.4 s (3 attempts)" in refused(server, target, expected)


@pytest.mark.fault(11)
def test_a_server_that_dribbles_is_left(server, target, expected):
    server.always[PATH] = dribble(0.02)
    message = refused(server, target, expected)
    assert re.search(r"stalls at \d+ bytes/s after \d+ of 300000 bytes \(3 attempts\)", message)


def test_a_server_that_dribbles_headers_is_left(server, target, expected):
    server.always[PATH] = dribbled_headers(0.05, limit_s=1.5)
    policy = Policy(attempts=1, timeout_s=0.2)
    assert "gave no answer within 0.2 s" in refused(server, target, expected, policy=policy)


@pytest.mark.fault(31)
def test_no_network_is_named(server, target, expected):
    urls = ["http://127.0.0.1:9/a", "http://nowhere.invalid/a"]
    message = refused(server, target, expected, urls=urls)
    assert message.startswith("no network: none of the servers of data.bin can be reached")
    assert "127.0.0.1 cannot be reached (Connection refused)" in message
    assert "the host name nowhere.invalid cannot be resolved" in message


def test_redirects_are_followed_to_a_limit(server, target, expected):
    server.always["/old"] = redirect(PATH)
    assert get(server, target, expected, urls=[server.url + "/old"]).url == server.url + "/old"
    server.always["/loop"] = redirect("/loop")
    target.unlink()
    message = refused(server, target, expected, urls=[server.url + "/loop"])
    assert "more than 10 redirects" in message


def test_redirects_to_other_kinds_of_addresses_are_refused(server, target, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    server.always[PATH] = redirect(f"file://{secret}")
    assert "a redirect to a 'file' address" in refused(server, target)


def test_a_proxy_of_the_environment_is_used(server, target, expected, monkeypatch):
    """The proxy is asked for the whole address; the host name need not be known here."""
    address = "http://data.invalid/data.bin"
    monkeypatch.setenv("http_proxy", server.url)
    server.files[address] = DATA
    get(server, target, expected, urls=[address])
    assert [r.path for r in server.requests] == [address]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    target.unlink()
    assert "the proxy cannot be reached" in refused(server, target, expected, urls=[address])


@pytest.mark.fault(21)
def test_room_is_asked_for_before_a_byte_is_written(server, target, expected, monkeypatch):
    few = shutil.disk_usage("/")._replace(free=(32 << 20) + 200_000)
    monkeypatch.setattr("segbench.datasets.download.disk.shutil.disk_usage", lambda path: few)
    message = refused(server, target, expected)
    assert "no room to download data.bin: it needs 300.0 kB" in message
    assert "33.8 MB are free" in message


@pytest.mark.fault(21)
def test_a_full_disk_keeps_what_came_and_the_next_run_goes_on(server, target, expected):
    target.parent.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (262_144, hard))
    try:
        message = refused(server, target, expected)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in message and "data.bin.part" in message and "free disk space" in message
    kept = target.with_name("data.bin.part").stat().st_size
    get(server, target, expected)
    assert target.read_bytes() == DATA
    assert server.requests[-1].begin == kept > 100_000


FAULTS = {
    "cut at once": cut(0), "cut": cut(700), "status": status(503), "silent range": wrong_range(3),
    "other file": wrong_range(0, total=7), "no length": without_length, "more": lying_length(9),
    "whole": lambda handler, data: healthy(_without_range(handler), data),
}  # fmt: skip


def _without_range(handler):
    del handler.headers["Range"]
    return handler


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(FAULTS)), max_size=5), st.booleans())
@pytest.mark.fault(11)
def test_whatever_happens_before_the_file_is_right_or_absent(tmp_path_factory, names, tagged):
    """Any order of faults ends in the right bytes or in a named error, never in others."""
    folder = tmp_path_factory.mktemp("sequence")
    data = DATA[:5000]
    expected = Expected(len(data), digest_of(data, folder)) if not tagged else Expected(len(data))
    with FaultServer({PATH: data}) as server:
        server.faults[PATH] = [FAULTS[name] for name in names]
        policy = Policy(attempts=4, gain_bytes=500, backoff_s=0, timeout_s=2)
        target = folder / "archives" / "data.bin"
        try:
            get(server, target, expected, policy=policy)
        except DataError as error:
            assert server.url in str(error) and not target.exists()
        else:
            assert target.read_bytes() == data
            assert [path.name for path in target.parent.iterdir()] == ["data.bin"]
