// Loads an exported configuration as the Node backend does and prints each agent's route.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const { LLMConfig } = await import(pathToFileURL(resolve(process.argv[2])).href);
for (const agent of Object.keys(LLMConfig.routing)) {
  const { target, fallbackTarget } = LLMConfig.getAgentConfig(agent);
  console.log(`${agent}: ${target}, fallback ${fallbackTarget ?? "none"}`);
}
