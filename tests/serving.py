"""A server on this machine that lists its files as a bucket of Amazon S3 does."""

import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from anbn.core.downloads import Remote


class Server:
    """Misbehaves on request, and remembers what it was asked for."""

    def __init__(self, root, host):
        self.root, self.host = Path(root), host
        self.seen = []  # path, Range
        self.cut = {}  # name: bytes after which each connection breaks
        self.says = {}  # name: Content-Length
        self.lists = {}  # name: size in lists
        self.codes = {}  # name: answers before the right one
        self.headers = {}  # name: of its answers
        self.ranges, self.page = True, 1000

    def asked(self, end):
        return [wanted for path, wanted in self.seen if path.endswith(end)]

    def remote(self, name):
        """A file as the server lists it."""
        content = (self.root / name).read_bytes()
        md5 = hashlib.md5(content).hexdigest()
        size = self.lists.get(name, len(content))
        return Remote(f"{self.host}/{quote(name)}", size, f'"{md5}"', md5)

    def listed(self, bucket, asked):
        """A page of the files of a bucket."""
        folder, prefix, delimiter = self.root / bucket, asked["prefix"], "delimiter"
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*")]
        names = sorted(n for n in names if (folder / n).is_file())
        names, below = [n for n in names if n.startswith(prefix)], set()
        if delimiter in asked:
            deep = [n for n in names if "/" in n[len(prefix) :]]
            below = {prefix + n[len(prefix) :].split("/")[0] + "/" for n in deep}
            names = [n for n in names if n not in deep]
        begin = int(asked.get("continuation-token", 0))
        page, rest = names[begin : begin + self.page], names[begin + self.page :]
        body = "<?xml version='1.0' encoding='UTF-8'?>"
        body += '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        for name in page:
            remote = self.remote(f"{bucket}/{name}")
            size = self.lists.get(Path(name).name, remote.size)
            body += f"<Contents><Key>{escape(name)}</Key><Size>{size}</Size>"
            body += f"<ETag>{escape(remote.etag)}</ETag></Contents>"
        for name in sorted(below):
            body += f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
        if rest:
            token = begin + self.page
            body += f"<NextContinuationToken>{token}</NextContinuationToken>"
        return (body + "</ListBucketResult>").encode()

    def answer(self, request):
        parts = urlsplit(request.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        wanted, file = request.headers.get("Range"), self.root / path.lstrip("/")
        name, code, headers = file.name, 200, {}
        if query.get("list-type") == "2":
            body = self.listed(path.strip("/"), query)
        else:
            self.seen.append((path, wanted))
            body = file.read_bytes() if file.is_file() else b""
            code = 200 if file.is_file() else 404
            headers["ETag"] = f'"{hashlib.md5(body).hexdigest()}"'
        headers |= self.headers.get(name, {})
        if self.codes.get(name):
            code, body = self.codes[name].pop(0), b""
        same = request.headers.get("If-Range") == headers.get("ETag")
        if wanted and code == 200 and self.ranges and same:
            begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            code, body = 206, body[begin:]
        length = self.says.get(name, len(body))
        request.send_response(code)
        for key, value in (headers | {"Content-Length": length}).items():
            if value is not None:
                request.send_header(key, value)
        request.end_headers()
        part = body[: self.cut.get(name, len(body))]
        request.wfile.write(part)
        if length != len(body) or len(part) < len(body):
            request.close_connection = True


@contextmanager
def serving(root):
    """Serve a folder; those in it are buckets."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5
        wbufsize = -1  # headers and body at once

        def do_GET(self):
            server.answer(self)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # clients that hang up are no news
    server = Server(root, f"http://127.0.0.1:{http.server_port}")
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
