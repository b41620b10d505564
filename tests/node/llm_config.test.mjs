// The exported modules as the Node backend uses them, both kinds alike. MODULE and COMMONJS name the
// exports of the shared example profile; each environment gets its own copy of the module, since it
// reads variables once.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { test as nodeTest } from 'node:test';

const REMOTE = process.env.REMOTE_MODULE;
const NAMES = [
  'LLM_PRIMARY_PROVIDER',
  'LLM_FALLBACK_PROVIDER',
  'OLLAMA_BASE_URL',
  'OLLAMA_MODEL',
  'OLLAMA_MODEL_FAST',
  'OLLAMA_MODEL_BALANCED',
  'OLLAMA_MODEL_VISION',
  'CLAUDE_MODEL',
  'OPENAI_MODEL',
  'AUTO_FALLBACK',
  'LATENCY_THRESHOLD_MS',
];
const require = createRequire(import.meta.url);
let module = process.env.MODULE;
let copies = 0;

/** Runs a test on the ES module and on the CommonJS module. */
function test(name, check) {
  for (const kind of ['MODULE', 'COMMONJS']) {
    nodeTest(`${kind}: ${name}`, () => {
      module = process.env[kind];
      return check();
    });
  }
}

async function load(environment = {}, path = module) {
  for (const name of NAMES) delete process.env[name];
  Object.assign(process.env, environment);
  if (path.endsWith('.cjs')) {
    delete require.cache[path];
    return require(path);
  }
  copies += 1;
  return import(`${pathToFileURL(path).href}?copy=${copies}`);
}

const CLAUDE = 'claude:claude-sonnet-5-5';

test('default and named export are one object with the functions as members', async () => {
  const module = await load();
  assert.equal(module.default, module.LLMConfig);
  assert.equal(module.LLMConfig.getAgentConfig, module.getAgentConfig);
  assert.equal(module.LLMConfig.isProviderEnabled, module.isProviderEnabled);
  const { getAgentConfig } = module.default;
  assert.equal(getAgentConfig('radiologist').model, 'llama3.2-vision:11b');
});

nodeTest('the CommonJS module is the configuration itself, whoever loads it', async () => {
  module = process.env.COMMONJS;
  const required = await load();
  assert.deepEqual(required.routing, required.LLMConfig.routing);
  assert.equal(required.providers, required.default.providers);
  const imported = await import(pathToFileURL(module).href);
  assert.equal(imported.LLMConfig.latencyThreshold, 30000);
  assert.equal(imported.getAgentConfig('qc_reviewer').primary, 'ollama');
  assert.equal(imported.default.providers.ollama.enabled, true);
});

test('the shape is the one the backend loads', async () => {
  const { LLMConfig } = await load();
  assert.deepEqual(LLMConfig.providers.ollama, {
    enabled: true,
    baseUrl: 'http://localhost:11434',
    model: 'qwen2.5:14b',
    models: { balanced: 'qwen2.5:14b', fast: 'llama3.2:3b', vision: 'llama3.2-vision:11b' },
    timeout: 180000,
    options: { temperature: 0, num_ctx: 4096 },
  });
  assert.deepEqual(LLMConfig.providers.claude, {
    enabled: true,
    model: 'claude-sonnet-5-5',
    timeout: 120000,
  });
  assert.equal(LLMConfig.providers.openai.enabled, false);
  assert.deepEqual(Object.keys(LLMConfig.routing).sort(), [
    'alignment',
    'pathologist',
    'qcReviewer',
    'radiologist',
    'reportWriter',
  ]);
  assert.deepEqual(LLMConfig.routing.reportWriter, {
    primary: 'claude',
    fallback: 'ollama',
    model: 'claude-sonnet-5-5',
    reason: 'measured',
    privacy: 'open',
    thinking: null,
    target: CLAUDE,
    fallbackModel: 'qwen2.5:14b',
    fallbackThinking: null,
    fallbackTarget: 'ollama:balanced',
  });
  assert.deepEqual(LLMConfig.fallback, { enabled: true, maxRetries: 1, retryDelay: 1000 });
  assert.deepEqual(LLMConfig.performance, {
    localLatencyThreshold: 30000,
    cloudLatencyThreshold: 60000,
  });
  assert.equal(LLMConfig.autoFallback, true);
  assert.equal(LLMConfig.latencyThreshold, 30000);
});

test('a primary is a provider’s name, by which a backend finds the provider', async () => {
  const { LLMConfig } = await load();
  const providers = new Map(Object.entries(LLMConfig.providers));
  for (const [agent, { primary, fallback, model }] of Object.entries(LLMConfig.routing)) {
    assert.equal(providers.get(primary).enabled, true, agent);
    if (fallback !== null) assert.equal(providers.get(fallback).enabled, true, agent);
    assert.match(model, /^[^?]+$/, agent);
  }
});

