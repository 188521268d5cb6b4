#!/usr/bin/env python3
"""A fencing hook to try the protocol of docs/failover.md with: fences by a program, and says whether that succeeded.

hack/fencing-hook.py PORT PROGRAM [ARGUMENT...]

The program ends with 0 only where the unit takes no write any more. It may be called again and again. Plain http on loopback,
without a token: put something before it that has both.
"""

import http.server
import json
import subprocess
import sys

port, command = int(sys.argv[1]), sys.argv[2:]


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        answer = {"operation": question["operation"], "fenced": done.returncode == 0, "message": done.stdout or done.stderr}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


http.server.ThreadingHTTPServer(("127.0.0.1", port), Hook).serve_forever()
