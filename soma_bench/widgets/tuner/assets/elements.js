// Elements, figures as text, and scales: what the other parts of the tuner are built of.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Text that stays is left alone, so that the browser has nothing to lay out again.
const say = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

let lastId = 0;
const newId = () => `soma-tuner-${++lastId}`;

// Figures as text, each with its unit.

const UNKNOWN = "unknown";
const known = (value) => value !== null && value !== undefined;

const asQuality = (value) => value.toFixed(3);
const asInterval = (row) => `${asQuality(row.quality)} [${asQuality(row.low)}, ${asQuality(row.high)}]`;
const asSeconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
const asGib = (bytes) => (known(bytes) ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : UNKNOWN);
const asUsd = (value) => (known(value) ? `$${value.toFixed(2)}` : UNKNOWN);
const asLimit = (slack, value) =>
  ({ s: asSeconds, bytes: asGib, quality: asQuality, "USD per 1000": asUsd })[slack.unit](value);

// A linear scale with round ticks.

function scale(from, to, start, end) {
  const span = to - from || 1;
  const place = (value) => start + ((value - from) / span) * (end - start);
  const rough = span / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => rough <= power * factor);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let n = Math.ceil(from / step - 1e-9); n * step <= to + 1e-9; n += 1)
    ticks.push({ at: place(n * step), text: (n * step).toFixed(digits) });
  return { place, ticks };
}

// Colours differ by lightness too, and each provider has a shape of its own.
const PROVIDERS = {
  ollama: { shape: "circle", name: "Ollama" },
  mlx: { shape: "triangle", name: "MLX" },
  llamacpp: { shape: "square", name: "llama.cpp" },
  claude: { shape: "diamond", name: "Claude" },
  openai: { shape: "cross", name: "OpenAI" },
};

function outline(shape, x, y, r) {
  const by = (...points) => `M${points.map(([dx, dy]) => `${x + dx * r},${y + dy * r}`).join("L")}Z`;
  const paths = {
    circle: () => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
    triangle: () => by([0, -1.15], [1.05, 0.8], [-1.05, 0.8]),
    square: () => by([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]),
    diamond: () => by([0, -1.25], [1.1, 0], [0, 1.25], [-1.1, 0]),
    cross: () =>
      by([-1, -0.4], [-0.4, -0.4], [-0.4, -1], [0.4, -1], [0.4, -0.4], [1, -0.4], [1, 0.4], [0.4, 0.4], [0.4, 1], [-0.4, 1], [-0.4, 0.4], [-1, 0.4]),
  };
  return paths[shape]();
}
