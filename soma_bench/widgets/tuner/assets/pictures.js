// The pictures. Points are drawn once for a run; a move changes what is chosen of them.

const LINE = 22;

// An SVG as wide as its place, drawn again when that changes; above it what its marks mean.
function canvas(title, marks, height, draw) {
  const picture = svg("svg", { role: "img", "aria-label": title, height, width: "100%" });
  const legend = html("div", { class: "st-legend" }, ...marks.map(legendEntry));
  const node = html("figure", { class: "st-picture" }, html("figcaption", {}, title), legend, picture);
  let width = 0;
  const redraw = () => {
    if (width) picture.replaceChildren(...draw(width, height, picture));
  };
  new ResizeObserver(() => {
    const now = Math.floor(picture.getBoundingClientRect().width);
    if (now && now !== width) {
      width = now;
      redraw();
    }
  }).observe(node);
  return { node, redraw, describe: (text) => picture.setAttribute("aria-label", `${title}: ${text}`) };
}

const legendEntry = ([path, name, text]) =>
  html("span", {}, svg("svg", { viewBox: "-7 -7 14 14", width: 14, height: 14 }, svg("path", { d: path, class: name })), text);

const words = (x, y, text, attributes = {}) => svg("text", { x, y, ...attributes }, text);
const stroke = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name });

function axes(x, y, box, titles) {
  return [
    ...x.ticks.flatMap(({ at, text }) => [
      stroke(at, box.top, at, box.bottom, "st-grid"),
      words(at, box.bottom + 14, text, { "text-anchor": "middle", class: "st-tick-text" }),
    ]),
    ...y.ticks.flatMap(({ at, text }) => [
      stroke(box.left, at, box.right, at, "st-grid"),
      words(box.left - 5, at + 4, text, { "text-anchor": "end", class: "st-tick-text" }),
    ]),
    titles.x && words((box.left + box.right) / 2, box.bottom + 30, titles.x, { "text-anchor": "middle" }),
    titles.y &&
      words(0, 0, titles.y, {
        "text-anchor": "middle",
        transform: `translate(11 ${(box.top + box.bottom) / 2}) rotate(-90)`,
      }),
  ].filter(Boolean);
}

const range = (values, least = 0) => {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const pad = Math.max((high - low) * 0.06, least);
  return [low - pad, high + pad];
};

