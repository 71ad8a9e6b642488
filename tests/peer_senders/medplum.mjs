// Sends with @medplum/hl7: node medplum.mjs PORT MODULES; a message per line (JSON) on standard input, its reply per line (JSON) on standard output.
import { createRequire } from 'node:module';
import readline from 'node:readline';
const require = createRequire(process.argv[3] + '/');
const { Hl7Client } = require('@medplum/hl7');
const { Hl7Message } = require('@medplum/core');
const client = new Hl7Client({ host: '127.0.0.1', port: Number(process.argv[2]), keepAlive: true });
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { text, returnAck } = JSON.parse(line);
  for (let tries = 0; ; tries++) {
    try {
      const reply = await client.sendAndWait(Hl7Message.parse(text), { timeoutMs: 5000, returnAck });
      console.log(JSON.stringify(reply.toString()));
      break;
    } catch (error) {
      if (tries === 100) throw error;
      await new Promise((go) => setTimeout(go, 100));
    }
  }
}
await client.close();
