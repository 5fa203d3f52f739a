"""Notices that another process of a run is gone, even while this process waits for it, and ends this process.

Every process has a connection to the first. The kernel of a machine closes the connections of a process that dies. It
also answers for the living ones when it is asked (TCP's keep-alive), however busy they are. So a process that validates
for an hour counts as alive, and one whose machine or network is gone is missed after `IDLE + PROBES * INTERVAL`
seconds.
"""

import atexit
import contextlib
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

IDLE, INTERVAL, PROBES = 20, 5, 4  # seconds until a silent partner is asked, between two questions, and their number
GRACE = 10.0  # seconds in which a process ends by itself after another one has failed
BYE, FAILED, DEAD = b"b", b"f", b""  # message of a process that ends; a dead process sends nothing
Address = tuple[int, bytes]


class Heartbeat:
    """Watches the other processes, of `size` in all, from a thread until all have ended in order.

    Process 0 is at `host`, and `share` gives its value to all.
    """

    def __init__(self, rank: int, size: int, host: str, share: Callable[[Address], Address]) -> None:
        self.peers: dict[socket.socket, int] = {}
        self.gone: str | None = None  # which process is gone, and how
        self.noticed, self.ending, self.left = threading.Event(), threading.Lock(), False
        if rank == 0:
            with listen() as listener:
                listener.settimeout(60)
                secret = share((listener.getsockname()[1], secrets.token_bytes(16)))[1]
                while len(self.peers) < size - 1:
                    self._accept(listener, secret)
        else:
            port, secret = share((0, b""))
            peer = socket.create_connection((host, port), timeout=60)
            peer.sendall(secret + rank.to_bytes(4, "big"))
            self.peers[peer] = 0
        for peer in self.peers:
            peer.settimeout(None)
            keep_alive(peer)
        atexit.register(self.leave)
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def _accept(self, listener: socket.socket, secret: bytes) -> None:
        """Take the next connection, if it is from a process of this run."""
        peer = listener.accept()[0]
        peer.settimeout(10)
        said = b""
        with contextlib.suppress(OSError):
            said = peer.recv(len(secret) + 4, socket.MSG_WAITALL)
        if said[:-4] == secret:
            self.peers[peer] = int.from_bytes(said[-4:], "big")
        else:
            peer.close()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer, rank in self.peers.items():
                selector.register(peer, selectors.EVENT_READ, rank)
            while selector.get_map():
                for key, _ in selector.select():
                    selector.unregister(key.fileobj)
                    word = DEAD
                    with contextlib.suppress(OSError):  # no answer, or the connection was reset
                        word = key.fileobj.recv(1)  # type: ignore[union-attr]
                    if word != BYE and not self.left:  # a process that failed ends by its own error
                        self.gone = f"process {key.data} has {'failed' if word == FAILED else 'died'}"
                        self.noticed.set()
                        if word == FAILED:  # this process may know the error already, and end by itself
                            time.sleep(GRACE)
                        self._end()

    def _end(self) -> NoReturn:
        self.ending.acquire()  # only one thread may end the process, once
        # Written past Python's buffers, whose lock the main thread may hold.
        line = f"error: {self.gone}, and so this one ends; the same command goes on from the last checkpoint\n"
        os.write(2, line.encode())
        os._exit(1)

    def explain(self, seconds: float = 5.0) -> None:
        """End this process after a failed exchange with the others, if one of them is gone by then."""
        if self.noticed.wait(seconds):
            self._end()

    def leave(self, *, failed: bool | None = None) -> None:
        """Tell the others that this process ends in order; by default an uncaught exception is a failure."""
        atexit.unregister(self.leave)
        failed = getattr(sys, "last_value", None) is not None if failed is None else failed
        self.left = True
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.sendall(FAILED if failed else BYE)


def listen() -> socket.socket:
    """A socket on a free port of all addresses."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    return socket.create_server(("", 0), backlog=4096)


def keep_alive(peer: socket.socket) -> None:
    """Make the kernel ask whether the other side lives; the intervals are set where the system allows it."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    for name, value in ((idle, IDLE), ("TCP_KEEPINTVL", INTERVAL), ("TCP_KEEPCNT", PROBES)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
