"""The plain way: python-hl7's asyncio MLLP server and one peewee insert a message. Runs in the peers' environment. Run: python plain_server.py PORT FILE"""

import asyncio
import sys

import peewee

import hl7.mllp

database = peewee.SqliteDatabase(sys.argv[2], pragmas={"journal_mode": "wal", "synchronous": 2})


class Message(peewee.Model):
    control_id = peewee.TextField()
    body = peewee.BlobField()

    class Meta:
        database = database


async def serve(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            Message.create(control_id=str(message["MSH.F10"]), body=str(message).encode())
            writer.writemessage(message.create_ack())
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def main() -> None:
    database.connect()
    database.create_tables([Message])
    server = await hl7.mllp.start_hl7_server(serve, "127.0.0.1", int(sys.argv[1]), limit=2**24)
    await server.serve_forever()


asyncio.run(main())
