"""A plain file server on this machine: HEAD, whole files, exact ranges; every request is logged."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files`, bytes by path; `faults` are statuses to answer first, by method and path."""

    def __init__(self, files, faults=None):
        self.files, self.faults, self.log, self.headers = files, faults or {}, [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                path, asked = self.path.lstrip("/"), self.headers.get("Range")
                outer.log.append((self.command, path, asked))
                outer.headers.append(dict(self.headers))
                waiting = outer.faults.get((self.command, path), [])
                content = outer.files.get(path)
                status = waiting.pop(0) if waiting else 200 if content is not None else 404
                if status != 200:
                    content = b""
                elif asked:
                    first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups())
                    whole, content, status = len(content), content[first : last + 1], 206
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if status == 206:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
