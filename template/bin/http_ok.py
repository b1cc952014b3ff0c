"""Exit with 0 if a server on this machine answers 200: `python -S bin/http_ok.py 8000 /healthz`."""

import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT = 4  # seconds


def main(port: str, path: str) -> bool:
    connection = HTTPConnection("localhost", int(port), timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (HTTPException, OSError) as error:
        print(error, file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
