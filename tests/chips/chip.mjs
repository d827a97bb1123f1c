// Runs a WebAssembly test program: node chip.mjs PROGRAM. It imports what chip.c prints and ends with.
import { readFileSync } from "node:fs";

const module = await WebAssembly.compile(readFileSync(process.argv[2]));
let memory;
const chip = {
  print(at, length) {
    process.stdout.write(Buffer.from(memory.buffer, at, length));
  },
  exit(status) {
    process.exit(status);
  },
};
const instance = await WebAssembly.instantiate(module, { chip });
memory = instance.exports.memory;
process.exitCode = instance.exports.run();
