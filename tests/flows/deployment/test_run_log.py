import logging

from rich.console import Console

from flows.deployment.run_log import RunLog


def test_each_line_is_logged_when_it_ends(caplog):
    with caplog.at_level(logging.INFO):
        log = RunLog(logging.getLogger("night"))
        log.write("one\n\ntwo, 100 % [bold]")
        assert caplog.messages == ["one"]
        log.write(" and more\nthree")
        assert caplog.messages == ["one", "two, 100 % [bold] and more"]


def test_a_console_writes_to_it(caplog):
    with caplog.at_level(logging.INFO):
        Console(file=RunLog(logging.getLogger("night")), width=200).print("exposure 1-0 done: 7 detections")
    assert caplog.messages == ["exposure 1-0 done: 7 detections"]