// Quality against latency of whole assignments: the front is drawn when it comes, a move changes
// the choice on it, and the axes only where that would lie outside.
function frontPicture() {
  let state = { points: [], fresh: false, answer: null, percentile: "p95" };
  let [x, y, box] = [null, null, null];
  const marks = [
    [outline("diamond", 0, 0, 5), "st-chosen", "chosen, with its 95 % interval"],
    [outline("circle", 0, 0, 3.2), "st-on-edge", "best quality for its latency"],
    [outline("circle", 0, 0, 2), "st-inside", "cheaper there"],
  ];
  const front = svg("g");
  const choice = svg("g");
  const chosen = () => {
    const { answer, percentile } = state;
    if (answer?.state !== "chosen") return null;
    const latency_s = percentile === "p50" ? answer.latency_p50_s : answer.latency_p95_s;
    return { latency_s, quality: answer.quality, low: answer.quality_low, high: answer.quality_high };
  };
  const draw = (width, height) => {
    const { points, percentile } = state;
    const all = [...points, chosen()].filter(Boolean);
    box = { left: 52, right: width - 10, top: 8, bottom: height - 40 };
    if (!all.length) {
      x = null;
      return [words(width / 2, height / 2, "nothing to draw", { "text-anchor": "middle", class: "st-quiet" })];
    }
    const [left, right] = range(all.map((point) => point.latency_s), all[0].latency_s * 0.1 + 0.01);
    x = scale(Math.max(0, left), right, box.left, box.right);
    y = scale(...range(all.flatMap(({ low, high }) => [low, high]), 0.02), box.bottom, box.top);
    const edge = points.filter((point) => point.edge);
    const path = edge.map((point) => `${x.place(point.latency_s)},${y.place(point.quality)}`).join("L");
    front.replaceChildren(
      ...edge.map((point) => stroke(x.place(point.latency_s), y.place(point.low), x.place(point.latency_s), y.place(point.high), "st-interval")),
      svg("path", { d: path && `M${path}`, class: "st-edge" }),
      ...points.map((point) =>
        svg(
          "circle",
          { cx: x.place(point.latency_s), cy: y.place(point.quality), r: point.edge ? 3.2 : 2, class: point.edge ? "st-on-edge" : "st-inside" },
          svg("title", {}, `quality ${asInterval(point)}, ${asSeconds(point.latency_s)}, ${asUsd(point.usd_per_1000)} per 1000`),
        ),
      ),
    );
    drawChoice();
    const titles = { x: `latency, ${percentile} summed along the slowest chain (s)`, y: "summed quality (0 to 5)" };
    return [...axes(x, y, box, titles), front, choice];
  };
  const isOutside = (point) =>
    !x ||
    x.place(point.latency_s) < box.left ||
    x.place(point.latency_s) > box.right ||
    y.place(point.low) > box.bottom ||
    y.place(point.high) < box.top;
  const drawChoice = () => {
    const point = chosen();
    if (!point) return choice.replaceChildren();
    const at = x.place(point.latency_s);
    return choice.replaceChildren(
      stroke(at, y.place(point.low), at, y.place(point.high), "st-chosen-interval"),
      svg("path", { d: outline("diamond", at, y.place(point.quality), 6), class: "st-chosen" }),
    );
  };
  const picture = canvas("Pareto front of whole assignments", marks, 280, draw);
  return {
    node: picture.node,
    show(next) {
      const moved = (next.points && next.points !== state.points) || (next.percentile && next.percentile !== state.percentile);
      state = { ...state, ...next };
      front.setAttribute("class", state.fresh ? "" : "st-stale");
      const point = chosen();
      if (moved || (point && isOutside(point))) picture.redraw();
      else drawChoice();
      if (point)
        picture.describe(`${state.points.length} points; the choice has quality ${asQuality(point.quality)} of 5 at ${asSeconds(point.latency_s)} (${state.percentile})`);
    },
  };
}

