#!/usr/bin/env python3
"""Sits between client and server on Unix sockets: counts, records and, if told to, holds up the bytes.

    wire_proxy.py --listen PATH --to PATH --counts FILE [--record FILE] [--stall-file FILE --stall-after N]

FILE of --counts always holds two numbers: bytes client to server, bytes server to client.
--record appends every byte of both directions as it passes. While the stall file exists, nothing
more is taken from clients once N bytes have gone to the server. Ends with SIGTERM.
"""

import argparse
import os
import selectors
import signal
import socket
import sys

READ_BYTES = 256 << 10


class Pipe:
    """One direction of one connection."""

    def __init__(self, source, sink, to_server):
        self.source, self.sink, self.to_server = source, sink, to_server
        self.pending = b""
        self.ended = False      # the source has no more
        self.closed = False     # and the sink was told


class Proxy:
    def __init__(self, options):
        self.options = options
        self.selector = selectors.DefaultSelector()
        self.counts = [0, 0]
        self.record = open(options.record, "ab", buffering=0) if options.record else None
        self.counts_fd = os.open(options.counts, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self.pipes = {}  # socket -> (pipe it feeds, pipe that feeds it)
        self.write_counts()

    def write_counts(self):
        os.pwrite(self.counts_fd, b"%20d %20d\n" % tuple(self.counts), 0)

    def stalled(self):
        return (self.options.stall_file is not None and self.counts[0] >= self.options.stall_after
                and os.path.exists(self.options.stall_file))

    def accept(self, listener):
        client, _ = listener.accept()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.options.to)
        except OSError:
            client.close()
            server.close()
            return
        for s in (client, server):
            s.setblocking(False)
        up, down = Pipe(client, server, True), Pipe(server, client, False)
        self.pipes[client] = (up, down)
        self.pipes[server] = (down, up)

    def drop(self, sock):
        out, incoming = self.pipes.get(sock, (None, None))
        if out is None:
            return
        for s in (out.source, out.sink):
            if self.pipes.pop(s, None) is not None:
                if s.fileno() >= 0 and s in self.selector.get_map():
                    self.selector.unregister(s)
                s.close()

    def interest(self):
        stalled = self.stalled()
        for sock, (out, incoming) in list(self.pipes.items()):
            events = 0
            if not out.ended and not out.pending and not (stalled and out.to_server):
                events |= selectors.EVENT_READ
            if incoming.pending:
                events |= selectors.EVENT_WRITE
            known = sock in self.selector.get_map()
            if events and not known:
                self.selector.register(sock, events)
            elif events and self.selector.get_key(sock).events != events:
                self.selector.modify(sock, events)
            elif known and not events:
                self.selector.unregister(sock)

    def flush(self, pipe):
        if pipe.pending:
            try:
                sent = pipe.sink.send(pipe.pending)
                pipe.pending = pipe.pending[sent:]
            except BlockingIOError:
                return
        if pipe.ended and not pipe.pending and not pipe.closed:
            pipe.closed = True
            pipe.sink.shutdown(socket.SHUT_WR)

    def serve(self, sock, events):
        out, incoming = self.pipes[sock]
        if events & selectors.EVENT_WRITE:
            self.flush(incoming)
        if events & selectors.EVENT_READ:
            data = sock.recv(READ_BYTES)
            if data:
                self.counts[0 if out.to_server else 1] += len(data)
                if self.record:
                    self.record.write(data)
                self.write_counts()
                out.pending = data
            else:
                out.ended = True
            self.flush(out)
        if out.closed and incoming.closed:
            self.drop(sock)

    def run(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.options.listen)
        listener.listen(64)
        self.selector.register(listener, selectors.EVENT_READ)
        while True:
            self.interest()
            for key, events in self.selector.select(0.05):
                if key.fileobj is listener:
                    self.accept(listener)
                elif key.fileobj in self.pipes:
                    try:
                        self.serve(key.fileobj, events)
                    except OSError:
                        self.drop(key.fileobj)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--listen", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--counts", required=True)
    parser.add_argument("--record")
    parser.add_argument("--stall-file")
    parser.add_argument("--stall-after", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Proxy(options).run()


if __name__ == "__main__":
    main()
