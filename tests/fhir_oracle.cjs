// The independent validator (npm `fhir`, the official R4 definitions): one resource a line in, its errors a line out.
// Started by tests/fhir_oracle.py with peers/js/node_modules as NODE_PATH.
const { Fhir } = require("fhir");
const fhir = new Fhir();
const lines = require("readline").createInterface({ input: process.stdin, crlfDelay: Infinity });
lines.on("line", (line) => {
  let errors;
  try {
    const result = fhir.validate(line, { errorOnUnexpected: true });
    errors = result.messages
      .filter((each) => each.severity === "error" || each.severity === "fatal")
      .map((each) => `${each.location}: ${each.message}`);
  } catch (error) {
    errors = [`the validator fell: ${error.message}`];
  }
  process.stdout.write(JSON.stringify(errors) + "\n");
});
