import subprocess
import sys

import pytest

from motoric.cluster.haproxy_wrapper import keep_to_loopback, script


@pytest.mark.parametrize("host", ["*", "", "0.0.0.0", "[::]", "::"])
def test_every_wildcard_is_bound_on_loopback(host):
    configuration = f"listen stats\n  bind {host}:8404\n  stats enable\n"
    assert "  bind 127.0.0.1:8404\n" in keep_to_loopback(configuration)


def test_a_named_address_stays_as_it_is():
    configuration = "    bind 127.0.0.1:8000\n    bind 10.0.0.5:9000 proto h2\n"
    assert keep_to_loopback(configuration) == configuration


def test_options_of_a_bind_line_are_kept():
    assert keep_to_loopback("    bind *:9000 proto h2\n") == "    bind 127.0.0.1:9000 proto h2\n"


def test_the_admin_socket_is_closed_to_other_users():
    line = "    stats socket /x/a mode 666 level admin expose-fd listeners\n"
    assert "mode 600 level admin" in keep_to_loopback(line)


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