// Every target of every agent; a move rings the chosen ones.
function targetsPicture(sheet) {
  let state = { answer: null, percentile: "p95", excluded: {} };
  const providers = Object.keys(PROVIDERS).filter((name) =>
    sheet.agents.some((agent) => agent.targets.some((target) => target.provider === name)),
  );
  const latencyOf = (target) => (state.percentile === "p50" ? target.p50_s : target.p95_s);
  const places = []; // by agent: where a target lies, for the marks on top
  const drawPoints = (width, height) => {
    const [first, gap] = [18, 30]; // the title of the quality axis, and each panel's own ticks
    const across = (width - first) / sheet.agents.length;
    const made = [];
    sheet.agents.forEach((agent, index) => {
      const box = { left: first + index * across + gap, right: first + (index + 1) * across - 6, top: 24, bottom: height - 36 };
      const most = Math.max(...agent.targets.map(latencyOf), 0.01);
      const x = scale(0, most * 1.05, box.left, box.right);
      const y = scale(0, 1, box.bottom, box.top);
      places[index] = { x, y };
      x.ticks = x.ticks.filter((_, place) => across > 130 || place % 2 === 0);
      made.push(
        ...axes(x, y, box, { x: index === 2 ? `latency ${state.percentile} (s)` : null, y: index === 0 ? "quality (0 to 1)" : null }),
        words(box.left, box.top - 8, agent.title, { class: "st-strong" }),
        ...agent.targets.map((target) => {
          const out = (state.excluded[agent.name] ?? []).includes(target.target);
          return svg(
            "path",
            {
              d: outline(PROVIDERS[target.provider].shape, x.place(latencyOf(target)), y.place(target.quality), 3),
              class: `st-point st-${target.provider}${out ? " st-out" : ""}`,
            },
            svg("title", {}, `${target.target}: quality ${asInterval(target)}, ${asSeconds(latencyOf(target))}`),
          );
        }),
      );
    });
    return made;
  };
  const marks = svg("g");
  const drawMarks = () => {
    const { answer } = state;
    if (answer?.state !== "chosen") return marks.replaceChildren();
    const made = answer.choices.flatMap((choice, index) => {
      if (!places[index]) return [];
      const { x, y } = places[index];
      const targets = sheet.agents[index].targets;
      const ring = (target, name) =>
        svg("path", { d: outline("circle", x.place(latencyOf(target)), y.place(target.quality), 6), class: `st-ring ${name}` });
      const primary = targets[choice.primary];
      const at = x.place(latencyOf(primary));
      return [
        stroke(at, y.place(primary.low), at, y.place(primary.high), "st-chosen-interval"),
        ring(primary, ""),
        known(choice.fallback) ? ring(targets[choice.fallback], "st-fallback") : null,
      ].filter(Boolean);
    });
    return marks.replaceChildren(...made);
  };
  const named = [
    ...providers.map((name) => [outline(PROVIDERS[name].shape, 0, 0, 4), `st-point st-${name}`, PROVIDERS[name].name]),
    [outline("circle", 0, 0, 5.5), "st-ring", "primary, with its 95 % interval"],
    [outline("circle", 0, 0, 5.5), "st-ring st-fallback", "fallback"],
  ];
  const picture = canvas("Targets of each agent", named, 200, (width, height) => {
    const points = drawPoints(width, height);
    drawMarks();
    return [...points, marks];
  });
  return {
    node: picture.node,
    show(next) {
      const moved = next.percentile !== state.percentile || JSON.stringify(next.excluded) !== JSON.stringify(state.excluded);
      state = { ...state, ...next };
      if (moved) picture.redraw();
      else drawMarks();
    },
  };
}

// The stages of one analysis on a clock.
function clockPicture(sheet) {
  let state = { answer: null, limit: null };
  const height = 44 + sheet.agents.length * LINE;
  const square = outline("square", 0, 0, 5.5);
  const marks = [
    [square, "st-critical", "waited for (p50)"],
    [square, "st-beside", "beside it"],
    [square, "st-load", "loading"],
    ["M-6,0L6,0M6,-4L6,4", "st-late", "to p95"],
    ["M0,-6L0,6", "st-total", "total p50"],
    ["M0,-6L0,6", "st-total st-total-late", "total p95"],
    ["M0,-6L0,6", "st-limit", "limit"],
  ];
  const picture = canvas("One analysis on a clock", marks, height, (width) => {
    const { answer, limit } = state;
    if (answer?.state !== "chosen") return [];
    const box = { left: 88, right: width - 58, top: 4, bottom: height - 38 };
    const longest = Math.max(...answer.stages.map((stage) => stage.late_end_s), answer.latency_p95_s, 0.01);
    const shown = known(limit) && limit <= 2 * longest ? Math.max(limit, longest) : longest;
    const x = scale(0, shown * 1.02, box.left, box.right);
    const bars = answer.stages.flatMap((stage, index) => {
      const y = box.top + 4 + index * LINE;
      const from = x.place(stage.start_s + stage.load_s);
      const to = x.place(stage.end_s);
      return [
        words(box.left - 6, y + 12, sheet.agents[index].title, { "text-anchor": "end" }),
        svg("rect", { x: x.place(stage.start_s), y, width: Math.max(0, from - x.place(stage.start_s)), height: 14, class: "st-load" }),
        svg("rect", { x: from, y, width: Math.max(1, to - from), height: 14, class: stage.critical ? "st-critical" : "st-beside" }),
        stroke(to, y + 7, x.place(stage.late_end_s), y + 7, "st-late"),
        stroke(x.place(stage.late_end_s), y + 3, x.place(stage.late_end_s), y + 11, "st-late"),
        words(box.right + 6, y + 12, asSeconds(stage.end_s - stage.start_s), { class: "st-tick-text" }),
      ];
    });
    const line = (at, name) => stroke(x.place(at), box.top, x.place(at), box.bottom, name);
    const axis = axes(x, { ticks: [] }, box, { x: "time from the start of the analysis (s)" });
    return [
      ...axis,
      ...bars,
      line(answer.latency_p50_s, "st-total"),
      line(answer.latency_p95_s, "st-total st-total-late"),
      known(limit) && limit <= shown ? line(limit, "st-limit") : null,
    ].filter(Boolean);
  });
  return {
    node: picture.node,
    show(next) {
      state = { ...state, ...next };
      picture.redraw();
      if (state.answer?.state === "chosen")
        picture.describe(`p50 ${asSeconds(state.answer.latency_p50_s)}, p95 ${asSeconds(state.answer.latency_p95_s)}, ${state.answer.pipeline}`);
    },
  };
}

