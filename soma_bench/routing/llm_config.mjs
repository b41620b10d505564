/* @HEADER@ */
// Made by soma-bench; make it again rather than edit it. It holds no secret: API keys stay in the
// environment. An environment variable comes before the profile:
//   LLM_PRIMARY_PROVIDER   moves every agent to that provider's default model; an agent that is
//                          there already keeps its route. `claude` is the rollback switch: every
//                          agent goes to Claude, and getAgentConfig throws for one that is
//                          local_only. An agent that is moved loses its fallback.
//   LLM_FALLBACK_PROVIDER  the same for fallbacks; a local_only agent never gets a cloud fallback
//                          and keeps its own.
//   OLLAMA_MODEL, CLAUDE_MODEL, OPENAI_MODEL
//                          replace the provider's default model, also in routes that use it.
//   OLLAMA_MODEL_FAST, OLLAMA_MODEL_BALANCED, OLLAMA_MODEL_VISION
//                          replace the models behind ollama:fast, ollama:balanced, ollama:vision.
//   OLLAMA_BASE_URL, AUTO_FALLBACK, LATENCY_THRESHOLD_MS
// Read routes by getAgentConfig: it is where privacy is checked.

const PROFILE = /* @PROFILE@ */ null;

const PROVIDERS = ['ollama', 'claude', 'openai', 'llamacpp', 'mlx'];
const AGENTS = new Map();
for (const [agent, names] of Object.entries({
  alignment: ['alignment', 'Alignment'],
  radiologist: ['radiologist', 'Radiologist'],
  pathologist: ['pathologist', 'Pathologist'],
  reportWriter: ['reportWriter', 'ReportWriter', 'report_writer'],
  qcReviewer: ['qcReviewer', 'QCReviewer', 'QcReviewer', 'qc_reviewer'],
})) {
  for (const name of names) {
    AGENTS.set(name, agent);
    AGENTS.set(name.includes('_') ? `${name}_agent` : `${name}Agent`, agent);
  }
}

/** The variable's text, or undefined where it is not set or empty. */
function variable(name) {
  return globalThis.process?.env?.[name]?.trim() || undefined;
}

