import subprocess
import sys

import pytest

from motoric.cluster.haproxy_wrapper import (
    default_to_platform,
    keep_to_loopback,
    log_failures_alone,
    script,
)


@pytest.mark.parametrize("host", ["*", "", "0.0.0.0", "[::]", "::"])
def test_every_wildcard_is_bound_on_loopback(host):
    configuration = f"listen stats\n  bind {host}:8404\n  stats enable\n"
    assert "  bind 127.0.0.1:8404\n" in keep_to_loopback(configuration)


def test_requests_that_went_well_are_not_logged():
    changed = log_failures_alone("defaults\n    log global\n    option httplog\n")
    assert changed.endswith("    option httplog\n    option dontlog-normal\n")


def test_a_named_address_stays_as_it_is():
    configuration = "    bind 127.0.0.1:8000\n    bind 10.0.0.5:9000 proto h2\n"
    assert keep_to_loopback(configuration) == configuration


def test_options_of_a_bind_line_are_kept():
    assert keep_to_loopback("    bind *:9000 proto h2\n") == "    bind 127.0.0.1:9000 proto h2\n"


def test_the_admin_socket_is_closed_to_other_users():
    line = "    stats socket /x/a mode 666 level admin expose-fd listeners\n"
    assert "mode 600 level admin" in keep_to_loopback(line)


GRPC = """\
frontend grpc_frontend
    acl is_grpc-lifts req.hdr(application) -m str lifts
    use_backend grpc-lifts if is_grpc-lifts
{platform}    # Zero apps, or multiple apps without a matching `application` header.
    default_backend default_grpc_backend
backend default_grpc_backend
"""
PLATFORM = """\
    acl is_grpc-platform req.hdr(application) -m str platform
    use_backend grpc-platform if is_grpc-platform
"""


def test_grpc_calls_that_name_no_application_go_to_the_platform():
    changed = default_to_platform(GRPC.format(platform=PLATFORM))
    assert changed == GRPC.format(platform=PLATFORM).replace(
        "    default_backend",
        "    use_backend grpc-platform if !{ req.hdr(application) -m found }\n    default_backend",
    )


def test_without_the_platform_or_grpc_nothing_changes():
    for configuration in (GRPC.format(platform=""), "listen stats\n  bind *:8404\n"):
        assert default_to_platform(configuration) == configuration


def test_the_script_becomes_the_binary_with_the_same_arguments_and_process_id(tmp_path):
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text("  bind *:8404\n")
    binary = tmp_path / "binary"
    binary.write_text('#!/bin/sh\necho "$$ $@"\n')
    binary.chmod(0o700)
    wrapper = tmp_path / "haproxy"
    wrapper.write_text(script(sys.executable, str(binary)))
    wrapper.chmod(0o700)

    arguments = ["-db", "-f", str(configuration), "-sf", "12", "34", "-x", "/x/a"]
    started = subprocess.Popen([wrapper, *arguments], stdout=subprocess.PIPE, text=True)
    output, _ = started.communicate(timeout=30)

    assert output.split() == [str(started.pid), *arguments]
    assert configuration.read_text() == "  bind 127.0.0.1:8404\n"
