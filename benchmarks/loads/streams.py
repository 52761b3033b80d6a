"""Live sessions over WebSocket: as fast as they go, or at the pace of real sensors.

    python -m loads.streams < spec.json    # in benchmarks/; prints what it measured, as JSON

Spec: {"port", "path", "headers": {}, "sessions", "seconds", "rate_hz", "length_s", "hop_s",
"message_s", "channels": [names], "windows": base64 of float32 (B, T, C), "pace": true or false}.

Without pace each session has one message on its way and sends the next when all predictions of it
have come.
With pace each sends a message every `message_s` seconds, sessions spread evenly over that time, and
a prediction is late if it comes more than `hop_s` after the message that completed its window was
due. Data are the windows one after the other, again and again.
"""

from __future__ import annotations

import base64
import json
import math
import select
import socket
import sys
import time
from typing import Any

import numpy as np
from loads.frames import BINARY, CLOSE, PING, PONG, TEXT, ChunkFrame, FrameReader, frame, handshake

_KEPT = 16  # predictions of the first session that are handed back for checking
_WARM_UP_S = 1.0
_PREDICTION = b'{"type":"prediction"'


class SessionError(Exception):
    """A session did not open, or ended too early."""


class Session:
    """One live session."""

    def __init__(self, spec: dict[str, Any], open_frame: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", spec["port"]), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host = f"127.0.0.1:{spec['port']}"
        self.socket.sendall(handshake(host, spec["path"], spec["headers"]))
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = self.socket.recv(65_536)
            answer += part
            if not part:
                break
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise SessionError(f"no WebSocket: {answer[:500].decode('latin-1')}")
        self._reader = FrameReader()
        self._unsent = b""
        self.num_sent = 0
        self.num_answered = 0
        self.sent_s = 0.0
        self.is_lost = False
        self.socket.sendall(open_frame)
        opened = list(self._reader.feed(rest))
        while not opened:
            opened = list(self._reader.feed(self.socket.recv(65_536)))
        if b'"opened"' not in opened[0][1]:
            raise SessionError(f"not opened: {opened[0][1][:500].decode('utf-8', 'replace')}")
        self.socket.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send a frame, or as much of it as the socket takes."""
        self._unsent += data
        self.flush()

    def flush(self) -> bool:
        """Send what waits; returns whether nothing is left."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def predictions(self) -> list[bytes]:
        """Predictions that have come; pings are answered.

        Raises:
            SessionError: The server closed the session.
        """
        data = self.socket.recv(262_144)
        if not data:
            raise SessionError("the server closed a connection without a word")
        found = []
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT and payload.startswith(_PREDICTION):
                found.append(payload)
            elif opcode == PING:
                self.send(frame(PONG, payload))
            elif opcode == CLOSE:
                raise SessionError(f"closed with {int.from_bytes(payload[:2], 'big')}")
            elif opcode == BINARY or b'"type":"error"' in payload[:40]:
                raise SessionError(payload[:500].decode("utf-8", "replace"))
        return found


class Load:
    """All sessions of a run."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.num_samples = round(spec["message_s"] * spec["rate_hz"])
        num_channels = len(spec["channels"])
        values_TC = np.frombuffer(base64.b64decode(spec["windows"]), "<f4")
        values_TC = values_TC.reshape(-1, self.num_samples, num_channels)
        self.chunks = [ChunkFrame(each) for each in values_TC]
        opening = {"type": "open", "rate_hz": spec["rate_hz"], "channels": spec["channels"]}
        open_frame = frame(TEXT, json.dumps(opening).encode())
        self.sessions = [Session(spec, open_frame) for _ in range(spec["sessions"])]
        self.by_number = {each.socket.fileno(): each for each in self.sessions}
        self.poller = select.epoll()
        for number in self.by_number:
            self.poller.register(number, select.EPOLLIN)
        self.kept: list[str] = []
        self.num_dropped = 0

    def send_next(self, session: Session) -> None:
        """Send a session's next message."""
        chunk = self.chunks[session.num_sent % len(self.chunks)]
        session.send(chunk.at(session.num_sent * self.num_samples))
        session.num_sent += 1
        if not session.flush():
            self.poller.modify(session.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def answers(self, timeout_s: float) -> list[tuple[Session, int]]:
        """Sessions that got predictions, and how many."""
        found = []
        for number, event in self.poller.poll(timeout_s):
            session = self.by_number[number]
            if event & select.EPOLLOUT and session.flush():
                self.poller.modify(number, select.EPOLLIN)
            if not event & ~select.EPOLLOUT:
                continue
            try:
                predictions = session.predictions()
            except (SessionError, OSError) as error:
                self.drop(number, error)
                continue
            if session is self.sessions[0] and len(self.kept) < _KEPT:
                self.kept += [each.decode() for each in predictions]
            if predictions:
                found.append((session, len(predictions)))
        return found

    def drop(self, number: int, error: Exception) -> None:
        """A session is lost."""
        self.poller.unregister(number)
        self.by_number[number].is_lost = True
        self.num_dropped += 1
        if self.num_dropped == 1:
            print(f"a session was lost: {error}", file=sys.stderr)

    def as_fast_as_it_goes(self) -> dict[str, Any]:
        """One message on its way a session."""
        num_each = round(self.spec["message_s"] / self.spec["hop_s"])  # windows of a message
        for session in self.sessions:
            session.sent_s = time.perf_counter()
            self.send_next(session)
        begin_s = time.perf_counter() + _WARM_UP_S
        end_s = begin_s + self.spec["seconds"]
        latencies_s, num_windows, used_s = [], 0, 0.0
        is_counting = False
        while (now_s := time.perf_counter()) < end_s and self.num_dropped < len(self.sessions):
            if not is_counting and now_s >= begin_s:
                is_counting, used_s = True, time.process_time()
            for session, num in self.answers(0.1):
                now_s = time.perf_counter()
                if is_counting:
                    num_windows += num
                session.num_answered += num
                if session.num_answered < session.num_sent * num_each:
                    continue
                if is_counting:
                    latencies_s.append(now_s - session.sent_s)
                session.sent_s = now_s
                self.send_next(session)
        seconds = self.spec["seconds"]
        latency_ms = np.array(latencies_s or [np.nan]) * 1e3
        return {
            "windows_per_s": num_windows / seconds,
            "p50_ms": float(np.percentile(latency_ms, 50)),
            "p99_ms": float(np.percentile(latency_ms, 99)),
            "busy": (time.process_time() - used_s) / seconds,
        }

    def at_pace(self) -> dict[str, Any]:
        """Messages at the times of real sensors."""
        spec, num_sessions = self.spec, len(self.sessions)
        num_messages = math.ceil(spec["seconds"] / spec["message_s"]) * num_sessions
        step_s = spec["message_s"] / num_sessions
        begin_s = time.perf_counter() + 0.5
        place = {id(session): index for index, session in enumerate(self.sessions)}
        wait_s: list[float] = []
        max_lag_s, num_sent, used_s = 0.0, 0, time.process_time()
        end_s = begin_s + num_messages * step_s + max(3.0, spec["hop_s"] * 3)
        num_due = self.num_windows_of(num_messages // num_sessions) * num_sessions
        while (now_s := time.perf_counter()) < end_s and len(wait_s) < num_due:
            while num_sent < num_messages and begin_s + num_sent * step_s <= now_s:
                max_lag_s = max(max_lag_s, now_s - begin_s - num_sent * step_s)
                session = self.sessions[num_sent % num_sessions]
                if not session.is_lost:
                    self.send_next(session)
                num_sent += 1
            next_s = begin_s + num_sent * step_s if num_sent < num_messages else now_s + 0.05
            for session, num in self.answers(max(0.0, min(next_s - now_s, 0.05))):
                now_s = time.perf_counter()
                for number in range(session.num_answered, session.num_answered + num):
                    message = self.message_of(number) * num_sessions + place[id(session)]
                    wait_s.append(now_s - begin_s - message * step_s)
                session.num_answered += num
        num_late = sum(each > spec["hop_s"] for each in wait_s) + num_due - len(wait_s)
        latency_ms = np.array(wait_s or [np.nan]) * 1e3
        return {
            "num_windows": num_due,
            "num_late": num_late,
            "num_missing": num_due - len(wait_s),
            "p50_ms": float(np.percentile(latency_ms, 50)),
            "p99_ms": float(np.percentile(latency_ms, 99)),
            "max_ms": float(latency_ms.max()),
            "max_lag_ms": max_lag_s * 1e3,
            "busy": (time.process_time() - used_s) / spec["seconds"],
        }

    def message_of(self, number: int) -> int:
        """The message with the last sample of a window."""
        end_s: float = self.spec["length_s"] + number * self.spec["hop_s"]
        num_messages: float = end_s / self.spec["message_s"]
        return math.ceil(round(num_messages, 6)) - 1

    def num_windows_of(self, num_messages: int) -> int:
        """How many windows so many messages complete."""
        seconds: float = num_messages * self.spec["message_s"]
        num_hops: float = (seconds - self.spec["length_s"]) / self.spec["hop_s"]
        return max(0, math.floor(num_hops + 1e-6) + 1)


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Open all sessions, send, measure."""
    load = Load(spec)
    found = load.at_pace() if spec["pace"] else load.as_fast_as_it_goes()
    return {**found, "num_dropped": load.num_dropped, "kept": load.kept}


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
