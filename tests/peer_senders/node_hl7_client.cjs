// Sends with node-hl7-client: as medplum.mjs. It has no promise of a reply, so the next message goes when the reply is there.
const { createRequire } = require('node:module');
const readline = require('node:readline');
const { Client, Message, Batch } = createRequire(process.argv[3] + '/')('node-hl7-client');
let heard;
const connection = new Client({ host: '127.0.0.1', retryLow: 50, retryHigh: 500 }).createConnection(
  { port: Number(process.argv[2]), maxConnectionAttempts: 50, waitAck: true },
  (reply) => heard && heard(reply.getMessage().toString()),
);
connection.on('client.error', () => {});
const connected = () => connection._readyState === 1 || new Promise((go) => connection.once('connect', go));
(async () => {
  await new Promise((go) => connection.once('connect', go));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { text, batch } = JSON.parse(line);
    let message;
    if (batch) {
      message = new Batch();
      message.start();
      batch.forEach((each) => message.add(new Message({ text: each })));
      message.end();
    } else message = new Message({ text });
    for (;;) {
      const reply = await new Promise((go) => {
        heard = go;
        connection.once('connect', () => go(null)); // it was broken off: nothing will come for what was sent
        connection.sendMessage(message);
      });
      if (reply !== null) {
        console.log(JSON.stringify(reply));
        break;
      }
    }
  }
  await connection.close();
})();