test('every spelling of every agent gives its route', async () => {
  const { getAgentConfig } = await load();
  const spellings = {
    alignment: ['alignment', 'Alignment', 'alignmentAgent', 'AlignmentAgent'],
    radiologist: ['radiologist', 'Radiologist', 'radiologistAgent', 'RadiologistAgent'],
    pathologist: ['pathologist', 'Pathologist', 'pathologistAgent', 'PathologistAgent'],
    reportWriter: [
      ...['reportWriter', 'ReportWriter', 'reportWriterAgent', 'ReportWriterAgent'],
      ...['report_writer', 'report_writer_agent'],
    ],
    qcReviewer: [
      ...['qcReviewer', 'QCReviewer', 'qcReviewerAgent', 'QCReviewerAgent'],
      ...['QcReviewer', 'QcReviewerAgent', 'qc_reviewer', 'qc_reviewer_agent'],
    ],
  };
  const targets = {
    alignment: 'ollama:fast',
    radiologist: 'ollama:vision',
    pathologist: 'ollama:qwen3:32b?thinking=256',
    reportWriter: CLAUDE,
    qcReviewer: 'ollama:fast',
  };
  for (const [agent, names] of Object.entries(spellings)) {
    for (const name of names) assert.equal(getAgentConfig(name).target, targets[agent], name);
  }
});

test('an unknown agent throws, whatever it is', async () => {
  const { getAgentConfig } = await load();
  const strangers = ['', 'surgeon', 'report-writer', 'reportwriter', '__proto__', 'constructor'];
  for (const name of [...strangers, 'toString', 'Agent', ' alignment', undefined, null, 3, {}, []]) {
    assert.throws(() => getAgentConfig(name), /unknown agent .*known: alignment, /);
  }
  assert.throws(() => getAgentConfig(['reportWriter']), /unknown agent/);
  assert.throws(() => getAgentConfig({ toString: () => 'alignment' }), /unknown agent/);
});

test('a target is given in parts, aliases resolved', async () => {
  const { getAgentConfig } = await load();
  assert.deepEqual(getAgentConfig('pathologist'), {
    primary: 'ollama',
    fallback: 'claude',
    model: 'qwen3:32b',
    reason: 'measured',
    privacy: 'deidentified',
    thinking: 256,
    target: 'ollama:qwen3:32b?thinking=256',
    fallbackModel: 'claude-sonnet-5-5',
    fallbackThinking: null,
    fallbackTarget: CLAUDE,
  });
  assert.equal(getAgentConfig('alignment').fallback, null);
  assert.equal(getAgentConfig('reportWriter').fallbackModel, 'qwen2.5:14b');
});

test('a caller cannot change the next caller’s route', async () => {
  const { getAgentConfig } = await load();
  getAgentConfig('alignment').primary = 'claude';
  assert.equal(getAgentConfig('alignment').primary, 'ollama');
});

test('isProviderEnabled knows the five providers and nothing else', async () => {
  const { isProviderEnabled } = await load();
  assert.equal(isProviderEnabled('ollama'), true);
  assert.equal(isProviderEnabled('claude'), true);
  for (const name of ['openai', 'llamacpp', 'mlx', 'constructor', '__proto__', '', undefined]) {
    assert.equal(isProviderEnabled(name), false, String(name));
  }
});

test('variables override the profile', async () => {
  const { LLMConfig, getAgentConfig } = await load({
    OLLAMA_BASE_URL: ' http://127.0.0.1:9 ',
    OLLAMA_MODEL: 'm:1',
    OLLAMA_MODEL_FAST: 'f:1',
    OLLAMA_MODEL_BALANCED: 'b:1',
    OLLAMA_MODEL_VISION: 'v:1',
    CLAUDE_MODEL: 'claude-next',
    OPENAI_MODEL: 'gpt-next',
    AUTO_FALLBACK: 'False',
    LATENCY_THRESHOLD_MS: '1500',
  });
  assert.equal(LLMConfig.providers.ollama.baseUrl, 'http://127.0.0.1:9');
  assert.equal(LLMConfig.providers.ollama.model, 'm:1');
  assert.deepEqual(LLMConfig.providers.ollama.models, { fast: 'f:1', balanced: 'b:1', vision: 'v:1' });
  assert.equal(LLMConfig.providers.openai.model, 'gpt-next');
  assert.equal(LLMConfig.autoFallback, false);
  assert.equal(LLMConfig.fallback.enabled, false);
  assert.equal(LLMConfig.latencyThreshold, 1500);
  assert.equal(LLMConfig.performance.localLatencyThreshold, 1500);
  assert.equal(getAgentConfig('alignment').model, 'f:1');
  assert.equal(getAgentConfig('radiologist').model, 'v:1');
  assert.equal(getAgentConfig('radiologist').fallbackModel, 'b:1');
  // A route that uses the default model follows it; one with a model of its own does not.
  assert.equal(getAgentConfig('reportWriter').target, 'claude:claude-next');
  assert.equal(getAgentConfig('pathologist').fallbackModel, 'claude-next');
  assert.equal(getAgentConfig('pathologist').model, 'qwen3:32b');
});