function modelVariable(name) {
  const value = variable(name);
  if (value !== undefined && !/^[^\s?#\p{Cc}]{1,260}$/u.test(value)) {
    throw new Error(`${name}: ${JSON.stringify(value)} is not a model's name`);
  }
  return value;
}

function providerVariable(name) {
  const value = variable(name);
  if (value !== undefined && !PROVIDERS.includes(value)) {
    throw new Error(
      `${name}: unknown provider ${JSON.stringify(value)}; known: ${PROVIDERS.join(', ')}`,
    );
  }
  return value;
}

function booleanVariable(name) {
  const value = variable(name)?.toLowerCase();
  if (value === undefined) return undefined;
  if (['true', '1', 'yes', 'on'].includes(value)) return true;
  if (['false', '0', 'no', 'off'].includes(value)) return false;
  throw new Error(`${name}: must be true or false, not ${JSON.stringify(value)}`);
}

function millisecondsVariable(name) {
  const value = variable(name);
  if (value === undefined) return undefined;
  if (!/^[0-9]{1,7}$/.test(value) || Number(value) < 1 || Number(value) > 3600000) {
    throw new Error(
      `${name}: must be 1 to 3600000 milliseconds, not ${JSON.stringify(value)}`,
    );
  }
  return Number(value);
}

function parseUrl(text) {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

function urlVariable(name) {
  const value = variable(name);
  if (value === undefined) return undefined;
  const url = parseUrl(value);
  const plain = url !== null && !(url.username || url.password || url.search || url.hash);
  if (!plain || !['http:', 'https:'].includes(url.protocol)) {
    throw new Error(`${name}: must be a plain http:// or https:// URL`);
  }
  return value;
}

const forcedPrimary = providerVariable('LLM_PRIMARY_PROVIDER');
const forcedFallback = providerVariable('LLM_FALLBACK_PROVIDER');
const defaultModels = {
  ollama: modelVariable('OLLAMA_MODEL') ?? PROFILE.providers.ollama.model,
  claude: modelVariable('CLAUDE_MODEL') ?? PROFILE.providers.claude.model,
  openai: modelVariable('OPENAI_MODEL') ?? PROFILE.providers.openai.model,
  llamacpp: PROFILE.providers.llamacpp.model,
  mlx: PROFILE.providers.mlx.model,
};
const baseUrl = urlVariable('OLLAMA_BASE_URL') ?? PROFILE.providers.ollama.baseUrl;
const autoFallback = booleanVariable('AUTO_FALLBACK') ?? PROFILE.autoFallback;
const latencyThreshold = millisecondsVariable('LATENCY_THRESHOLD_MS') ?? PROFILE.latencyThreshold;
const ollamaModels = { ...PROFILE.aliases.ollama };
for (const size of ['fast', 'balanced', 'vision']) {
  const model = modelVariable(`OLLAMA_MODEL_${size.toUpperCase()}`);
  if (model !== undefined) ollamaModels[size] = model;
}
const aliases = { ...PROFILE.aliases, ollama: ollamaModels };

/** A target's parts after the environment had its say; null stays null. */
function readTarget(written) {
  if (written === null) return null;
  const { provider, name, thinking } = written;
  // The target's text keeps an alias, as the profile does; its model is what the alias means.
  let text = name;
  let model = name;
  if (Object.hasOwn(aliases[provider], name)) {
    model = aliases[provider][name];
  } else if (name === PROFILE.providers[provider].model) {
    text = model = defaultModels[provider];
  }
  return describe(provider, text, model, thinking);
}

function describe(provider, text, model, thinking) {
  const query = thinking === null ? '' : `?thinking=${thinking}`;
  return { text: `${provider}:${text}${query}`, provider, model, thinking };
}

/** The provider's default model as a target; throws where there is none. */
function defaultTarget(provider, name) {
  const model = defaultModels[provider];
  if (model === null) {
    const remedy = provider === 'ollama' ? 'set OLLAMA_MODEL' : 'name one in the profile';
    throw new Error(`${name}=${provider}: there is no default model for ${provider}; ${remedy}`);
  }
  return describe(provider, model, model, null);
}

function isLocal(provider) {
  if (provider !== 'ollama') return provider === 'llamacpp' || provider === 'mlx';
  const host = parseUrl(baseUrl)?.hostname.replace(/^\[|\]$/g, '');
  return (
    host === 'localhost' ||
    host === '::1' ||
    /^127\.\d+\.\d+\.\d+$/.test(host) ||
    PROFILE.trustedHosts.includes(host)
  );
}

/** An agent's targets under the environment; throws where privacy forbids what it asks for. */
function readRoute(agent, { privacy, ...written }) {
  const stays = privacy === 'local_only';
  let primary = readTarget(written.primary);
  let fallback = readTarget(written.fallback);
  if (forcedPrimary !== undefined && primary.provider !== forcedPrimary) {
    if (stays && !isLocal(forcedPrimary)) {
      throw new Error(
        `LLM_PRIMARY_PROVIDER=${forcedPrimary}: ${agent} is local_only and may not leave this machine`,
      );
    }
    primary = defaultTarget(forcedPrimary, 'LLM_PRIMARY_PROVIDER');
    fallback = null;
  }
  if (
    forcedFallback !== undefined &&
    fallback?.provider !== forcedFallback &&
    (!stays || isLocal(forcedFallback))
  ) {
    const moved = defaultTarget(forcedFallback, 'LLM_FALLBACK_PROVIDER');
    if (moved.text !== primary.text) fallback = moved;
  }
  for (const target of [primary, fallback]) {
    if (stays && target !== null && !isLocal(target.provider)) {
      throw new Error(
        `${agent} is local_only, and ${baseUrl} is neither this machine nor a trusted host`,
      );
    }
  }
  return { primary, fallback };
}

// A route that may not be used is shown as the profile has it; getAgentConfig throws its error.
const refusals = {};
const routing = {};
for (const [agent, route] of Object.entries(PROFILE.routing)) {
  let targets;
  try {
    targets = readRoute(agent, route);
  } catch (error) {
    refusals[agent] = error.message;
    targets = { primary: readTarget(route.primary), fallback: readTarget(route.fallback) };
  }
  const { primary, fallback } = targets;
  routing[agent] = {
    primary: primary.provider,
    fallback: fallback?.provider ?? null,
    model: primary.model,
    reason: route.reason,
    privacy: route.privacy,
    thinking: primary.thinking,
    target: primary.text,
    fallbackModel: fallback?.model ?? null,
    fallbackThinking: fallback?.thinking ?? null,
    fallbackTarget: fallback?.text ?? null,
  };
}

function enabled(provider) {
  return (
    PROFILE.providers[provider].enabled ||
    provider === forcedPrimary ||
    provider === forcedFallback
  );
}

/**
 * An agent's route: the providers to ask first (`primary`) and after it (`fallback`, or null), the
 * models and thinking settings to ask them for, both as targets in one piece of text (`target`,
 * `fallbackTarget`), the privacy level and the reason.
 *
 * @param {string} agentName reportWriter, ReportWriterAgent or report_writer
 * @throws {Error} the name is unknown, or the environment asks for what the agent's privacy forbids
 */
function getAgentConfig(agentName) {
  const agent = AGENTS.get(agentName);
  if (agent === undefined) {
    const said = typeof agentName === 'string' ? JSON.stringify(agentName) : typeof agentName;
    throw new Error(`unknown agent ${said}; known: ${Object.keys(routing).join(', ')}`);
  }
  if (Object.hasOwn(refusals, agent)) throw new Error(refusals[agent]);
  return { ...routing[agent] };
}

/**
 * Whether a provider may be used; false for a name that is no provider.
 *
 * @param {string} name ollama, claude, openai, llamacpp or mlx
 */
function isProviderEnabled(name) {
  return PROVIDERS.includes(name) && LLMConfig.providers[name].enabled;
}

const LLMConfig = {
  providers: {
    ollama: {
      ...PROFILE.providers.ollama,
      enabled: enabled('ollama'),
      baseUrl,
      model: defaultModels.ollama,
      models: ollamaModels,
    },
    claude: {
      ...PROFILE.providers.claude,
      enabled: enabled('claude'),
      model: defaultModels.claude,
    },
    openai: {
      ...PROFILE.providers.openai,
      enabled: enabled('openai'),
      model: defaultModels.openai,
    },
    llamacpp: { ...PROFILE.providers.llamacpp, enabled: enabled('llamacpp') },
    mlx: { ...PROFILE.providers.mlx, enabled: enabled('mlx') },
  },
  routing,
  fallback: { enabled: autoFallback, ...PROFILE.fallback },
  performance: {
    localLatencyThreshold: latencyThreshold,
    cloudLatencyThreshold: PROFILE.cloudLatencyThreshold,
  },
  logging: { enabled: true, level: 'info', includeTimings: true },
  autoFallback,
  latencyThreshold,
  getAgentConfig,
  isProviderEnabled,
};

/* @EXPORTS@ */
