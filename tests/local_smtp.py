"""A real SMTP server on 127.0.0.1: takes mail, refuses it, or hangs, as a test wants."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread


@dataclass
class Mail:
    sender: str
    recipients: list[str]
    message: EmailMessage

    @property
    def text(self) -> str:
        """Subject and text, as a reader sees them."""
        body = self.message.get_body(("plain", "html"))
        assert body is not None
        return f"{self.message['Subject']}\n{body.get_content()}"


@dataclass
class SmtpServer:
    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    """Answer to a command (``RCPT``) in place of the usual one; ``.`` is the end of the data."""
    hangs: bool = False
    """Says nothing until the server stops."""
    stopping: Event = field(default_factory=Event)


_USUAL = {"EHLO": "250-here\r\n250 AUTH PLAIN", "DATA": "354 go on", "QUIT": "221 bye", "AUTH": "235 in"}


class _Handler(StreamRequestHandler):
    smtp: SmtpServer

    def handle(self) -> None:
        if self.smtp.hangs:
            self.smtp.stopping.wait(30)
            return
        self.sender, self.recipients = "", list[str]()
        self.say("220 here")
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            verb = verb.upper()
            self.note(verb, rest)
            self.say(self.smtp.answers.get(verb) or _USUAL.get(verb, "250 fine"))
            if verb == "QUIT":
                return
            if verb == "DATA" and "DATA" not in self.smtp.answers:
                self.take()

    def note(self, verb: str, rest: str) -> None:
        if verb == "MAIL":
            self.sender = _address(rest)
        elif verb == "RCPT":
            self.recipients.append(_address(rest))
        elif verb == "AUTH":
            self.smtp.logins.append(base64.b64decode(rest.split()[-1]).decode())

    def take(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        if "." not in self.smtp.answers:
            message = message_from_bytes(b"".join(lines), policy=policy.default)
            self.smtp.mails.append(Mail(self.sender, self.recipients, message))
        self.recipients = []
        self.say(self.smtp.answers.get(".", "250 taken"))

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


@contextmanager
def local_smtp() -> Iterator[SmtpServer]:
    """Run a server that takes every mail until told otherwise."""
    server = SmtpServer()
    with ThreadingTCPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"smtp": server})) as tcp:
        tcp.daemon_threads = True
        server.port = tcp.server_address[1]
        thread = Thread(target=tcp.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            tcp.shutdown()
            thread.join()