test('an empty variable is no variable', async () => {
  const { LLMConfig } = await load(Object.fromEntries(NAMES.map((name) => [name, ''])));
  assert.equal(LLMConfig.providers.ollama.baseUrl, 'http://localhost:11434');
  assert.equal(LLMConfig.autoFallback, true);
});

test('nonsense in a variable stops the import with its name', async () => {
  const nonsense = {
    LLM_PRIMARY_PROVIDER: ['clod', '__proto__'],
    LLM_FALLBACK_PROVIDER: ['none'],
    AUTO_FALLBACK: ['maybe'],
    LATENCY_THRESHOLD_MS: ['1e3', '0', '-5', '99999999', 'abc', 'Infinity'],
    OLLAMA_MODEL: ['two words', 'a?thinking=off'],
    CLAUDE_MODEL: ['a\nb'],
    OLLAMA_BASE_URL: ['localhost:11434', 'file:///etc', 'http://u:p@localhost', 'http://', 'x'],
  };
  for (const [name, values] of Object.entries(nonsense)) {
    for (const value of values) {
      await assert.rejects(load({ [name]: value }), new RegExp(`^Error: ${name}: `), value);
    }
  }
});

test('rollback sends every agent to Claude, and refuses the local_only ones', async () => {
  const { getAgentConfig, isProviderEnabled, LLMConfig } = await load({
    LLM_PRIMARY_PROVIDER: 'claude',
  });
  for (const name of ['pathologist', 'reportWriter', 'qcReviewer']) {
    assert.equal(getAgentConfig(name).primary, 'claude');
    assert.equal(getAgentConfig(name).target, CLAUDE);
  }
  for (const name of ['alignment', 'RadiologistAgent']) {
    assert.throws(() => getAgentConfig(name), /LLM_PRIMARY_PROVIDER=claude: .* is local_only/);
  }
  // Whoever reads the table past getAgentConfig keeps the private agent where it was.
  assert.equal(LLMConfig.routing.radiologist.primary, 'ollama');
  assert.equal(LLMConfig.routing.radiologist.target, 'ollama:vision');
  assert.equal(getAgentConfig('pathologist').fallback, null);
  assert.equal(getAgentConfig('reportWriter').fallbackTarget, 'ollama:balanced');
  assert.equal(isProviderEnabled('claude'), true);
});

test('rollback uses CLAUDE_MODEL', async () => {
  const environment = { LLM_PRIMARY_PROVIDER: 'claude', CLAUDE_MODEL: 'claude-next' };
  const { getAgentConfig } = await load(environment);
  assert.equal(getAgentConfig('qcReviewer').model, 'claude-next');
});

test('a primary provider that agents are on already keeps their routes', async () => {
  const { getAgentConfig } = await load({ LLM_PRIMARY_PROVIDER: 'ollama' });
  assert.equal(getAgentConfig('radiologist').target, 'ollama:vision');
  assert.equal(getAgentConfig('reportWriter').target, 'ollama:qwen2.5:14b');
  assert.equal(getAgentConfig('reportWriter').fallback, null);
});

test('a provider without a default model says so when it is used', async () => {
  const { getAgentConfig } = await load({ LLM_PRIMARY_PROVIDER: 'mlx' });
  assert.throws(() => getAgentConfig('alignment'), /no default model for mlx/);
});

test('a fallback provider never takes a local_only agent to the cloud', async () => {
  const { getAgentConfig, isProviderEnabled } = await load({ LLM_FALLBACK_PROVIDER: 'openai' });
  assert.equal(getAgentConfig('radiologist').fallbackTarget, 'ollama:balanced');
  assert.equal(getAgentConfig('alignment').fallback, null);
  assert.equal(getAgentConfig('qcReviewer').fallbackTarget, 'openai:gpt-6-luna');
  assert.equal(getAgentConfig('pathologist').fallback, 'openai');
  assert.equal(isProviderEnabled('openai'), true);
});

test('an Ollama elsewhere is refused to local_only agents', async () => {
  for (const url of ['http://10.0.0.5:11434', 'https://ollama.example', 'http://127.0.0.1.evil.example']) {
    const { getAgentConfig } = await load({ OLLAMA_BASE_URL: url });
    assert.throws(() => getAgentConfig('radiologist'), /local_only.*trusted host/, url);
    assert.equal(getAgentConfig('qcReviewer').target, 'ollama:fast');
  }
  for (const url of ['http://localhost:1', 'http://127.8.9.1', 'http://[::1]:11434']) {
    const { getAgentConfig } = await load({ OLLAMA_BASE_URL: url });
    assert.equal(getAgentConfig('radiologist').target, 'ollama:vision', url);
  }
});

test('a trusted host is local, and text survives whatever it holds', async () => {
  const { LLMConfig, getAgentConfig } = await load({}, REMOTE);
  assert.equal(LLMConfig.providers.ollama.baseUrl, 'http://studio.lan:11434');
  assert.equal(getAgentConfig('radiologist').target, 'ollama:vision');
  assert.equal(getAgentConfig('alignment').reason, process.env.REASON);
  assert.equal(LLMConfig.providers.ollama.models.fast, process.env.ODD_MODEL);
});
