"""Sends with hl7lw, in peers/py alone: as medplum.mjs. `anew`: on a new connection, since its `recv` spins for ever on one that was closed."""

import json
import sys
import time

import hl7lw

client = hl7lw.MllpClient()
for line in sys.stdin:
    given = json.loads(line)
    if given.get("anew") and client.is_connected():
        client.close()
    while not client.is_connected():
        try:
            client.connect(host="127.0.0.1", port=int(sys.argv[1]))
        except hl7lw.exceptions.MllpConnectionError:
            time.sleep(0.1)
    client.send(given["text"].encode())
    print(json.dumps(client.recv().decode()), flush=True)