// What is in memory at once, against the limit or the machine's working set.
function memoryPicture(sheet) {
  let state = { answer: null, limit: null };
  const list = html("ol", { class: "st-models", "aria-label": "Models in memory" });
  const picture = canvas("Memory", [], 74, (width, height) => {
    const { answer, limit } = state;
    if (answer?.state !== "chosen") return [];
    const { parts, peak } = memoryParts(answer);
    if (!known(peak)) return [words(6, 34, "not measured for every model in use", { class: "st-quiet" })];
    const against = limit ?? sheet.working_set_bytes;
    const box = { left: 6, right: width - 14, top: 14, bottom: height - 34 };
    const x = scale(0, (Math.max(peak, against ?? 0, GIB / 64) * 1.04) / GIB, box.left, box.right);
    let start = 0;
    const bars = parts.map((part, index) => {
      const from = x.place(start / GIB);
      start += part.bytes;
      const room = x.place(start / GIB) - from;
      return svg(
        "g",
        {},
        svg("rect", { x: from, y: 18, width: Math.max(1, room - 1), height: 20, class: `${part.kind} st-model-${index % 2}` }),
        room > 14 ? words(from + room / 2, 32, index + 1, { class: "st-on-bar", "text-anchor": "middle" }) : svg("g"),
        svg("title", {}, `${part.name}: ${asGib(part.bytes)}`),
      );
    });
    const said = known(limit) ? "limit" : "75 % of the measured machine's memory";
    return [
      ...axes(x, { ticks: [] }, box, { x: "memory in use at once (GiB)" }),
      ...bars,
      known(against) ? stroke(x.place(against / GIB), 13, x.place(against / GIB), 42, "st-limit") : null,
      words(6, 10, known(against) ? `${asGib(peak)} of ${asGib(against)} (${said})` : asGib(peak)),
    ].filter(Boolean);
  });
  picture.node.append(list);
  return {
    node: picture.node,
    show(next) {
      state = { ...state, ...next };
      picture.redraw();
      const chosen = state.answer?.state === "chosen";
      const { parts, peak } = chosen ? memoryParts(state.answer) : { parts: [] };
      list.replaceChildren(...parts.map((part) => html("li", {}, `${part.name} ${asGib(part.bytes)}`)));
      if (chosen) picture.describe(asGib(peak));
    },
  };
}

function memoryParts({ memory }) {
  const parts = memory.resident.map((model) => ({ name: model.model, bytes: model.bytes ?? 0, kind: "st-model" }));
  if (memory.swapped_bytes > 0)
    parts.push({ name: `in turn: ${memory.swapped.join(", ")}`, bytes: memory.swapped_bytes, kind: "st-load" });
  return { parts, peak: memory.peak_bytes };
}
