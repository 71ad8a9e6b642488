"""Other people's ASTM, labmcp-astm-lis, as a sender and as a receiver. Runs in peers/py alone: `python -I tests/astm_peer.py send|receive PORT`."""

import socket
import sys
import time

from labmcp_astm_lis.driver import E1381Receiver
from labmcp_astm_lis.simulator import ASTMAnalyzerSimulator

LONG = [
    "H|\\^&|||PEER",
    "P|1||T1||Test^Patient",
    "O|1|S1||" + "\\".join(f"^^^T{n}" for n in range(90)),
    "R|1|^^^WBC|5.4|10*3/uL|||F",
    "L|1|N",
]


def send(port: int) -> None:
    """Its two messages and a long one, a frame of each of the first two damaged; prints what it sent and heard."""
    with socket.create_connection(("127.0.0.1", port), 30) as peer:
        analyzer = ASTMAnalyzerSimulator([LONG, LONG[:1] + LONG[3:]], gap_s=0.1, corrupt=((0, 2), (1, 1)))
        analyzer.attach(peer.sendall)
        peer.settimeout(0.2)
        deadline = time.monotonic() + 30
        while not analyzer.done and time.monotonic() < deadline:
            try:
                answer = analyzer.handle_bytes(peer.recv(4096))
            except TimeoutError:
                continue
            if answer:
                peer.sendall(answer)
        print(analyzer.messages_sent, analyzer.naks_received)
        analyzer.stop()


def receive(port: int) -> None:
    """Take one connection; prints each record that it got. The receiver knows no stream, so frames are cut out for it here."""
    receiver = E1381Receiver(lambda record: print(record, flush=True), lambda whole: print(f"end {whole}", flush=True))
    with socket.create_server(("127.0.0.1", port)) as server:
        print("ready", flush=True)
        peer, _ = server.accept()
        buffer = b""
        while data := peer.recv(4096):
            buffer += data
            while buffer:
                if buffer[:1] == b"\x05":
                    reply, buffer = receiver.on_enq(), buffer[1:]
                elif buffer[:1] == b"\x04":
                    reply, buffer = receiver.on_eot(), buffer[1:]
                elif b"\r\n" in buffer:
                    frame, _, buffer = buffer.partition(b"\r\n")
                    reply = receiver.on_frame(frame + b"\r\n")
                else:
                    break
                peer.sendall(reply)


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](int(sys.argv[2]))
