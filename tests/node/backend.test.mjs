// A backend in small, as docs/deploy.md describes it: it finds providers by the names in a route, and
// asks servers on loopback, which keep what they were asked.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';

const asked = [];
const broken = new Set();
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (piece) => (body += piece));
  request.on('end', () => {
    const provider = request.url.slice(1);
    asked.push({ provider, ...JSON.parse(body) });
    response.statusCode = broken.has(provider) ? 500 : 200;
    response.end(JSON.stringify({ text: `said by ${provider}` }));
  });
});
let url;
let config;

before(async () => {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${server.address().port}`;
  config = await import(pathToFileURL(process.env.MODULE).href);
});
after(() => server.close());

/** What a backend's provider does, for every provider alike. */
class Provider {
  constructor(name, settings) {
    this.name = name;
    this.timeout = settings.timeout;
  }

  async complete(model, thinking, prompt) {
    const response = await fetch(`${url}/${this.name}`, {
      method: 'POST',
      body: JSON.stringify({ model, thinking, prompt }),
      signal: AbortSignal.timeout(this.timeout),
    });
    if (!response.ok) throw new Error(`${this.name}: ${response.status}`);
    return (await response.json()).text;
  }
}

async function ask(agentName, prompt) {
  const { LLMConfig, getAgentConfig, isProviderEnabled } = config;
  const providers = new Map(
    Object.entries(LLMConfig.providers)
      .filter(([name]) => isProviderEnabled(name))
      .map(([name, settings]) => [name, new Provider(name, settings)]),
  );
  const route = getAgentConfig(agentName);
  try {
    return await providers.get(route.primary).complete(route.model, route.thinking, prompt);
  } catch (error) {
    if (!LLMConfig.autoFallback || route.fallback === null) throw error;
    const { fallbackModel, fallbackThinking } = route;
    return providers.get(route.fallback).complete(fallbackModel, fallbackThinking, prompt);
  }
}

test('every agent asks the provider and the model that the profile names', async () => {
  const expected = {
    AlignmentAgent: ['ollama', 'llama3.2:3b', null],
    RadiologistAgent: ['ollama', 'llama3.2-vision:11b', null],
    PathologistAgent: ['ollama', 'qwen3:32b', 256],
    ReportWriterAgent: ['claude', 'claude-sonnet-5-5', null],
    QCReviewerAgent: ['ollama', 'llama3.2:3b', null],
  };
  for (const [agent, [provider, model, thinking]] of Object.entries(expected)) {
    assert.equal(await ask(agent, 'x'), `said by ${provider}`);
    assert.deepEqual(asked.pop(), { provider, model, thinking, prompt: 'x' }, agent);
  }
});

test('a provider that fails is followed by the fallback of the route, and by no other', async () => {
  broken.add('ollama');
  asked.length = 0;
  assert.equal(await ask('pathologist', 'x'), 'said by claude');
  assert.deepEqual(
    asked.map(({ provider, model }) => [provider, model]),
    [['ollama', 'qwen3:32b'], ['claude', 'claude-sonnet-5-5']],
  );
  await assert.rejects(ask('alignment', 'x'), /ollama: 500/);
  await assert.rejects(ask('radiologist', 'x'), /ollama: 500/);
  assert.ok(asked.slice(2).every(({ provider }) => provider === 'ollama'));
});
