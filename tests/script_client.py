"""Have script_server.py run a command line of Python's: `script_client.py SOCKET script flags`."""

import json
import os
import socket
import sys

address, *argv = sys.argv[1:]
if argv[0].startswith("-") and argv[0] != "-m":
    os.execv(sys.executable, [sys.executable, *argv])  # noqa: S606 Python itself
request = {"argv": argv, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
content = json.dumps(request).encode()
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(address)
    socket.send_fds(connection, [len(content).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(content)
    status = connection.recv(1)
# Without an answer it was killed.
sys.exit(status[0] if status else 1)
