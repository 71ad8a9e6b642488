"""An analyzer of other people's making, python-hl7: it asks for samples (LAB-27) and listens for its orders (LAB-28). Runs in peers/py alone:

python -I tests/law_peer.py FEED_PORT OWN_PORT SAMPLE ...    prints each reply and each order as one line of JSON
"""

import asyncio
import json
import sys

import hl7
import hl7.client
import hl7.mllp

QUERY = (
    "MSH|^~\\&|PeerAnalyzer|Lab|WASL|HUB|20300101080000||QBP^Q11^QBP_Q11|PEER-{0}|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\r"
    "QPD|WOS^Work Order Step^IHE_LABTF|Tag-{0}|{0}\rRCP|I||R\r"
)


def ask(port: int, sample: str) -> str:
    with hl7.client.MLLPClient("127.0.0.1", port, encoding="utf-8") as client:
        return client.send_message(hl7.parse(QUERY.format(sample)))


async def main(feed: int, own: int, *samples: str) -> None:
    works: asyncio.Queue[hl7.Message] = asyncio.Queue()

    async def listen(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
        while not writer.is_closing():
            try:
                message = await reader.readmessage()
            except asyncio.IncompleteReadError:
                return
            writer.writemessage(message.create_ack())
            await writer.drain()
            works.put_nowait(message)

    async with await hl7.mllp.start_hl7_server(listen, "127.0.0.1", own, encoding="utf-8"):
        for sample in samples:
            reply = hl7.parse(await asyncio.to_thread(ask, feed, sample), encoding="utf-8")
            work = await asyncio.wait_for(works.get(), 30)
            tests = [str(row[4]) for row in work.segments("OBR")] if "OBR" in [str(row[0]) for row in work] else []
            name = str(work.segment("PID")[5]) if "PID" in [str(row[0]) for row in work] else ""
            found = {
                "type": str(reply.segment("MSH")[9]), "code": str(reply.segment("MSA")[1]), "id": str(reply.segment("MSA")[2]),
                "status": str(reply.segment("QAK")[2]), "tag": str(reply.segment("QAK")[1]), "asked": str(reply.segment("QPD")[3]),
                "sample": str(work.segment("SAC")[3]), "control": str(work.segments("ORC")[0][1]), "tests": tests, "name": name,
            }  # fmt: skip
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
