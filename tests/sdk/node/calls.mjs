// Makes calls with the unmodified npm package @openrouter/sdk, as a backend would.
//
//     node calls.mjs SERVER_URL API_KEY
//
// Each line of the input is one call, {"name": "generate", "request": {…}, "options": {…}}; each line of the output is
// what became of it: {"value": …}, or {"error": {"name", "statusCode", "message", "code"}}.
// Of a video, the value is its length and SHA-256.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { OpenRouter } from "@openrouter/sdk";

const [serverURL, apiKey] = process.argv.slice(2);
const { videoGeneration } = new OpenRouter({ serverURL, apiKey });

async function digest(stream) {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of stream) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

async function call({ name, request, options }) {
  try {
    const value = await videoGeneration[name](request, options);
    return { value: value instanceof ReadableStream ? await digest(value) : value };
  } catch (error) {
    const { name: kind, statusCode, message } = error;
    return { error: { name: kind, statusCode, message, code: error.error?.code } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await call(JSON.parse(line))));
}
